package anchortest_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

func TestAYearOfADailySchedule(t *testing.T) {
	t.Parallel()
	var ticks []time.Time
	report := anchor.Define("report", func(ctx context.Context, _ pgx.Tx, _ *stepParams) error {
		info, _ := anchor.TaskFromContext(ctx)
		if now := time.Now(); !info.ScheduledFor.Equal(now) {
			t.Errorf("the tick of %v ran at %v", info.ScheduledFor, now)
		}
		ticks = append(ticks, info.ScheduledFor)
		return nil
	}).Cron("30 6 * * *", &stepParams{}, anchor.WithTimeZone("Europe/Berlin"))
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		wantOutcomes(t, h.Advance(366*24*time.Hour), anchortest.Outcomes{Completed: 366})
		hours := map[int]int{}
		for i, tick := range ticks {
			hours[tick.UTC().Hour()]++
			if i > 0 && !tick.After(ticks[i-1]) {
				t.Errorf("tick %v comes after %v", tick, ticks[i-1])
			}
		}
		// Half past six is 5:30 UTC in winter and 4:30 UTC from March 26 to October 29 of 2000.
		if diff := cmp.Diff(map[int]int{4: 217, 5: 149}, hours); diff != "" {
			t.Errorf("hours in UTC (-want +got):\n%s", diff)
		}
	}, report)
}

func TestAdvanceToNextTick(t *testing.T) {
	t.Parallel()
	hourly := anchor.Define("hourly", succeed).Cron("@hourly", &stepParams{})
	single := anchor.Define("single", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		began := time.Now()
		run(t, h, single, stepParams{}, anchor.WithDelay(90*time.Minute))
		for _, want := range []time.Duration{time.Hour, 90 * time.Minute, 2 * time.Hour, 3 * time.Hour} {
			wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{Completed: 1})
			if got := time.Since(began); got != want {
				t.Errorf("something ran after %v, want %v", got, want)
			}
		}
		if err := h.Client.PauseCron(t.Context(), "hourly"); err != nil {
			t.Fatal(err)
		}
		wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{})
	}, hourly, single)
}

func TestScheduleMadeAtRunTime(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		if err := task.Schedule(t.Context(), h.Client, "late", "0 12 * * *", &stepParams{N: 5}); err != nil {
			t.Fatal(err)
		}
		wantOutcomes(t, h.Advance(12*time.Hour-time.Second), anchortest.Outcomes{})
		wantOutcomes(t, h.Advance(time.Second), anchortest.Outcomes{Completed: 1})
		wantText(t, h.Timeline(), "enqueued by its schedule for 2000-01-01 12:00:00 UTC")
	}, task)
}
