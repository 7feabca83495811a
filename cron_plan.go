package anchor

import "time"

const (
	// maxCaughtUp bounds the instances of one catch-up of CatchUpAll, maxMissedCount how many missed ticks are counted.
	maxCaughtUp    = 1000
	maxMissedCount = 100_000

	// lateUnseen is how late a tick may be found by a worker that was not there when it was due: another one may
	// have been about to run it. lateSeen is the same for one that was there.
	lateUnseen = 3 * time.Second
	lateSeen   = time.Minute
)

// planTicks decides which of a schedule's ticks get an instance: due is its next tick as stored, now the store's
// clock, which says that it is due, and watched when the worker began to look, by the same clock. missed tells
// whether the catch-up rule decided. It is false when the schedule has no tick after now.
func planTicks(e *cronExpression, due, now, watched time.Time, rule CatchUp) (plan cronTick, missed, ok bool) {
	plan.next, ok = e.next(now)
	if !ok {
		return plan, false, false
	}
	// The stored time need not be a tick: zone rules change, and people write into tables.
	first, ok := e.next(due.Add(-1))
	if !ok || first.After(now) {
		return plan, false, ok
	}
	tolerance := lateUnseen
	if first.After(watched) {
		tolerance = lateSeen
	}
	keep := 0
	switch missed = now.Sub(first) > tolerance; {
	case !missed:
		keep = int(lateSeen/time.Second) + 1
	case rule == CatchUpAll:
		keep = maxCaughtUp
	case rule != CatchUpNone:
		keep = 1
	}
	plan.ticks = lastTicks(e, first, now, keep)
	end := plan.next
	if len(plan.ticks) > 0 {
		end = plan.ticks[0]
	}
	plan.skipped = countTicks(e, first, end)
	return plan, missed, true
}

// lastTicks lists the last n ticks from first, which is one, to now.
func lastTicks(e *cronExpression, first, now time.Time, n int) []time.Time {
	if n == 0 {
		return nil
	}
	for window := time.Minute; ; window *= 2 {
		from := now.Add(-window)
		whole := !from.After(first)
		if whole {
			from = first.Add(-1)
		}
		var ticks []time.Time
		for tick, ok := e.next(from); ok && !tick.After(now); tick, ok = e.next(tick) {
			if ticks = append(ticks, tick); len(ticks) >= 2*n {
				ticks = append(ticks[:0], ticks[n:]...)
			}
		}
		if whole || len(ticks) >= n {
			return ticks[max(0, len(ticks)-n):]
		}
	}
}

// countTicks counts the ticks from first, which is one, up to end, which does not count; at most maxMissedCount.
func countTicks(e *cronExpression, first, end time.Time) int64 {
	n, ok := int64(0), true
	for tick := first; ok && tick.Before(end) && n < maxMissedCount; tick, ok = e.next(tick) {
		n++
	}
	return n
}
