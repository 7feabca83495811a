package anchor

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cronDays are the three days around a change of the clock, with every tick that four schedules have in them. The
// changes are those of cronChange, which has the schedules that only some of them matter to.
type cronDays struct {
	zone        string
	first, next string // the first midnight, and the one after the last day
	daily       []string
	halfPastTwo []string
	hours       []tickSpan
	quarters    []tickSpan
}

// tickSpan are ticks at even distances, its ends included, under one offset.
type tickSpan struct{ first, last string }

func (s tickSpan) ticks(t *testing.T, step time.Duration) []string {
	t.Helper()
	var ticks []string
	for tick, last := mustParseTime(t, s.first), mustParseTime(t, s.last); !tick.After(last); tick = tick.Add(step) {
		ticks = append(ticks, tick.Format(tickLayout))
	}
	if n := len(ticks); n == 0 || ticks[n-1] != mustParseTime(t, s.last).Format(tickLayout) {
		t.Fatalf("%+v is no span of steps of %v", s, step)
	}
	return ticks
}

func TestCronExpressionDaysAroundAChange(t *testing.T) {
	t.Parallel()

	for _, days := range []cronDays{
		{
			zone: "America/New_York", first: "2025-03-08T00:00:00-05:00", next: "2025-03-11T00:00:00-04:00",
			daily:       []string{"2025-03-08T00:00:00-05:00", "2025-03-09T00:00:00-05:00", "2025-03-10T00:00:00-04:00"},
			halfPastTwo: []string{"2025-03-08T02:30:00-05:00", "2025-03-09T03:00:00-04:00", "2025-03-10T02:30:00-04:00"},
			hours: []tickSpan{
				{"2025-03-08T00:00:00-05:00", "2025-03-09T01:00:00-05:00"},
				{"2025-03-09T03:00:00-04:00", "2025-03-10T23:00:00-04:00"},
			},
			quarters: []tickSpan{
				{"2025-03-08T00:00:00-05:00", "2025-03-09T01:45:00-05:00"},
				{"2025-03-09T03:00:00-04:00", "2025-03-10T23:45:00-04:00"},
			},
		},
		{
			zone: "America/New_York", first: "2025-11-01T00:00:00-04:00", next: "2025-11-04T00:00:00-05:00",
			daily:       []string{"2025-11-01T00:00:00-04:00", "2025-11-02T00:00:00-04:00", "2025-11-03T00:00:00-05:00"},
			halfPastTwo: []string{"2025-11-01T02:30:00-04:00", "2025-11-02T02:30:00-05:00", "2025-11-03T02:30:00-05:00"},
			hours: []tickSpan{
				{"2025-11-01T00:00:00-04:00", "2025-11-02T01:00:00-04:00"},
				{"2025-11-02T01:00:00-05:00", "2025-11-03T23:00:00-05:00"},
			},
			quarters: []tickSpan{
				{"2025-11-01T00:00:00-04:00", "2025-11-02T01:45:00-04:00"},
				{"2025-11-02T01:00:00-05:00", "2025-11-03T23:45:00-05:00"},
			},
		},
		{
			zone: "Europe/Berlin", first: "2025-03-29T00:00:00+01:00", next: "2025-04-01T00:00:00+02:00",
			daily:       []string{"2025-03-29T00:00:00+01:00", "2025-03-30T00:00:00+01:00", "2025-03-31T00:00:00+02:00"},
			halfPastTwo: []string{"2025-03-29T02:30:00+01:00", "2025-03-30T03:00:00+02:00", "2025-03-31T02:30:00+02:00"},
			hours: []tickSpan{
				{"2025-03-29T00:00:00+01:00", "2025-03-30T01:00:00+01:00"},
				{"2025-03-30T03:00:00+02:00", "2025-03-31T23:00:00+02:00"},
			},
			quarters: []tickSpan{
				{"2025-03-29T00:00:00+01:00", "2025-03-30T01:45:00+01:00"},
				{"2025-03-30T03:00:00+02:00", "2025-03-31T23:45:00+02:00"},
			},
		},
		{
			zone: "Europe/Berlin", first: "2025-10-25T00:00:00+02:00", next: "2025-10-28T00:00:00+01:00",
			daily:       []string{"2025-10-25T00:00:00+02:00", "2025-10-26T00:00:00+02:00", "2025-10-27T00:00:00+01:00"},
			halfPastTwo: []string{"2025-10-25T02:30:00+02:00", "2025-10-26T02:30:00+02:00", "2025-10-27T02:30:00+01:00"},
			hours: []tickSpan{
				{"2025-10-25T00:00:00+02:00", "2025-10-26T02:00:00+02:00"},
				{"2025-10-26T02:00:00+01:00", "2025-10-27T23:00:00+01:00"},
			},
			quarters: []tickSpan{
				{"2025-10-25T00:00:00+02:00", "2025-10-26T02:45:00+02:00"},
				{"2025-10-26T02:00:00+01:00", "2025-10-27T23:45:00+01:00"},
			},
		},
		// The clock moves by half an hour. Here 02:30 is the first time after the gap.
		{
			zone: "Australia/Lord_Howe", first: "2025-10-04T00:00:00+10:30", next: "2025-10-07T00:00:00+11:00",
			daily:       []string{"2025-10-04T00:00:00+10:30", "2025-10-05T00:00:00+10:30", "2025-10-06T00:00:00+11:00"},
			halfPastTwo: []string{"2025-10-04T02:30:00+10:30", "2025-10-05T02:30:00+11:00", "2025-10-06T02:30:00+11:00"},
			hours: []tickSpan{
				{"2025-10-04T00:00:00+10:30", "2025-10-05T01:00:00+10:30"},
				{"2025-10-05T03:00:00+11:00", "2025-10-06T23:00:00+11:00"},
			},
			quarters: []tickSpan{
				{"2025-10-04T00:00:00+10:30", "2025-10-05T01:45:00+10:30"},
				{"2025-10-05T02:30:00+11:00", "2025-10-06T23:45:00+11:00"},
			},
		},
		{
			zone: "Australia/Lord_Howe", first: "2025-04-05T00:00:00+11:00", next: "2025-04-08T00:00:00+10:30",
			daily:       []string{"2025-04-05T00:00:00+11:00", "2025-04-06T00:00:00+11:00", "2025-04-07T00:00:00+10:30"},
			halfPastTwo: []string{"2025-04-05T02:30:00+11:00", "2025-04-06T02:30:00+10:30", "2025-04-07T02:30:00+10:30"},
			hours: []tickSpan{
				{"2025-04-05T00:00:00+11:00", "2025-04-06T01:00:00+11:00"},
				{"2025-04-06T02:00:00+10:30", "2025-04-07T23:00:00+10:30"},
			},
			quarters: []tickSpan{
				{"2025-04-05T00:00:00+11:00", "2025-04-06T01:45:00+11:00"},
				{"2025-04-06T01:30:00+10:30", "2025-04-07T23:45:00+10:30"},
			},
		},
		{
			zone: "Africa/Casablanca", first: "2025-04-05T00:00:00+00:00", next: "2025-04-08T00:00:00+01:00",
			daily:       []string{"2025-04-05T00:00:00+00:00", "2025-04-06T00:00:00+00:00", "2025-04-07T00:00:00+01:00"},
			halfPastTwo: []string{"2025-04-05T02:30:00+00:00", "2025-04-06T03:00:00+01:00", "2025-04-07T02:30:00+01:00"},
			hours: []tickSpan{
				{"2025-04-05T00:00:00+00:00", "2025-04-06T01:00:00+00:00"},
				{"2025-04-06T03:00:00+01:00", "2025-04-07T23:00:00+01:00"},
			},
			quarters: []tickSpan{
				{"2025-04-05T00:00:00+00:00", "2025-04-06T01:45:00+00:00"},
				{"2025-04-06T03:00:00+01:00", "2025-04-07T23:45:00+01:00"},
			},
		},
		{
			zone: "Africa/Casablanca", first: "2025-02-22T00:00:00+01:00", next: "2025-02-25T00:00:00+00:00",
			daily:       []string{"2025-02-22T00:00:00+01:00", "2025-02-23T00:00:00+01:00", "2025-02-24T00:00:00+00:00"},
			halfPastTwo: []string{"2025-02-22T02:30:00+01:00", "2025-02-23T02:30:00+01:00", "2025-02-24T02:30:00+00:00"},
			hours: []tickSpan{
				{"2025-02-22T00:00:00+01:00", "2025-02-23T02:00:00+01:00"},
				{"2025-02-23T02:00:00+00:00", "2025-02-24T23:00:00+00:00"},
			},
			quarters: []tickSpan{
				{"2025-02-22T00:00:00+01:00", "2025-02-23T02:45:00+01:00"},
				{"2025-02-23T02:00:00+00:00", "2025-02-24T23:45:00+00:00"},
			},
		},
		// Midnight itself is skipped, and in autumn comes twice.
		{
			zone: "America/Havana", first: "2025-03-08T00:00:00-05:00", next: "2025-03-11T00:00:00-04:00",
			daily:       []string{"2025-03-08T00:00:00-05:00", "2025-03-09T01:00:00-04:00", "2025-03-10T00:00:00-04:00"},
			halfPastTwo: []string{"2025-03-08T02:30:00-05:00", "2025-03-09T02:30:00-04:00", "2025-03-10T02:30:00-04:00"},
			hours: []tickSpan{
				{"2025-03-08T00:00:00-05:00", "2025-03-08T23:00:00-05:00"},
				{"2025-03-09T01:00:00-04:00", "2025-03-10T23:00:00-04:00"},
			},
			quarters: []tickSpan{
				{"2025-03-08T00:00:00-05:00", "2025-03-08T23:45:00-05:00"},
				{"2025-03-09T01:00:00-04:00", "2025-03-10T23:45:00-04:00"},
			},
		},
		{
			zone: "America/Havana", first: "2025-11-01T00:00:00-04:00", next: "2025-11-04T00:00:00-05:00",
			daily:       []string{"2025-11-01T00:00:00-04:00", "2025-11-02T00:00:00-04:00", "2025-11-03T00:00:00-05:00"},
			halfPastTwo: []string{"2025-11-01T02:30:00-04:00", "2025-11-02T02:30:00-05:00", "2025-11-03T02:30:00-05:00"},
			hours: []tickSpan{
				{"2025-11-01T00:00:00-04:00", "2025-11-02T00:00:00-04:00"},
				{"2025-11-02T00:00:00-05:00", "2025-11-03T23:00:00-05:00"},
			},
			quarters: []tickSpan{
				{"2025-11-01T00:00:00-04:00", "2025-11-02T00:45:00-04:00"},
				{"2025-11-02T00:00:00-05:00", "2025-11-03T23:45:00-05:00"},
			},
		},
		// No change, on the days on which others have theirs.
		{
			zone: "UTC", first: "2025-03-29T00:00:00Z", next: "2025-04-01T00:00:00Z",
			daily:       []string{"2025-03-29T00:00:00+00:00", "2025-03-30T00:00:00+00:00", "2025-03-31T00:00:00+00:00"},
			halfPastTwo: []string{"2025-03-29T02:30:00+00:00", "2025-03-30T02:30:00+00:00", "2025-03-31T02:30:00+00:00"},
			hours:       []tickSpan{{"2025-03-29T00:00:00+00:00", "2025-03-31T23:00:00+00:00"}},
			quarters:    []tickSpan{{"2025-03-29T00:00:00+00:00", "2025-03-31T23:45:00+00:00"}},
		},
		{
			zone: "UTC", first: "2025-10-25T00:00:00Z", next: "2025-10-28T00:00:00Z",
			daily:       []string{"2025-10-25T00:00:00+00:00", "2025-10-26T00:00:00+00:00", "2025-10-27T00:00:00+00:00"},
			halfPastTwo: []string{"2025-10-25T02:30:00+00:00", "2025-10-26T02:30:00+00:00", "2025-10-27T02:30:00+00:00"},
			hours:       []tickSpan{{"2025-10-25T00:00:00+00:00", "2025-10-27T23:00:00+00:00"}},
			quarters:    []tickSpan{{"2025-10-25T00:00:00+00:00", "2025-10-27T23:45:00+00:00"}},
		},
	} {
		spans := func(spans []tickSpan, step time.Duration) (ticks []string) {
			for _, span := range spans {
				ticks = append(ticks, span.ticks(t, step)...)
			}
			return ticks
		}
		for expression, want := range map[string][]string{
			"@daily": days.daily, "30 2 * * *": days.halfPastTwo,
			"0 * * * *": spans(days.hours, time.Hour), "*/15 * * * *": spans(days.quarters, 15*time.Minute),
		} {
			t.Run(days.zone+" "+expression+" "+days.first, func(t *testing.T) {
				t.Parallel()

				e, end := mustParseCron(t, expression, days.zone), mustParseTime(t, days.next)
				var got []string
				for tick, ok := e.next(mustParseTime(t, days.first).Add(-1)); ok && tick.Before(end); tick, ok = e.next(tick) {
					got = append(got, tick.Format(tickLayout))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("ticks (-want +got):\n%s", diff)
				}
			})
		}
	}
}
