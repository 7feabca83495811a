package anchor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The changes of 2025 that these tests stand on:
//
//	America/New_York     9 March    02:00-05:00 -> 03:00-04:00   2 November  02:00-04:00 -> 01:00-05:00
//	Europe/Berlin       30 March    02:00+01:00 -> 03:00+02:00  26 October   03:00+02:00 -> 02:00+01:00
//	Australia/Lord_Howe  5 October  02:00+10:30 -> 02:30+11:00   6 April     02:00+11:00 -> 01:30+10:30
//	Africa/Casablanca    6 April    02:00+00:00 -> 03:00+01:00  23 February  03:00+01:00 -> 02:00+00:00
//	America/Havana       9 March    00:00-05:00 -> 01:00-04:00   2 November  01:00-04:00 -> 00:00-05:00
type cronChange struct {
	zone, expression string
	after            string
	want             []string
}

// What the days of TestCronExpressionDaysAroundAChange do not show.
func TestCronExpressionAroundAChange(t *testing.T) {
	t.Parallel()

	testCronChanges(t, []cronChange{
		{"Australia/Lord_Howe", "15 2 * * *", "2025-10-04T00:00:00+10:30", []string{
			"2025-10-04T02:15:00+10:30", "2025-10-05T02:30:00+11:00", "2025-10-06T02:15:00+11:00",
		}},
		{"America/Havana", "@weekly", "2025-03-01T12:00:00-05:00", []string{
			"2025-03-02T00:00:00-05:00", "2025-03-09T01:00:00-04:00", "2025-03-16T00:00:00-04:00",
		}},
		{"America/New_York", "30 1 * * *", "2025-11-01T00:00:00-04:00", []string{
			"2025-11-01T01:30:00-04:00", "2025-11-02T01:30:00-04:00", "2025-11-03T01:30:00-05:00",
		}},
		{"Australia/Lord_Howe", "45 1 * * *", "2025-04-05T00:00:00+11:00", []string{
			"2025-04-05T01:45:00+11:00", "2025-04-06T01:45:00+11:00", "2025-04-07T01:45:00+10:30",
		}},
	})
}

func TestCronExpressionGapMakesOneRun(t *testing.T) {
	t.Parallel()

	testCronChanges(t, []cronChange{
		{"Europe/Berlin", "10,40 2 * * *", "2025-03-29T02:10:00+01:00", []string{
			"2025-03-29T02:40:00+01:00", "2025-03-30T03:00:00+02:00", "2025-03-31T02:10:00+02:00",
		}},
		{"Europe/Berlin", "10,40 2,3 * * *", "2025-03-29T03:40:00+01:00", []string{
			"2025-03-30T03:00:00+02:00", "2025-03-30T03:10:00+02:00", "2025-03-30T03:40:00+02:00",
		}},
		{"Europe/Berlin", "0,30 2,3 * * *", "2025-03-29T03:30:00+01:00", []string{
			"2025-03-30T03:00:00+02:00", "2025-03-30T03:30:00+02:00", "2025-03-31T02:00:00+02:00",
		}},
		{"Europe/Berlin", "* * 2 * * *", "2025-03-30T01:59:59+01:00", []string{
			"2025-03-30T03:00:00+02:00", "2025-03-31T02:00:00+02:00",
		}},
		{"Australia/Lord_Howe", "15,30 2 * * *", "2025-10-04T02:30:00+10:30", []string{
			"2025-10-05T02:30:00+11:00", "2025-10-06T02:15:00+11:00",
		}},
	})
}

func TestCronExpressionNamedHoursAreNoWildcard(t *testing.T) {
	t.Parallel()

	testCronChanges(t, []cronChange{
		{"Europe/Berlin", "0 */2 * * *", "2025-03-30T00:00:00+01:00", []string{
			"2025-03-30T03:00:00+02:00", "2025-03-30T04:00:00+02:00",
		}},
		{"Europe/Berlin", "0 */2 * * *", "2025-10-26T00:00:00+02:00", []string{
			"2025-10-26T02:00:00+02:00", "2025-10-26T04:00:00+01:00",
		}},
		{"Europe/Berlin", "*/20 2 * * *", "2025-10-26T00:00:00+02:00", []string{
			"2025-10-26T02:00:00+02:00", "2025-10-26T02:20:00+02:00", "2025-10-26T02:40:00+02:00",
			"2025-10-27T02:00:00+01:00",
		}},
		{"America/New_York", "*/30 59 1 * * *", "2025-11-02T00:00:00-04:00", []string{
			"2025-11-02T01:59:00-04:00", "2025-11-02T01:59:30-04:00", "2025-11-03T01:59:00-05:00",
		}},
	})
}

func TestCronExpressionStartsInRepeatedHour(t *testing.T) {
	t.Parallel()

	testCronChanges(t, []cronChange{
		{"Europe/Berlin", "30 2 * * *", "2025-10-26T02:10:00+02:00", []string{"2025-10-26T02:30:00+02:00"}},
		{"Europe/Berlin", "30 2 * * *", "2025-10-26T02:10:00+01:00", []string{"2025-10-27T02:30:00+01:00"}},
		{"Europe/Berlin", "30 2 * * *", "2025-10-26T02:45:00+01:00", []string{"2025-10-27T02:30:00+01:00"}},
		{"Europe/Berlin", "59 59 2 * * *", "2025-10-26T02:10:00+01:00", []string{"2025-10-27T02:59:59+01:00"}},
		{"Europe/Berlin", "30 * * * *", "2025-10-26T02:10:00+01:00", []string{"2025-10-26T02:30:00+01:00"}},
	})
}

// Samoa went from 29 December 2011 straight to the 31st.
func TestCronExpressionSkippedDay(t *testing.T) {
	t.Parallel()

	testCronChanges(t, []cronChange{
		{"Pacific/Apia", "0 9 * * *", "2011-12-29T00:00:00-10:00", []string{
			"2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00",
		}},
		{"Pacific/Apia", "@daily", "2011-12-28T12:00:00-10:00", []string{
			"2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00",
		}},
		{"Pacific/Apia", "0 * 30 * *", "2011-12-29T00:00:00-10:00", []string{
			"2012-01-30T00:00:00+14:00", "2012-01-30T01:00:00+14:00",
		}},
	})
}

// time.Time.ZoneBounds names an end in the past on the last day of a leap year.
func TestCronExpressionLastDayOfLeapYear(t *testing.T) {
	t.Parallel()

	testCronChanges(t, []cronChange{
		{"America/New_York", "0 * 1 1 *", "2040-12-31T12:00:00-05:00", []string{
			"2041-01-01T00:00:00-05:00", "2041-01-01T01:00:00-05:00",
		}},
		{"America/New_York", "0 12 * * *", "2040-12-30T12:00:00-05:00", []string{
			"2040-12-31T12:00:00-05:00", "2041-01-01T12:00:00-05:00",
		}},
		{"Australia/Lord_Howe", "@hourly", "2040-12-31T22:00:00+11:00", []string{
			"2040-12-31T23:00:00+11:00", "2041-01-01T00:00:00+11:00",
		}},
	})
}

func testCronChanges(t *testing.T, changes []cronChange) {
	t.Helper()
	for _, c := range changes {
		t.Run(c.zone+" "+c.expression+" "+c.after, func(t *testing.T) {
			t.Parallel()

			got := firstTicks(t, mustParseCron(t, c.expression, c.zone), c.after, len(c.want))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
		})
	}
}
