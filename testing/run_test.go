package anchortest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

// scenario names what TestScenario does in a process of its own, because it fails.
const scenario = "ANCHORTEST_SCENARIO"

func leakyGoroutine(never chan int) { <-never }

var scenarios = map[string]func(t *testing.T){
	"leak": func(t *testing.T) {
		anchortest.Run(t, func(*testing.T, *anchortest.Harness) { go leakyGoroutine(make(chan int)) })
	},
	"leak of a handler": func(t *testing.T) {
		task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error {
			go leakyGoroutine(make(chan int))
			return nil
		})
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			run(t, h, task, stepParams{})
			h.Drain()
		}, task)
	},
	"stuck test": func(t *testing.T) {
		anchortest.Run(t, func(*testing.T, *anchortest.Harness) { leakyGoroutine(make(chan int)) })
	},
	"failure": func(t *testing.T) {
		task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error { return errors.New("broken") })
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			run(t, h, task, stepParams{}, anchor.WithDelay(time.Minute), anchor.WithRetryPolicy("1h", 2))
			h.Advance(time.Minute)
			t.FailNow()
		}, task)
	},
	"bad task": func(t *testing.T) {
		anchortest.Run(t, func(*testing.T, *anchortest.Harness) {}, anchor.Define("bad name", succeed))
	},
	"endless": func(t *testing.T) {
		var h *anchortest.Harness
		var task *anchor.Task[stepParams]
		task = anchor.Define("task", func(ctx context.Context, _ pgx.Tx, p *stepParams) error {
			_, err := task.Run(ctx, h.Client, p)
			return err
		})
		anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
			h = harness
			h.LimitDrain(500)
			run(t, h, task, stepParams{})
			h.Drain()
		}, task)
	},
	"endless trouble": func(t *testing.T) {
		task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error {
			return anchor.Fatal(errors.New("broken"))
		}).OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, p *stepParams) error {
			_, err := tx.Exec(ctx, insertMail, p.N)
			return err
		})
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.FailStatement(insertMail, &pgconn.PgError{Code: "53100", Message: "no space left"})
			run(t, h, task, stepParams{})
			h.Drain()
		}, task)
	},
	"unknown task": func(t *testing.T) {
		task, other := anchor.Define("task", succeed), anchor.Define("other", succeed)
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.CrashNext(other)
			anchortest.RequireNotEnqueued(t, h, other)
			t.Log("went on")
		}, task)
	},
	"drain in a handler": func(t *testing.T) {
		var h *anchortest.Harness
		task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error {
			h.Drain()
			return nil
		})
		anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
			h = harness
			run(t, h, task, stepParams{})
			h.Drain()
		}, task)
	},
}

// TestScenario fails on purpose where it is asked to.
func TestScenario(t *testing.T) {
	if run := scenarios[os.Getenv(scenario)]; run != nil {
		run(t)
	}
}

func TestFailuresTellWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"leak":               {"these goroutines are left", "leakyGoroutine", "run_test.go", "--- FAIL: TestScenario"},
		"leak of a handler":  {"these goroutines are left", "leakyGoroutine", "--- FAIL: TestScenario"},
		"stuck test":         {"these goroutines are left", "leakyGoroutine"},
		"failure":            {"task 1 task", "+0s            enqueued, due at +1m0s", "+1m0s          attempt failed: broken; due again at +1h"},
		"bad task":           {`name "bad name" holds a space`},
		"endless":            {"500 attempts and no end", " earlier events are left out)"},
		"endless trouble":    {"the failure hook of task was called 20 times", "no space left"},
		"unknown task":       {"the harness does not know task other: give it to Run"},
		"drain in a handler": {"a handler cannot run others"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestScenario$")
			child.Env = append(os.Environ(), scenario+"="+name, "GORACE=atexit_sleep_ms=0")
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("the test ended with %v, want exit code 1", err)
			}
			wantText(t, string(out), want...)
			if strings.Contains(string(out), "panic:") {
				t.Errorf("it panicked:\n%s", out)
			}
		})
	}
}
