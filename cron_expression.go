package anchor

import (
	"time"

	"github.com/go-co-op/gocron/v2"
)

// cronExpression is a parsed schedule in one time zone. It never changes, and
// may be used by many goroutines.
//
// Its fields speak of the wall clock of the zone, which now and then skips or
// repeats a stretch of time:
//
//   - A skipped time runs once, at the instant at which the clock moves
//     forward. All the skipped times of one gap make one run, and none of their
//     own if the schedule runs at that instant anyway.
//   - A repeated time runs once, when it comes first.
//   - A wildcard schedule follows real time instead: it runs whenever the wall
//     clock shows one of its times, so in both passes of a repeated hour, and
//     nothing is made up for a gap.
//
// A schedule is a wildcard when it runs in each of the 24 hours of its days,
// however its hour field is spelled: *, */1, 0-23, or @hourly. All others name
// their hours, and promise one run for each: "0 */2 * * *" is short for
// "0 0,2,4,...,22 * * *" and no wildcard, and neither is "*/15 2 * * *".
type cronExpression struct {
	zone      *time.Location
	fields    gocron.Cron   // reads UTC as if it were the wall clock; nil for @every
	everyHour bool          // a wildcard
	interval  time.Duration // of @every
}

// Outside these years next finds no tick: PostgreSQL, JSON and the zone rules
// all end somewhere beyond.
var (
	firstCronSecond = time.Date(1900, time.January, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastCronSecond  = time.Date(9999, time.December, 30, 23, 59, 59, 0, time.UTC).Unix()
)

// next returns the first tick strictly after the given time, in the zone of
// the schedule. It reports false only when the tick, or the given time, lies
// outside the years 1900 to 9999. It depends on nothing but its arguments, so
// all processes with the same zone rules agree.
func (e *cronExpression) next(after time.Time) (time.Time, bool) {
	second := after.Unix()
	if second < firstCronSecond || second > lastCronSecond {
		return time.Time{}, false
	}

	tick, ok := e.nextSecond(second)
	if !ok || tick > lastCronSecond {
		return time.Time{}, false
	}
	return time.Unix(tick, 0).In(e.zone), true
}

func (e *cronExpression) nextSecond(after int64) (int64, bool) {
	switch {
	case e.interval > 0:
		return nextMultiple(after, int64(e.interval/time.Second)), true
	case e.everyHour:
		return e.nextShown(after)
	default:
		return e.nextReached(after)
	}
}

// nextShown returns the first second at which the wall clock shows a time of
// the schedule.
func (e *cronExpression) nextShown(after int64) (int64, bool) {
	for from := after + 1; ; {
		period := zonePeriodAt(e.zone, from)
		wall, ok := e.nextWall(from - 1 + period.offset)
		if !ok {
			return 0, false
		}
		if tick := wall - period.offset; tick < period.end {
			return tick, true
		}
		from = period.end
	}
}

// nextReached returns the second at which the wall clock for the first time
// shows, or jumps over, a time of the schedule that it has not been at yet.
func (e *cronExpression) nextReached(after int64) (int64, bool) {
	wall, ok := e.nextWall(latestWall(e.zone, after))
	if !ok {
		return 0, false
	}
	return firstReaching(e.zone, wall, after), true
}

// nextWall returns the first wall-clock second of the schedule after another.
func (e *cronExpression) nextWall(after int64) (int64, bool) {
	// The parser looks five years ahead; from one 29 February to the next it
	// can be eight.
	const parserYears = 5

	from := time.Unix(after, 0).UTC()
	for range 2 {
		if wall := e.fields.Next(from); !wall.IsZero() {
			return wall.Unix(), true
		}
		from = from.AddDate(parserYears, 0, 0)
	}
	return 0, false
}

// nextMultiple returns the first multiple of interval greater than after.
func nextMultiple(after, interval int64) int64 {
	remainder := after % interval
	if remainder < 0 {
		remainder += interval
	}
	return after - remainder + interval
}
