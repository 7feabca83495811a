package anchor

import (
	"math"
	"time"
)

// In this file an instant counts seconds of real time since the Unix epoch, and
// a wall counts what a clock on the wall shows: an instant plus the offset that
// its zone has then.

// maxClockShift is more than any offset from UTC, and more than any clock was
// ever moved: islands have crossed the date line, which is 24 hours.
const maxClockShift = 48 * 60 * 60

// zonePeriod is a stretch of real time, without its end, in which the offset of
// a zone stays the same. Its neighbours may have that offset too.
type zonePeriod struct {
	start, end, offset int64
}

func zonePeriodAt(zone *time.Location, instant int64) zonePeriod {
	t := time.Unix(instant, 0).In(zone)
	_, offset := t.Zone()
	period := zonePeriod{start: math.MinInt64, end: math.MaxInt64, offset: int64(offset)}

	start, end := t.ZoneBounds()
	if !start.IsZero() {
		period.start = start.Unix()
	}
	if !end.IsZero() {
		period.end = end.Unix()
	}
	// For rules that go on for ever, ZoneBounds ends the last period of each
	// year after 365 days, so on day 366 it names an end that has passed.
	if period.end <= instant {
		const day = 24 * 60 * 60
		period.end += day
	}
	return period
}

// latestWall returns the latest wall that the clock has shown up to an instant.
// It is what the clock shows at that instant, unless the clock was moved back a
// short time ago.
func latestWall(zone *time.Location, instant int64) int64 {
	period := zonePeriodAt(zone, instant)
	latest := instant + period.offset
	for period.start > instant-maxClockShift {
		last := period.start - 1
		period = zonePeriodAt(zone, last)
		latest = max(latest, last+period.offset)
	}
	return latest
}

// firstReaching returns the first instant after another at which the clock
// shows the given wall or a later one. That is the end of a gap for a wall in
// the gap. The wall must be later than latestWall of the other instant.
func firstReaching(zone *time.Location, wall, after int64) int64 {
	for from := max(after+1, wall-maxClockShift); ; {
		period := zonePeriodAt(zone, from)
		if instant := max(from, wall-period.offset); instant < period.end {
			return instant
		}
		from = period.end
	}
}
