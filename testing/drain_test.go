package anchortest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

type stepParams struct {
	N    int               `json:"n"`
	Text string            `json:"text"`
	At   time.Time         `json:"at,omitzero"`
	Map  map[string]string `json:"map,omitempty"`
}

type handler = anchor.Handler[stepParams]

func succeed(context.Context, pgx.Tx, *stepParams) error { return nil }

func run(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams], params stepParams, opts ...anchor.RunOption) int64 {
	t.Helper()
	id, err := task.Run(t.Context(), h.Client, &params, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wantOutcomes(t *testing.T, got, want anchortest.Outcomes) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestDrainRunsWhatTasksEnqueue(t *testing.T) {
	t.Parallel()
	var h *anchortest.Harness
	var ran []int
	var chain *anchor.Task[stepParams]
	chain = anchor.Define("chain", func(ctx context.Context, tx pgx.Tx, p *stepParams) error {
		ran = append(ran, p.N)
		if p.N == 0 {
			return nil
		}
		_, err := chain.RunWithTx(ctx, h.Client, tx, &stepParams{N: p.N - 1})
		return err
	})
	anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
		h = harness
		run(t, h, chain, stepParams{N: 3})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 4})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{})
		if diff := cmp.Diff([]int{3, 2, 1, 0}, ran); diff != "" {
			t.Errorf("ran (-want +got):\n%s", diff)
		}
		anchortest.RequireCompleted(t, h, chain)
		anchortest.RequireNotEnqueued(t, h, chain)
	}, chain)
}

func TestDrainCountsEveryOutcome(t *testing.T) {
	t.Parallel()
	var h *anchortest.Harness
	broken := errors.New("broken")
	handlers := map[string]handler{
		"completed": succeed,
		"failed":    func(context.Context, pgx.Tx, *stepParams) error { return anchor.Fatal(broken) },
		"retried":   func(context.Context, pgx.Tx, *stepParams) error { return broken },
		"panicked":  func(context.Context, pgx.Tx, *stepParams) error { panic("oops") },
		"snoozed":   func(context.Context, pgx.Tx, *stepParams) error { return anchor.RetryAfter(time.Hour, nil) },
		"cancelled": func(ctx context.Context, _ pgx.Tx, _ *stepParams) error {
			task, _ := anchor.TaskFromContext(ctx)
			if err := h.Client.Cancel(ctx, task.ID); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
	tasks := map[string]*anchor.Task[stepParams]{}
	var all []anchor.AnyTask
	for name, handler := range handlers {
		tasks[name] = anchor.Define(name, handler)
		all = append(all, tasks[name])
	}
	anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
		h = harness
		for _, task := range tasks {
			run(t, h, task, stepParams{})
		}
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 1, Failed: 1, Retried: 2, Snoozed: 1, Cancelled: 1})
		anchortest.RequireFailed(t, h, tasks["failed"], broken)
	}, all...)
}

func TestDrainOneKeepsTheOrderOfClaims(t *testing.T) {
	t.Parallel()
	var ran []int
	task := anchor.Define("task", func(_ context.Context, _ pgx.Tx, p *stepParams) error {
		ran = append(ran, p.N)
		return nil
	})
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		for n, priority := range []int{5, 0, -5} {
			run(t, h, task, stepParams{N: n}, anchor.WithPriority(priority))
		}
		for want := range 3 {
			wantOutcomes(t, h.DrainOne(), anchortest.Outcomes{Completed: 1})
			if len(ran) != want+1 {
				t.Fatalf("%d tasks ran, want %d", len(ran), want+1)
			}
		}
		wantOutcomes(t, h.DrainOne(), anchortest.Outcomes{})
		if diff := cmp.Diff([]int{2, 1, 0}, ran); diff != "" {
			t.Errorf("ran (-want +got):\n%s", diff)
		}
	}, task)
}

func TestDrainWaitsForHandlersThatSleep(t *testing.T) {
	t.Parallel()
	slow := anchor.Define("slow", func(context.Context, pgx.Tx, *stepParams) error {
		time.Sleep(10 * time.Minute)
		return nil
	})
	stuck := anchor.Define("stuck", func(ctx context.Context, _ pgx.Tx, _ *stepParams) error {
		<-ctx.Done()
		return ctx.Err()
	}, anchor.WithTimeout("2m"), anchor.WithRetryPolicy("1m", 1))
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		began := time.Now()
		run(t, h, slow, stepParams{})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 1})
		run(t, h, stuck, stepParams{})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Failed: 1})
		if took := time.Since(began); took != 12*time.Minute {
			t.Errorf("took %v of virtual time, want 12m", took)
		}
		anchortest.RequireFailed(t, h, stuck, anchor.ErrTimeout)
	}, slow, stuck)
}

func TestTenRetriesOverADay(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var at []string
	task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error {
		at = append(at, time.Now().UTC().Format("15:04:05"))
		return broken
	}, anchor.WithRetryPolicy("1m,10m,1h,3h", 10)).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *stepParams) error { return nil })
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		run(t, h, task, stepParams{})
		wantOutcomes(t, h.Advance(36*time.Hour), anchortest.Outcomes{Retried: 9, Failed: 1})
		if now, want := time.Now().UTC().Format(time.DateTime), "2000-01-02 12:00:00"; now != want {
			t.Errorf("it is %s, want %s", now, want)
		}
		// Exact, as the jitter is seeded.
		want := []string{"00:00:00", "00:01:08", "00:12:03", "01:18:09", "04:33:37", "08:02:21", "11:16:20", "14:45:49", "17:58:00", "21:33:02"}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("attempts at (-want +got):\n%s", diff)
		}
		anchortest.RequireFailed(t, h, task, broken)
		anchortest.RequireHookRan(t, h, task)
	}, task)
}

func TestAdvanceToNext(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	other := anchor.Define[stepParams]("other", nil)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		began := time.Now()
		run(t, h, other, stepParams{}, anchor.WithDelay(time.Minute)) // nobody here has a handler for it
		for _, delay := range []time.Duration{3 * time.Hour, time.Hour} {
			run(t, h, task, stepParams{}, anchor.WithDelay(delay))
		}
		for _, want := range []time.Duration{time.Hour, 3 * time.Hour} {
			wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{Completed: 1})
			if got := time.Since(began); got != want {
				t.Errorf("it ran after %v, want %v", got, want)
			}
		}
		wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{})
	}, task, other)
}

func TestDrainOfAClientThatOnlyEnqueues(t *testing.T) {
	t.Parallel()
	enqueued := anchor.Define[stepParams]("enqueued", nil)
	scheduled := anchor.Define[stepParams]("scheduled", nil).Cron("@hourly", &stepParams{})
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		run(t, h, enqueued, stepParams{N: 1})
		run(t, h, enqueued, stepParams{N: 2}, anchor.WithDelay(time.Minute))
		for name, drain := range map[string]func() anchortest.Outcomes{
			"Drain": h.Drain, "DrainOne": h.DrainOne, "AdvanceToNext": h.AdvanceToNext,
			"Advance": func() anchortest.Outcomes { return h.Advance(24 * time.Hour) },
		} {
			if got := drain(); got != (anchortest.Outcomes{}) {
				t.Errorf("%s: %+v, want no attempts", name, got)
			}
		}
		if diff := cmp.Diff([]*stepParams{{N: 1}, {N: 2}}, anchortest.Enqueued(h, enqueued)); diff != "" {
			t.Errorf("enqueued (-want +got):\n%s", diff)
		}
	}, enqueued, scheduled)
}
