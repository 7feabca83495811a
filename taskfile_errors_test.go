package anchor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchor-go/anchor/internal/golden"
)

// TestTaskFileErrors holds what New says of each file in testdata/taskfile/errors: the file of the same name with .txt.
func TestTaskFileErrors(t *testing.T) {
	t.Parallel()

	const folder = "testdata/taskfile/errors"
	files, err := filepath.Glob(folder + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, err := New(NewMemoryStore(), WithTasks(append(kindTasks(), policyTasks()...)...), WithTaskFile(file))
			if err == nil {
				t.Fatal("the file is accepted")
			}
			text := strings.ReplaceAll(err.Error(), filepath.FromSlash(folder)+string(filepath.Separator), "")
			golden.Check(t, "taskfile/errors/"+name+".txt", text+"\n")
		})
	}
}

func TestTaskFileErrorsAreTyped(t *testing.T) {
	t.Parallel()

	path := writeTaskFile(t, "tasks:\n  - name: Nobody\n  - name: Somebody\n    timeout: x\n")
	_, err := New(NewMemoryStore(), WithTaskFile(path))
	var first *TaskFileError
	if !errors.As(err, &first) {
		t.Fatalf("error %v, want a *TaskFileError", err)
	}
	want := TaskFileError{Path: path, Line: 2, Column: 5, Pointer: "tasks/0/name", Message: `no task "Nobody" is registered`}
	if *first != want {
		t.Errorf("%+v, want %+v", *first, want)
	}
}

func TestTaskFileThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()

	folder := t.TempDir()
	large := filepath.Join(folder, "tasks.yaml")
	if err := os.WriteFile(large, append([]byte("tasks: []\n"), bytes.Repeat([]byte("#"), maxTaskFile)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path string }{
		{"missing_file", filepath.Join(folder, "missing.yaml")},
		{"folder", folder},
		{"too_large", large},
		{"no_path", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			_, err := New(NewMemoryStore(), WithTaskFile(c.path))
			if err == nil {
				t.Fatal("the file is accepted")
			}
			golden.Check(t, "taskfile/errors/"+c.name+".txt", strings.ReplaceAll(err.Error(), folder, "FOLDER")+"\n")
		})
	}
}

func TestTwoTaskFilesAreRefused(t *testing.T) {
	t.Parallel()

	path := writeTaskFile(t, "tasks: []\n")
	_, err := New(NewMemoryStore(), WithTaskFile(path), WithTaskFile(path))
	if err == nil || !strings.Contains(err.Error(), "there is a task file already") {
		t.Errorf("error %v", err)
	}
}

func TestTaskFileAndDeclarationsAreReportedTogether(t *testing.T) {
	t.Parallel()

	path := writeTaskFile(t, "tasks:\n  - name: Bad\n    timeout: 1s\n  - name: Nobody\n")
	_, err := New(NewMemoryStore(), WithTasks(Define[struct{}]("Bad", nil, WithPriority(1000))), WithTaskFile(path))
	for _, want := range []string{"priority 1000", `no task "Nobody" is registered`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestTaskFileOfFullSizeIsAccepted(t *testing.T) {
	t.Parallel()

	text := []byte("tasks: []\n")
	path := writeTaskFile(t, string(slices.Concat(text, bytes.Repeat([]byte("#"), maxTaskFile-len(text)))))
	if _, err := New(NewMemoryStore(), WithTaskFile(path)); err != nil {
		t.Error(err)
	}
}

func writeTaskFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tasks.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// FuzzTaskFile feeds New with files. Whatever it takes, it must be able to export and take again.
func FuzzTaskFile(f *testing.F) {
	for _, pattern := range []string{"testdata/taskfile/*.yaml", "testdata/taskfile/errors/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte("tasks:\n  - name: Defaults\n    cronjob: {cronExpression: '0 0 2 * * *', timeZone: Europe/Berlin}\n"))
	path := filepath.Join(f.TempDir(), "tasks.yaml")
	tasks := append(kindTasks(), policyTasks()...)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		client, err := New(NewMemoryStore(), WithTasks(tasks...), WithTaskFile(path))
		if err != nil {
			return
		}
		first := export(t, client)
		if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
			t.Fatal(err)
		}
		client, err = New(NewMemoryStore(), WithTasks(tasks...), WithTaskFile(path))
		if err != nil {
			t.Fatalf("the export of a file that was taken is refused: %v\n%s", err, first)
		}
		if second := export(t, client); second != first {
			t.Fatalf("the second export differs:\n%s\nfirst:\n%s", second, first)
		}
	})
}
