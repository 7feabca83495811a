package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// runLimit is for a machine that does much else.
const runLimit = 2 * time.Minute

var program string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "taskfile")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(folder, "taskfile")
	code := 1
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// start runs the program to its end.
func start(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func succeed(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := start(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("%q: exit code %d, stderr:\n%s\nstdout:\n%s", args, code, stderr, stdout)
	}
	return stdout
}

// tasksFile is what the program exports, changed and written to a file.
func tasksFile(t *testing.T, replacements ...string) string {
	t.Helper()
	text := succeed(t, "export")
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
	if got, want := succeed(t, "check", path), path+" fits the code\n"; got != want {
		t.Errorf("check: %q, want %q", got, want)
	}
	if diff := cmp.Diff(succeed(t, "run"), succeed(t, "run", "-tasks", path), lineByLine); diff != "" {
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
	got := succeed(t, "run", "-tasks", path)
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
		stdout, stderr, code := start(t, args...)
		want := strings.Join([]string{
			"anchor: " + path + `:2:5: tasks/0/name: no task "MakeThumbnial" is registered; did you mean "MakeThumbnail"?`,
			path + `:57:11: tasks/1/parameters/properties/userId/format: is "int64", the Go type main.WelcomeParams has "int32"`,
			path + `:66:7: tasks/1/retryPolicy/interval: interval "often": entry 1 is not a duration such as "5m"`,
			path + `:68:5: tasks/1/timeot: unknown key "timeot"; did you mean "timeout"?`,
		}, "\n") + "\n"
		if diff := cmp.Diff(want, stderr); diff != "" || code != 1 || stdout != "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr (-want +got):\n%s", args[0], code, stdout, diff)
		}
	}
}

func TestCompareTellsWhatBreaksQueuedTasks(t *testing.T) {
	t.Parallel()

	if got, want := succeed(t, "compare", tasksFile(t)), "no change breaks tasks in the queue\n"; got != want {
		t.Errorf("nothing changed: %q, want %q", got, want)
	}
	stdout, stderr, code := start(t, "compare", tasksFile(t, "- welcome-back", "- welcome-again"))
	want := "SendWelcomeEmail: /properties/templateId/enum: no longer allows \"welcome-again\"\n"
	if stdout != want || stderr != "changes that break tasks in the queue: 1\n" || code != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and %q", code, stdout, stderr, want)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	t.Parallel()

	if text := succeed(t, "schema"); !json.Valid([]byte(text)) {
		t.Errorf("no JSON: %s", text)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()

	for _, args := range [][]string{nil, {"nonsense"}, {"check"}, {"check", "a", "b"}, {"export", "x"}, {"run", "x"}, {"run", "-nonsense"}} {
		if stdout, stderr, code := start(t, args...); code != 2 || stdout != "" || !strings.HasPrefix(stderr, "usage: ") {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}
