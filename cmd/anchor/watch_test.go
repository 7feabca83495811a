package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/anchor-go/anchor/internal/testprogram"
)

// watching is a stats --watch that goes on.
type watching struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr *strings.Builder
}

func watch(t *testing.T, r *rig, name string, args ...string) *watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testprogram.Limit)
	t.Cleanup(cancel)
	w := &watching{cmd: exec.CommandContext(ctx, name, args...), stderr: &strings.Builder{}}
	w.cmd.Env = environment(r.url)
	w.cmd.Stderr = w.stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewReader(out)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// interrupt sends what a terminal's ctrl-C does, and wants that this is no failure.
func (w *watching) interrupt(t *testing.T) {
	t.Helper()
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v, stderr %q", err, w.stderr)
	}
}

func TestWatchWithoutATerminal(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	w := watch(t, r, testprogram.Path, "stats", "--watch", "--interval", "100ms")
	next := func() (stats struct {
		At     time.Time
		Queues []struct {
			Queue string
			Ready int
		}
	},
	) {
		t.Helper()
		line, err := w.out.ReadString('\n')
		if err != nil {
			t.Fatalf("%v, stderr %q", err, w.stderr)
		}
		if err := json.Unmarshal([]byte(line), &stats); err != nil || len(stats.Queues) == 0 {
			t.Fatalf("line %q, error %v", line, err)
		}
		return stats
	}
	first := next()
	if first.Queues[0].Queue != "default" || first.Queues[0].Ready != 2 {
		t.Fatalf("first: %+v", first)
	}
	// What the database ends is told, and the watch goes on.
	r.exec("delete from anchor_tasks where id = 6; select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'anchor command' and datname = current_database()")
	for {
		if later := next(); later.Queues[0].Ready == 1 {
			if !later.At.After(first.At) {
				t.Errorf("times %v, then %v", first.At, later.At)
			}
			break
		}
	}
	w.interrupt(t)
}
