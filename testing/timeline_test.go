package anchortest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

// busyDays is the timeline of more than a day in which everything happens, much of it at the same time.
func busyDays(t *testing.T) (timeline string) {
	t.Helper()
	failing := func(_ context.Context, _ pgx.Tx, p *stepParams) error {
		switch {
		case p.N%5 == 0:
			return nil
		case p.N%3 == 0:
			panic("oops")
		case p.N%2 == 0:
			return anchor.RetryAfter(7*time.Hour, errors.New("later"))
		}
		return errors.New("broken")
	}
	work := anchor.Define("work", failing, anchor.WithRetryPolicy("1m,1h,5h", 4)).
		OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *stepParams) error { return nil })
	hourly := anchor.Define("hourly", failing, anchor.WithRetryPolicy("10m", 2)).Cron("@hourly", &stepParams{N: 1})
	daily := anchor.Define("daily", succeed).Cron("0 6 * * *", &stepParams{}, anchor.WithTimeZone("Europe/Berlin"))
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		for n := range 20 {
			run(t, h, work, stepParams{N: n}, anchor.WithDelay(time.Duration(n/4)*time.Hour), anchor.WithPriority(n%3))
		}
		h.CrashNext(work)
		h.FailCommit(daily)
		h.DuplicateDelivery(daily)
		h.Advance(32 * time.Hour)
		timeline = h.Timeline()
	}, work, hourly, daily)
	return timeline
}

func TestTwoRunsPrintTheSameTimeline(t *testing.T) {
	t.Parallel()
	first := busyDays(t)
	wantText(t, first, "attempt failed: broken; due again at +1m", "panic: oops", "failure hook ran", "lost: the worker died",
		"enqueued by its schedule for 2000-01-02 06:00:00 +0100", "due again at +7h")
	for range 2 {
		if diff := cmp.Diff(first, busyDays(t)); diff != "" {
			t.Fatalf("another run (-first +another):\n%s", diff)
		}
	}
}

func TestTimelineTellsOfEveryTask(t *testing.T) {
	t.Parallel()
	var h *anchortest.Harness
	fails := anchor.Define("fails", func(context.Context, pgx.Tx, *stepParams) error { return anchor.Fatal(errors.New("broken")) })
	panics := anchor.Define("panics", func(_ context.Context, _ pgx.Tx, p *stepParams) error { return []error{}[p.N] })
	stops := anchor.Define("stops", func(ctx context.Context, _ pgx.Tx, _ *stepParams) error {
		task, _ := anchor.TaskFromContext(ctx)
		if err := h.Client.Cancel(ctx, task.ID); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
		h = harness
		failed := run(t, h, fails, stepParams{})
		run(t, h, panics, stepParams{})
		run(t, h, stops, stepParams{})
		h.Drain()
		if err := h.Client.Retry(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		if err := h.Client.Cancel(t.Context(), run(t, h, task, stepParams{})); err != nil {
			t.Fatal(err)
		}
		h.LoseLease()
		h.DrainOne()
		h.Drain()
		h.DuplicateDelivery(task)
		run(t, h, task, stepParams{})
		h.Drain()
		both := []int64{run(t, h, task, stepParams{}), run(t, h, task, stepParams{})}
		for i, id := range both {
			tx := h.Begin()
			if err := h.Client.CancelWithTx(t.Context(), tx, id); err != nil {
				t.Fatal(err)
			}
			end := tx.Rollback
			if i == 0 {
				end = tx.Commit
			}
			if err := end(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := strings.ReplaceAll(h.Timeline(), "  +0s            ", "  ")
		for _, want := range []string{
			"failed: broken\n  pending again by Retry\n  claimed, attempt 1 of 10\n  lost: the worker lost its lease\n  claimed, attempt 2 of 10\n",
			"attempt failed: panic: runtime error: index out of range [0] with length 0 at timeline_test.go:",
			"asked to end by Cancel\n  cancelled: ",
			"task 4 task\n  enqueued\n  cancelled while it was pending\n",
			"completed\n  claimed, the duplicate delivery of attempt 1\n  lost: ",
			"task 6 task\n  enqueued\n  cancelled while it was pending\ntask 7 task\n  enqueued\n",
		} {
			wantText(t, got, want)
		}
		if strings.HasSuffix(got, "task 7 task\n  enqueued\n  cancelled while it was pending\n") {
			t.Errorf("a cancelling that was rolled back is told:\n%s", got)
		}
	}, fails, panics, stops, task)
}
