package anchor

import (
	"testing"
	"time"
)

// Between 2026 and 2035 clocks are moved on known days of each year, so that the ticks of ten years can be counted by
// hand: a day's tick comes once a day whatever the clock does, and what follows real time comes as often as it passes.
func TestCronExpressionEveryTickOfTenYears(t *testing.T) {
	t.Parallel()

	const days = 3652 // of 2026 to 2035, with 29 February of 2028 and 2032
	for zone, halfHours := range map[string]bool{
		"UTC": false, "America/New_York": false, "Europe/Berlin": false, "Africa/Casablanca": false, "America/Havana": false,
		"Australia/Lord_Howe": true,
	} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2026, time.January, 1, 0, 0, 0, 0, location).Add(-time.Second)
		end := time.Date(2036, time.January, 1, 0, 0, 0, 0, location).Add(-time.Second)
		hours := int(end.Sub(start) / time.Hour)
		wantHourly := hours
		if halfHours {
			wantHourly = 24*days - 10 // a full hour lies in each gap, and none comes twice
		}
		counts := map[string]int{"30 2 * * *": days, "@daily": days, "0 * * * *": wantHourly}
		if zone == "Europe/Berlin" || halfHours { // 350,640 each
			counts["*/15 * * * *"] = 4 * hours
		}
		for expression, want := range counts {
			t.Run(zone+" "+expression, func(t *testing.T) {
				t.Parallel()

				e := mustParseCron(t, expression, zone)
				last, ticks := start, 0
				for tick, ok := e.next(last); !tick.After(end); tick, ok = e.next(last) {
					if !ok || !tick.After(last) {
						t.Fatalf("after %v comes %v, %t", last, tick, ok)
					}
					last = tick
					ticks++
				}
				if ticks != want {
					t.Errorf("%d ticks, want %d", ticks, want)
				}
			})
		}
	}
}
