// Package testprogram builds the program in a test's folder and runs it as its users do.
package testprogram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Limit is how long a run may take on a machine that does much else.
const Limit = 2 * time.Minute

// Path is the program, once Main has built it.
var Path string

// Main is a TestMain that builds the program under this name first. Call os.Exit with what it answers.
func Main(m *testing.M, name string) int {
	folder, err := os.MkdirTemp("", name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	Path = filepath.Join(folder, name)
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", Path, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Outcome is what a process did.
type Outcome struct {
	Stdout, Stderr string
	Code           int
}

// Start runs the program to its end, with pipes for its output.
func Start(t *testing.T, args ...string) Outcome {
	t.Helper()
	return Finish(t, nil, Path, args...)
}

// Finish runs any program to its end. A nil environment is this process's.
func Finish(t *testing.T, environment []string, program string, args ...string) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Limit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = environment
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Succeed wants that the program ends well and says nothing on stderr, and answers its output.
func Succeed(t *testing.T, args ...string) string {
	t.Helper()
	o := Start(t, args...)
	if o.Code != 0 || o.Stderr != "" {
		t.Fatalf("%q: exit code %d, stderr:\n%s\nstdout:\n%s", args, o.Code, o.Stderr, o.Stdout)
	}
	return o.Stdout
}
