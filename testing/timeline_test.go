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
		h.DuplicateDelivery(hourly)
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
