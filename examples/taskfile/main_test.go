package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anchor-go/anchor/internal/testprogram"
)

func TestMain(m *testing.M) { os.Exit(testprogram.Main(m, "taskfile")) }

// tasksFile is what the program exports, changed and written to a file.
func tasksFile(t *testing.T, replacements ...string) string {
	t.Helper()
	text := testprogram.Succeed(t, "export")
	changed := strings.NewReplacer(replacements...).Replace(text)
	if len(replacements) > 0 && changed == text {
		t.Fatalf("%q are not in the export:\n%s", replacements, text)
	}
	path := filepath.Join(t.TempDir(), "tasks.yaml")
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExportThenCheckThenRun(t *testing.T) {
	t.Parallel()

	path := tasksFile(t)
	if got, want := testprogram.Succeed(t, "check", path), path+" fits the code\n"; got != want {
		t.Errorf("check: %q, want %q", got, want)
	}
	if diff := cmp.Diff(testprogram.Succeed(t, "run"), testprogram.Succeed(t, "run", "-tasks", path), lineByLine); diff != "" {
		t.Errorf("the file that was exported changes the run (-without +with):\n%s", diff)
	}
}

// lineByLine makes no difference of the order in which handlers run.
var lineByLine = cmp.Transformer("lines", func(text string) map[string]int {
	lines := map[string]int{}
	for line := range strings.SplitSeq(text, "\n") {
		lines[line]++
	}
	return lines
})

func TestFileChangesTheRun(t *testing.T) {
	t.Parallel()

	path := tasksFile(t, "timeout: 30s", "timeout: 12s\n    queue: mail\n    priority: -3", "maxAttempts: 3", "maxAttempts: 5")
	got := testprogram.Succeed(t, "run", "-tasks", path)
	for _, want := range []string{
		`refused: anchor: invalid parameters of task "SendWelcomeEmail": /templateId: must be one of "welcome", "welcome-back"; /userId: is less than 1`,
		"SendWelcomeEmail 7: attempt 1 of 5, queue mail, priority -3",
		"SendWelcomeEmail 404: attempt 2 of 2, queue mail, priority -3",
		"SendWelcomeEmail 404: failed for good after attempt 2: no such user",
		"MakeThumbnail: 2 sizes",
		"task 1 SendWelcomeEmail: completed",
		"task 2 SendWelcomeEmail: failed",
		"task 3 MakeThumbnail: completed",
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("the run does not tell %q:\n%s", want, got)
		}
	}
}

func TestCheckNamesEveryMistakeAndItsPlace(t *testing.T) {
	t.Parallel()

	path := tasksFile(t, "timeout: 30s", "timeot: 30s", "interval: 5m", "interval: often", "name: MakeThumbnail", "name: MakeThumbnial", "format: int32", "format: int64")
	for _, args := range [][]string{{"check", path}, {"run", "-tasks", path}} {
		o := testprogram.Start(t, args...)
		want := strings.Join([]string{
			"anchor: " + path + `:2:5: tasks/0/name: no task "MakeThumbnial" is registered; did you mean "MakeThumbnail"?`,
			path + `:57:11: tasks/1/parameters/properties/userId/format: is "int64", the Go type main.WelcomeParams has "int32"`,
			path + `:66:7: tasks/1/retryPolicy/interval: interval "often": entry 1 is not a duration such as "5m"`,
			path + `:68:5: tasks/1/timeot: unknown key "timeot"; did you mean "timeout"?`,
		}, "\n") + "\n"
		if diff := cmp.Diff(want, o.Stderr); diff != "" || o.Code != 1 || o.Stdout != "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr (-want +got):\n%s", args[0], o.Code, o.Stdout, diff)
		}
	}
}

func TestCompareTellsWhatBreaksQueuedTasks(t *testing.T) {
	t.Parallel()

	if got, want := testprogram.Succeed(t, "compare", tasksFile(t)), "no change breaks tasks in the queue\n"; got != want {
		t.Errorf("nothing changed: %q, want %q", got, want)
	}
	o := testprogram.Start(t, "compare", tasksFile(t, "- welcome-back", "- welcome-again"))
	want := "SendWelcomeEmail: /properties/templateId/enum: no longer allows \"welcome-again\"\n"
	if o.Stdout != want || o.Stderr != "changes that break tasks in the queue: 1\n" || o.Code != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and %q", o.Code, o.Stdout, o.Stderr, want)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	t.Parallel()

	if text := testprogram.Succeed(t, "schema"); !json.Valid([]byte(text)) {
		t.Errorf("no JSON: %s", text)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()

	for _, args := range [][]string{nil, {"nonsense"}, {"check"}, {"check", "a", "b"}, {"export", "x"}, {"run", "x"}, {"run", "-nonsense"}} {
		if o := testprogram.Start(t, args...); o.Code != 2 || o.Stdout != "" || !strings.HasPrefix(o.Stderr, "usage: ") {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, o.Code, o.Stdout, o.Stderr)
		}
	}
}
