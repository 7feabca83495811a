package anchor

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Between them these zones have every kind of change there has been since 1975.
var cronTestZones = []string{
	"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca",
	"America/Havana", "Asia/Tehran", "America/Sao_Paulo", "Pacific/Apia", "Pacific/Kwajalein",
	"Asia/Kathmandu", "America/St_Johns", "Antarctica/Troll", "Asia/Gaza", "America/Caracas",
	"Pacific/Chatham", "Europe/Dublin", "Asia/Pyongyang", "America/Nuuk", "Africa/Cairo",
}

// cronModel is a schedule in plain sets.
type cronModel struct {
	zone                            string
	seconds, minutes, hours         []int
	daysOfMonth, months, daysOfWeek []int // nil is *
}

func drawCronModel(t *rapid.T) cronModel {
	set := func(label string, least, most int) []int {
		return rapid.SliceOfNDistinct(rapid.IntRange(least, most), 1, 4, rapid.ID[int]).Draw(t, label)
	}
	maybe := func(label string, least, most int) []int {
		if rapid.Bool().Draw(t, label+" is *") {
			return nil
		}
		return set(label, least, most)
	}
	return cronModel{
		zone:        rapid.SampledFrom(cronTestZones).Draw(t, "zone"),
		seconds:     []int{0},
		minutes:     maybe("minutes", 0, 59),
		hours:       maybe("hours", 0, 23),
		daysOfMonth: maybe("days of month", 1, 28),
		months:      maybe("months", 1, 12),
		daysOfWeek:  maybe("days of week", 0, 6),
	}
}

func (m cronModel) expression() string {
	field := func(set []int) string {
		if set == nil {
			return "*"
		}
		words := make([]string, len(set))
		for i, n := range set {
			words[i] = strconv.Itoa(n)
		}
		return strings.Join(words, ",")
	}
	return fmt.Sprintf("%s %s %s %s %s %s", field(m.seconds), field(m.minutes), field(m.hours),
		field(m.daysOfMonth), field(m.months), field(m.daysOfWeek))
}

// matches looks at what the wall clock shows.
func (m cronModel) matches(wall time.Time) bool {
	in := func(set []int, n int) bool {
		for _, member := range set {
			if member == n {
				return true
			}
		}
		return set == nil
	}
	day := in(m.daysOfMonth, wall.Day()) && in(m.daysOfWeek, int(wall.Weekday()))
	if m.daysOfMonth != nil && m.daysOfWeek != nil {
		day = in(m.daysOfMonth, wall.Day()) || in(m.daysOfWeek, int(wall.Weekday()))
	}
	return day && in(m.months, int(wall.Month())) && in(m.hours, wall.Hour()) &&
		in(m.minutes, wall.Minute()) && in(m.seconds, wall.Second())
}

func TestCronExpressionGrowsOverTenYears(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		model := drawCronModel(t)
		if rapid.Bool().Draw(t, "with seconds") {
			model.seconds = rapid.SliceOfNDistinct(rapid.IntRange(0, 59), 1, 4, rapid.ID[int]).Draw(t, "seconds")
		}
		expression, err := parseCronExpression(model.expression(), model.zone)
		if err != nil {
			t.Fatal(err)
		}

		const day = 24 * 60 * 60
		start := time.Unix(rapid.Int64Range(0, 60*365*day).Draw(t, "start"), 0)
		hop := time.Duration(rapid.Int64Range(day, 60*day).Draw(t, "hop")) * time.Second
		for at := start; at.Before(start.AddDate(10, 0, 0)); at = at.Add(hop) {
			tick, ok := expression.next(at)
			if !ok || !tick.After(at) {
				t.Fatalf("after %s comes %s, %t", at, tick, ok)
			}
			if !model.matches(tick) && !isCronGapEnd(tick) {
				t.Fatalf("%q has a tick at %s", model.expression(), tick)
			}
			between := at.Add(tick.Sub(at) / 2)
			if again, _ := expression.next(between); !again.Equal(tick) {
				t.Fatalf("after %s comes %s, but after %s comes %s", at, tick, between, again)
			}
			at = tick
		}
	})
}

// isCronGapEnd reports whether the clock moved forward to show this tick.
func isCronGapEnd(tick time.Time) bool {
	_, offset := tick.Zone()
	_, before := tick.Add(-time.Second).Zone()
	return before < offset
}

// TestCronExpressionMatchesModel walks minute by minute through the days around
// a change, which is slow, but takes the rules word by word.
func TestCronExpressionMatchesModel(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		model := drawCronModel(t)
		expression, err := parseCronExpression(model.expression(), model.zone)
		if err != nil {
			t.Fatal(err)
		}
		change := drawCronChange(t, expression.zone).Truncate(time.Minute)
		start, end := change.Add(-36*time.Hour), change.Add(36*time.Hour)

		var got []time.Time
		for tick, ok := expression.next(start); ok && !tick.After(end); tick, ok = expression.next(tick) {
			got = append(got, tick)
		}
		if diff := cmp.Diff(model.walk(expression.zone, start, end), got); diff != "" {
			t.Fatalf("%q in %s around %s (-want +got):\n%s", model.expression(), model.zone, change, diff)
		}
	})
}

// drawCronChange returns a time at which the clock is moved, or about any other
// when there are no more changes. Since 1975 all of them came on a full minute.
func drawCronChange(t *rapid.T, zone *time.Location) time.Time {
	year := rapid.IntRange(1975, 2060).Draw(t, "year")
	month := rapid.IntRange(1, 12).Draw(t, "month")
	at := time.Date(year, time.Month(month), 1, 0, 0, 0, 0, zone)
	if _, end := at.ZoneBounds(); !end.IsZero() {
		return end
	}
	return at
}

// walk returns the ticks after start, up to and with end.
func (m cronModel) walk(zone *time.Location, start, end time.Time) []time.Time {
	wallAt := func(at time.Time) time.Time {
		_, offset := at.In(zone).Zone()
		return at.UTC().Add(time.Duration(offset) * time.Second)
	}

	// A day and more before the start, to know what the clock has shown.
	at := start.Add(-36 * time.Hour)
	latest := wallAt(at)
	var ticks []time.Time
	for at = at.Add(time.Minute); !at.After(end); at = at.Add(time.Minute) {
		wall := wallAt(at)
		due := m.hours == nil && m.matches(wall)
		for latest.Before(wall) {
			latest = latest.Add(time.Minute)
			due = due || m.hours != nil && m.matches(latest)
		}
		if due && at.After(start) {
			ticks = append(ticks, at.In(zone))
		}
	}
	return ticks
}
