package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/anchor-go/anchor/internal/golden"
	"github.com/anchor-go/anchor/internal/testprogram"
)

// onTerminal runs the program under the pseudo-terminal of script (util-linux), which also shows stderr.
func (r *rig) onTerminal(args ...string) testprogram.Outcome {
	r.t.Helper()
	quoted := []string{"exec", testprogram.Path} // a shell between would take ctrl-C as its own
	for _, arg := range args {
		quoted = append(quoted, "'"+arg+"'")
	}
	o := testprogram.Finish(r.t, environment(r.url), "script", "-q", "-e", "-c", strings.Join(quoted, " "), "/dev/null")
	o.Stdout = strings.ReplaceAll(o.Stdout, "\r\n", "\n")
	return o
}

func TestLooksOnATerminal(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	for name, args := range looks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rig{t: t, url: r.url}
			o := r.onTerminal(args...)
			if o.Code != 0 {
				t.Fatalf("exit code %d: %s", o.Code, o.Stdout)
			}
			golden.Check(t, name+".txt", steady(o.Stdout))
			if strings.Contains(o.Stdout, "\x1b") {
				t.Error("what is stored writes a control sequence to the terminal")
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		t.Parallel()
		r := &rig{t: t, url: r.url}
		if o := r.onTerminal("workers", "--json"); !json.Valid([]byte(o.Stdout)) {
			t.Errorf("--json writes %q", o.Stdout)
		}
	})
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	for _, command := range []string{"workers", "stats --watch", "sql"} {
		o := testprogram.Finish(t, environment(r.url), "sh", "-c", testprogram.Path+" "+command+" >/dev/full")
		wantFailure(t, o, 1, "no space left on device")
	}
}

func TestFailureOnATerminal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.onTerminal("tasks", "show", "7")
	if o.Code != 5 || !regexp.MustCompile(`^anchor: task 7: no such task [^\n]*\n$`).MatchString(o.Stdout) {
		t.Errorf("exit code %d, output %q", o.Code, o.Stdout)
	}
}

func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), testprogram.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-q", "-e", "-c", "exec "+testprogram.Path+" stats --watch --interval 100ms", "/dev/null")
	cmd.Env = environment(r.url)
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader, shown := bufio.NewReader(screen), ""
	for strings.Count(shown, "\x1b[J") < 3 {
		some, err := reader.ReadString('J')
		if shown += some; err != nil {
			t.Fatalf("%v after %q", err, shown)
		}
	}
	if _, err := keys.Write([]byte{3}); err != nil { // ctrl-C
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, reader); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ctrl-C: %v", err)
	}
	looks := strings.SplitAfter(shown, "\x1b[J")
	for _, look := range looks[:3] {
		lines := strings.Split(look, "\r\n")
		if !strings.HasPrefix(look, "\x1b[H") || len(lines) < 5 || !strings.HasPrefix(lines[2], "QUEUE ") || !strings.HasSuffix(lines[2], "PAUSED SINCE\x1b[K") {
			t.Errorf("a look: %q", look)
		}
	}
}
