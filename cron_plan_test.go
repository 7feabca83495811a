package anchor

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlanTicks(t *testing.T) {
	t.Parallel()
	const long = "2025-01-01T00:00:00Z" // a worker that was there all the time
	for name, test := range map[string]struct {
		expression, zone  string
		due, now, watched string
		rule              CatchUp
		ticks             []string
		next              string
		skipped           int64
		missed            bool
	}{
		"on time": {
			expression: "* * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:00:00.004Z", watched: long,
			ticks: []string{"2025-06-01T12:00:00Z"}, next: "2025-06-01T12:01:00Z",
		},
		"in the very second of the next one": {
			expression: "* * * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:00:01Z", watched: long,
			ticks: []string{"2025-06-01T12:00:00Z", "2025-06-01T12:00:01Z"}, next: "2025-06-01T12:00:02Z",
		},
		"held up, without catching up": {
			expression: "* * * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:00:03.5Z", watched: long, rule: CatchUpNone,
			ticks: []string{"2025-06-01T12:00:00Z", "2025-06-01T12:00:01Z", "2025-06-01T12:00:02Z", "2025-06-01T12:00:03Z"},
			next:  "2025-06-01T12:00:04Z",
		},
		"late by a minute": {
			expression: "*/5 * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:01:00Z", watched: long, rule: CatchUpNone,
			ticks: []string{"2025-06-01T12:00:00Z"}, next: "2025-06-01T12:05:00Z",
		},
		"late by more than a minute, none": {
			expression: "*/5 * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:01:00.1Z", watched: long, rule: CatchUpNone,
			next: "2025-06-01T12:05:00Z", skipped: 1, missed: true,
		},
		"late by more than a minute, one": {
			expression: "*/5 * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:01:00.1Z", watched: long, rule: CatchUpOne,
			ticks: []string{"2025-06-01T12:00:00Z"}, next: "2025-06-01T12:05:00Z", missed: true,
		},
		"found by a worker that has just started": {
			expression: "*/5 * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:00:03Z", watched: "2025-06-01T12:00:02Z", rule: CatchUpNone,
			ticks: []string{"2025-06-01T12:00:00Z"}, next: "2025-06-01T12:05:00Z",
		},
		"found too late by a worker that has just started": {
			expression: "*/5 * * * *", due: "2025-06-01T12:00:00Z", now: "2025-06-01T12:00:03.1Z", watched: "2025-06-01T12:00:02Z", rule: CatchUpNone,
			next: "2025-06-01T12:05:00Z", skipped: 1, missed: true,
		},
		"a night, one": {
			expression: "0 * * * *", due: "2025-06-01T20:00:00Z", now: "2025-06-02T06:30:00Z", watched: "2025-06-02T06:30:00Z", rule: CatchUpOne,
			ticks: []string{"2025-06-02T06:00:00Z"}, next: "2025-06-02T07:00:00Z", skipped: 10, missed: true,
		},
		"a night, all": {
			expression: "0 */3 * * *", due: "2025-06-01T21:00:00Z", now: "2025-06-02T06:30:00Z", watched: "2025-06-02T06:30:00Z", rule: CatchUpAll,
			ticks: []string{"2025-06-01T21:00:00Z", "2025-06-02T00:00:00Z", "2025-06-02T03:00:00Z", "2025-06-02T06:00:00Z"},
			next:  "2025-06-02T09:00:00Z", missed: true,
		},
		"an unknown rule is as one": {
			expression: "0 * * * *", due: "2025-06-01T20:00:00Z", now: "2025-06-02T06:30:00Z", watched: long, rule: "whatever",
			ticks: []string{"2025-06-02T06:00:00Z"}, next: "2025-06-02T07:00:00Z", skipped: 10, missed: true,
		},
		"the stored time is no tick": {
			expression: "0 12 * * *", due: "2025-06-01T11:00:00.5Z", now: "2025-06-01T11:59:00Z", watched: long,
			next: "2025-06-01T12:00:00Z",
		},
		"the stored time is no tick and one has passed": {
			expression: "0 12 * * *", due: "2025-06-01T11:00:00.5Z", now: "2025-06-01T12:00:01Z", watched: long,
			ticks: []string{"2025-06-01T12:00:00Z"}, next: "2025-06-02T12:00:00Z",
		},
		"ticks show the zone's clock": {
			expression: "30 2 * * *", zone: "Europe/Berlin", due: "2025-03-30T01:00:00Z", now: "2025-03-30T01:00:00.1Z", watched: long,
			ticks: []string{"2025-03-30T03:00:00+02:00"}, next: "2025-03-31T02:30:00+02:00",
		},
		"every year": {
			expression: "0 0 29 2 *", due: "2012-02-29T00:00:00Z", now: "2025-06-01T12:00:00Z", watched: long, rule: CatchUpAll,
			ticks: []string{"2012-02-29T00:00:00Z", "2016-02-29T00:00:00Z", "2020-02-29T00:00:00Z", "2024-02-29T00:00:00Z"},
			next:  "2028-02-29T00:00:00Z", missed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, missed, ok := planTicks(mustParseCron(t, test.expression, test.zone),
				mustParseTime(t, test.due), mustParseTime(t, test.now), mustParseTime(t, test.watched), test.rule)
			if !ok || missed != test.missed || plan.skipped != test.skipped {
				t.Errorf("ok %t, missed %t, skipped %d; want true, %t, %d", ok, missed, plan.skipped, test.missed, test.skipped)
			}
			var ticks []string
			for _, tick := range plan.ticks {
				ticks = append(ticks, tick.Format(time.RFC3339Nano))
			}
			if diff := cmp.Diff(test.ticks, ticks); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
			if got := plan.next.Format(time.RFC3339Nano); got != test.next {
				t.Errorf("next is %s, want %s", got, test.next)
			}
		})
	}
}

func TestPlanTicksBoundsWhatItCatchesUp(t *testing.T) {
	t.Parallel()
	every := mustParseCron(t, "* * * * * *", "")
	now := mustParseTime(t, "2025-06-01T12:00:00.5Z")
	for _, test := range []struct {
		down    time.Duration
		ticks   int
		skipped int64
	}{
		{999 * time.Second, 1000, 0}, // both ends count
		{1000 * time.Second, 1000, 1},
		{2 * time.Hour, 1000, 6201},
		{365 * 24 * time.Hour, 1000, maxMissedCount},
	} {
		plan, missed, ok := planTicks(every, now.Truncate(time.Second).Add(-test.down), now, now, CatchUpAll)
		if !ok || !missed || len(plan.ticks) != test.ticks || plan.skipped != test.skipped {
			t.Fatalf("after %v: %t, missed %t, %d ticks, %d skipped, want %d and %d", test.down, ok, missed, len(plan.ticks), plan.skipped, test.ticks, test.skipped)
		}
		for i, tick := range plan.ticks {
			if want := now.Truncate(time.Second).Add(time.Duration(i-test.ticks+1) * time.Second); !tick.Equal(want) {
				t.Fatalf("after %v: tick %d is %v, want %v", test.down, i, tick, want)
			}
		}
	}
}

// Lists of all windows are those of a plain walk.
func TestLastTicksAreThoseOfAPlainWalk(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{"* * * * *", "0 3 * * *", "*/7 1,5 * * *", "30 2 9 * *", "@every 13m"} {
		parsed := mustParseCron(t, expression, "America/New_York")
		first, _ := parsed.next(mustParseTime(t, "2025-03-01T00:00:00Z"))
		now := mustParseTime(t, "2025-03-20T00:00:00Z")
		var all []time.Time
		for tick, ok := first, true; ok && !tick.After(now); tick, ok = parsed.next(tick) {
			all = append(all, tick)
		}
		for _, n := range []int{0, 1, 2, 3, 10, 999, 1_000_000} {
			got := lastTicks(parsed, first, now, n)
			if diff := cmp.Diff(all[max(0, len(all)-n):], got, cmp.Comparer(time.Time.Equal)); diff != "" && n > 0 || n == 0 && got != nil {
				t.Errorf("%s: the last %d (-want +got):\n%s", expression, n, diff)
			}
		}
	}
}

func TestPlanTicksWithoutATickLeft(t *testing.T) {
	t.Parallel()
	now := mustParseTime(t, "9999-12-30T23:59:59Z")
	if plan, _, ok := planTicks(mustParseCron(t, "@daily", ""), now, now, now, CatchUpOne); ok {
		t.Errorf("planned %+v, want that there is no tick after the last", plan)
	}
}
