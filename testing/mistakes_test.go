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
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
	anchortest "github.com/anchor-go/anchor/testing"
)

// mistakes are tests that fail, by what their failure says. It is at a line of this file, but for what is told at the end.
var mistakes = map[string]func(t *testing.T){
	"1 transaction of Begin was neither committed nor rolled back": inMemory(func(t *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		for range 2 {
			ended := h.Begin()
			if err := ended.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.Begin()
	}),
	"2 transactions of Begin were neither committed nor rolled back": inMemory(func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.Begin()
		h.Begin()
	}),
	"the harness does not know task other: give it to Run": inMemory(func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.CrashNext(anchor.Define("other", succeed))
	}),
	"anchortest: the task is nil": inMemory(func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.FailCommit(nil)
	}),
	"CrashNext(task) never happened": inMemory(func(_ *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		h.CrashNext(task)
		h.Drain()
	}),
	"DuplicateDelivery(task) never happened": inMemory(func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		h.DuplicateDelivery(task)
		run(t, h, task, stepParams{})
		h.DrainOne()
	}),
	"FailCommit(task) never happened": inMemory(func(_ *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) { h.FailCommit(task) }),
	"LoseLease never happened":        inMemory(func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) { h.LoseLease() }),
	`FailStatement("inesrt into") never happened`: inMemory(func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.FailStatement("inesrt into", nil)
		h.Answer("slect") // this is no fault
	}),
	`Answer("select"): row 1 has 1 values of 2 columns`: inMemory(func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.Answer("select", anchortest.Columns("id", "name"), []any{1})
	}),
	"Run: test is nil":         func(t *testing.T) { anchortest.Run(t, nil) },
	"RunPostgres: test is nil": func(t *testing.T) { anchortest.RunPostgres(t, nil) },
}

func inMemory(test func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams])) func(t *testing.T) {
	task := anchor.Define("task", succeed)
	return func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) { test(t, h, task) }, task)
	}
}

func init() {
	scenarios["mistakes"] = func(t *testing.T) {
		for want, test := range mistakes {
			t.Run(want, test)
		}
	}
	scenarios["a failure hides others"] = inMemory(func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		h.Begin()
		h.CrashNext(task)
		t.Fatal("the real failure")
	})
	scenarios["ended in clean-up"] = inMemory(func(t *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		tx := h.Begin()
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	})
	scenarios["open transaction over a database"] = func(t *testing.T) {
		task := anchor.Define("task", succeed)
		anchortest.RunPostgres(t, func(t *testing.T, h *anchortest.Harness, _ *pgxpool.Pool) {
			if _, err := task.RunWithTx(t.Context(), h.Client, h.Begin(), &stepParams{}); err != nil {
				t.Fatal(err)
			}
			h.FailStatement("insert", nil)
		}, task)
	}
}

// failing is what the test binary prints when it runs a scenario, and whether it failed.
func failing(t *testing.T, name string, env ...string) (output string, failed bool) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestScenario$", "-test.timeout=1m")
	child.Env = append(append(os.Environ(), scenario+"="+name), env...)
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "panic:") {
		t.Errorf("it panicked:\n%s", out)
	}
	return string(out), err != nil
}

func TestMistakesAreToldAtTheirLines(t *testing.T) {
	t.Parallel()
	out, _ := failing(t, "mistakes")
	for want := range mistakes {
		told := false
		for line := range strings.Lines(out) {
			told = told || strings.Contains(line, want) &&
				(strings.Contains(line, " mistakes_test.go:") || strings.Contains(line, " finish.go:"))
		}
		if !told {
			t.Errorf("%q is not told at a line of the test", want)
		}
	}
	if t.Failed() {
		t.Logf("the output:\n%s", out)
	}
}

func TestAFailureIsNotFollowedByWhatItLeft(t *testing.T) {
	t.Parallel()
	out, _ := failing(t, "a failure hides others")
	wantText(t, out, "the real failure")
	if strings.Contains(out, "transaction of Begin") || strings.Contains(out, "never happened") {
		t.Errorf("it tells more than the failure:\n%s", out)
	}
}

func TestTransactionsMayEndInCleanUps(t *testing.T) {
	t.Parallel()
	if out, failed := failing(t, "ended in clean-up"); failed {
		t.Errorf("the test has failed:\n%s", out)
	}
}

func TestOpenTransactionOverPostgresFailsAtOnce(t *testing.T) {
	t.Parallel()
	out, _ := failing(t, "open transaction over a database", testdb.URLVariable+"="+anchortest.ServerOf(t))
	wantText(t, out, "1 transaction of Begin was neither committed nor rolled back", `FailStatement("insert"), which is for Run, never happened`)
	_, database, ok := strings.Cut(out, "is kept: ")
	if !ok {
		t.Fatalf("no URL is logged:\n%s", out)
	}
	database, _, _ = strings.Cut(database, "\n")
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	if err := testdb.Drop(t.Context(), anchortest.ServerOf(t), config.Database); err != nil {
		t.Error(err)
	}
}

func TestContextOfTheOuterTest(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	t.Run("used in the bubble", func(t *testing.T) {
		ctx := t.Context()
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			if _, err := task.Run(ctx, h.Client, &stepParams{}); err != nil {
				t.Fatal(err)
			}
			wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 1})
		}, task)
	})
}

func TestMistakesInMatches(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		run(t, h, task, stepParams{})
		for want, m := range map[string]anchortest.Match{
			"match 2 is nil":                      nil,
			`InQueue(""): no queue has that name`: anchortest.InQueue(""),
			"DueWithin(-1ns): ":                   anchortest.DueWithin(-1),
		} {
			fits := anchortest.InQueue("default")
			wantText(t, failureOf(t, func(t testing.TB) { anchortest.RequireEnqueued(t, h, task, nil, fits, m) }), want)
			wantText(t, failureOf(t, func(t testing.TB) { anchortest.RequireNotEnqueued(t, h, task, fits, m) }), want)
		}
		wantText(t, failureOf(t, func(t testing.TB) { anchortest.RequireEnqueued[stepParams](t, h, nil, nil) }), "the task is nil")
		wantText(t, failureOf(t, func(t testing.TB) {
			anchortest.RequireIdempotent[stepParams, int](t, h, task, &stepParams{}, nil)
		}), "observe is nil")
	}, task)
}

func TestMessagesOfAssertions(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		tx := h.Begin()
		if _, err := task.RunWithTx(t.Context(), h.Client, tx, &stepParams{}); err != nil {
			t.Fatal(err)
		}
		enqueued := func(t testing.TB) { anchortest.RequireEnqueued(t, h, task, nil) }
		wantText(t, failureOf(t, enqueued), "1 transaction of Begin is open")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.Drain()
		if text := failureOf(t, enqueued); strings.Contains(text, "Begin") {
			t.Errorf("a transaction is named though none is open:\n%s", text)
		}
		wantText(t, failureOf(t, func(t testing.TB) { anchortest.RequireHookRan(t, h, task) }), "the declaration of task has no failure hook")
		h.Advance(48 * time.Hour)
		wantText(t, failureOf(t, func(t testing.TB) { anchortest.RequireCompleted(t, h, task) }), "task 1 task has completed, but is no longer kept")
	}, task)
}
