package anchor

import (
	"cmp"
	"slices"
	"time"
)

const (
	// headShare bounds the time spent on looks from the beginning of lanes: one is followed by so many times its
	// duration without. It is cheap unless a transaction held open somewhere keeps claimed entries in the index.
	headShare = 10
	// minHeadPause keeps looks that cost nothing from crowding out others. maxHeadPause lets polls find everything,
	// whatever held up one look.
	minHeadPause = time.Millisecond
	maxHeadPause = time.Second

	// heldPause is the least time between looks at tasks that others hold for a moment.
	heldPause = 20 * time.Millisecond

	// crowdedPause is for how long claims do not wait for their turn when one has waited in vain, a tenth of that: whose has it
	// may be stopped.
	crowdedPause = 2 * time.Second

	// contestedPause is for how long claims lock what they will update, when one that did not has met others.
	contestedPause = 2 * time.Second

	// largeClaim is from how many tasks on a claim takes care not to meet others, as anchor_claim has it. What that needs would
	// cost a small one more than it saves.
	largeClaim = 500

	// maxLookQueues bounds the queues of one look.
	maxLookQueues = 100
	// maxFloors bounds what is remembered.
	maxFloors = 10_000
)

// claimFloors decides what a session looks at next. It remembers where the claims of each lane ended: a look goes on
// there, or where others have come farther, so that it does not pass again what was claimed and cannot be vacuumed yet,
// nor what this worker has no handlers for. What may stand before that (late commits, what was given back) is found by
// looks from the beginning: at the queues of which a hint came, as soon as their share of the time allows, and at every
// queue once a poll interval, in pieces. Used by one goroutine.
type claimFloors struct {
	floors map[string][]floor // of each queue, by priority
	count  int

	hot    []string // to be looked at, in turn
	behind []string // to be looked at from the beginning: hinted, or read from their floors to their end
	onward []string // those of which such a look has read enough: the sweep covers what it has left out

	sweeping bool
	swept    bool   // the last look from the beginning was the sweep's
	from     laneAt // where the sweep goes on
	nextHead time.Time
	limit    int // of tasks where many turned out to be for free slots only; 0: none

	patient    time.Time // from when claims wait for their turn again
	optimistic time.Time // from when claims update without a lock before
}

type lane struct {
	queue    string
	priority int16
}

// position is where a task stands in its lane.
type position struct {
	nextRun time.Time
	id      int64
}

func (p position) compare(other position) int {
	return cmp.Or(p.nextRun.Compare(other.nextRun), cmp.Compare(p.id, other.id))
}

func (p position) before(other position) bool { return p.compare(other) < 0 }

func (t *claimedTask) position() position { return position{t.nextRun, t.id} }

type laneAt struct {
	lane
	position
}

// floor is how far a lane was read. A careful one may have any number of others' tasks behind it. Where others have come
// farther, they may never have seen what this worker had to leave: it must not go on from there, but take that first.
type floor struct {
	priority int16
	at       position
	careful  bool
	left     bool     // tasks were left, for want of slots
	until    position // tasks were met that stand before this
}

// laneState is what a claim says of a lane.
type laneState string

const (
	laneRead    laneState = "read"    // to its end
	laneLeft    laneState = "left"    // there is more to claim
	laneStopped laneState = "stopped" // there may be more; enough was read

	// laneCrowded and laneContested are of no lane: the claim has waited for its turn in vain, and others were faster with
	// what it had not locked.
	laneCrowded   laneState = "crowded"
	laneContested laneState = "contested"
)

type laneReport struct {
	lane  lane
	state laneState
	at    position // how far, if known
	known bool

	contested bool // others were faster with some of it
}

// claimLook is one look, as the arguments of a claim.
type claimLook struct {
	limit      int
	heads      bool // from the beginning of each lane
	sweep      bool // of all queues, in order of their names
	wait       bool // for its turn at a lane
	optimistic bool // whose turn it is at a lane need not lock what it will update
	queues     []string
	from       laneAt

	// The floors of floorQueues: a look from the beginning of a lane reads up to its floor with care, and on from there.
	floorQueues []string
	starts      []int32
	priorities  []int32
	nextRuns    []time.Time
	ids         []int64
	careful     []bool
	behind      []bool // tasks are left there that others may not have seen
}

// next is the next look, nil when there is nothing to look at; again says then how soon there will be, 0 for not.
func (f *claimFloors) next(req claimRequest, now time.Time) (look *claimLook, again time.Duration) {
	if req.fresh {
		*f = claimFloors{}
	}
	if req.sweep && !f.sweeping {
		f.sweeping, f.from = true, laneAt{}
	}
	for _, queue := range req.hinted {
		f.onward = slices.DeleteFunc(f.onward, func(q string) bool { return q == queue })
		if len(req.queues) == 0 || slices.Contains(req.queues, queue) {
			f.hot = addQueue(f.hot, queue)
			f.behind = addQueue(f.behind, queue)
		}
	}
	limit := req.limit
	if f.limit > 0 {
		limit = min(limit, max(f.limit, req.firstHand, 1))
	}
	heads := !now.Before(f.nextHead)
	switch {
	case heads && f.sweeping && (!f.swept || len(f.behind) == 0):
		look = &claimLook{limit: limit, heads: true, sweep: true, from: f.from}
		if len(req.queues) > 0 {
			look.queues = slices.Sorted(slices.Values(req.queues))
			at, _ := slices.BinarySearch(look.queues, f.from.queue)
			look.queues = slices.Compact(look.queues[at:])
		}
		f.complete(look, f.hot, now)
		return look, 0
	case heads && len(f.behind) > 0:
		look = &claimLook{limit: limit, heads: true, queues: slices.Clone(f.behind[:min(len(f.behind), maxLookQueues)])}
		f.complete(look, look.queues, now)
		return look, 0
	case len(f.hot) > 0:
		look = &claimLook{limit: limit, queues: slices.Clone(f.hot[:min(len(f.hot), maxLookQueues)])}
		f.complete(look, look.queues, now)
		return look, 0
	case f.sweeping || len(f.behind) > 0:
		return nil, max(f.nextHead.Sub(now), time.Microsecond)
	}
	return nil, 0
}

// complete gives a look the floors of queues, of the first of them if they are many, if it has use for them.
func (f *claimFloors) complete(look *claimLook, queues []string, now time.Time) {
	if look.heads && look.limit < largeClaim {
		return
	}
	look.wait, look.optimistic = !now.Before(f.patient), !now.Before(f.optimistic)
	look.floorQueues = slices.Clone(queues[:min(len(queues), maxLookQueues)])
	look.starts = append(look.starts, 1)
	for _, queue := range look.floorQueues {
		for _, known := range f.floors[queue] {
			look.priorities = append(look.priorities, int32(known.priority))
			look.nextRuns = append(look.nextRuns, known.at.nextRun)
			look.ids = append(look.ids, known.at.id)
			look.careful = append(look.careful, known.careful)
			look.behind = append(look.behind, known.left || known.at.before(known.until))
		}
		look.starts = append(look.starts, int32(len(look.priorities)+1))
	}
}

// looked takes in what a look has found. more says that tasks were left that could be claimed, again how soon to look
// again at the latest, 0 for no sooner than usual.
func (f *claimFloors) looked(look *claimLook, found claimFound, began, now time.Time) (more bool, again time.Duration) {
	if look.heads {
		f.nextHead = now.Add(min(max(headShare*now.Sub(began), minHeadPause), maxHeadPause))
		f.swept = look.sweep
	}
	if found.crowded {
		f.patient = now.Add(crowdedPause)
	}
	for i, task := range found.tasks { // those of a lane come together, the last of them at the end
		if next := i + 1; next == len(found.tasks) || found.tasks[next].priority != task.priority || found.tasks[next].queue != task.queue {
			f.raise(lane{task.queue, task.priority}, task.position(), false)
		}
	}
	full := len(found.tasks) >= look.limit
	stopped, cut := false, false
	var last laneReport
	for i, report := range found.reports {
		last = report
		switch report.state {
		case laneLeft:
			cut = cut || !report.contested
			if report.known {
				f.set(report.lane, report.at)
			}
		case laneStopped:
			stopped = true
			f.raise(report.lane, report.at, true)
		case laneRead:
			if report.known {
				f.raise(report.lane, report.at, false)
			}
		}
		switch left := report.state == laneLeft; {
		case left && (!full && !report.contested || i < len(found.reports)-1):
			f.leave(report.lane, true)
		case left && !look.heads || report.state == laneRead:
			f.leave(report.lane, false)
		}
	}
	f.adapt(look, len(found.tasks), cut && !full)
	if look.sweep {
		f.sweeping, f.from = (stopped || full) && len(found.reports) > 0, laneAt{last.lane, last.at}
		if last.state == laneLeft { // its floor knows where; other lanes must not wait for it
			f.from = laneAt{lane: lane{last.lane.queue, last.lane.priority + 1}}
		}
	} else {
		f.served(look, last.lane.queue, full || stopped, found.reports)
	}
	for _, report := range found.reports {
		if report.state == laneLeft || report.state == laneStopped && !look.sweep {
			f.hot = addQueue(f.hot, report.lane.queue)
		}
		if report.state == laneStopped && look.heads && !look.sweep {
			f.onward = addQueue(f.onward, report.lane.queue)
		}
	}
	switch {
	case stopped && !look.sweep, found.contested && len(f.hot) > 0:
		return true, time.Microsecond // it goes on from there
	case len(f.hot) > 0 && len(found.tasks) == 0:
		return true, max(f.nextHead.Sub(now), heldPause) // others hold what is there
	case len(f.hot) > 0:
		return true, 0
	case f.sweeping || len(f.behind) > 0:
		return false, max(f.nextHead.Sub(now), time.Microsecond)
	}
	return false, 0
}

// served takes the queues of a look out of those that wait for one; behind the last that was read, if it ended early,
// none was reached.
func (f *claimFloors) served(look *claimLook, last string, early bool, reports []laneReport) {
	reached := look.queues
	if at := slices.Index(reached, last); early && at >= 0 {
		reached = reached[:at+1]
	}
	done := nameSet(reached)
	f.hot = slices.DeleteFunc(f.hot, func(queue string) bool { return done[queue] })
	if look.heads {
		f.behind = slices.DeleteFunc(f.behind, func(queue string) bool { return done[queue] })
		return
	}
	for _, queue := range reached {
		if slices.ContainsFunc(reports, func(r laneReport) bool { return r.lane.queue == queue && r.state != laneRead }) {
			continue // it will be looked at from there
		}
		if at := slices.Index(f.onward, queue); at >= 0 {
			f.onward = slices.Delete(f.onward, at, at+1)
		} else {
			f.behind = addQueue(f.behind, queue)
		}
	}
}

// adapt bounds the next look where tasks are for free slots only: all that it reads may be locked for a moment.
func (f *claimFloors) adapt(look *claimLook, got int, cut bool) {
	switch {
	case cut && !look.heads:
		f.limit = max(got, 1)
	case f.limit > 0 && got >= look.limit:
		f.limit *= 2
		if f.limit > maxBuffer {
			f.limit = 0
		}
	}
}

// failed makes the next look a careful one: perhaps this one met too many tasks of others.
func (f *claimFloors) failed(look *claimLook) {
	for _, queue := range slices.Concat(look.queues, look.floorQueues) {
		for i := range f.floors[queue] {
			f.floors[queue][i].careful = true
		}
	}
}

// contested lets the next claims lock what they will update: there are others who take no turns.
func (f *claimFloors) contested(now time.Time) { f.optimistic = now.Add(contestedPause) }

// raise moves a lane's floor up, never down.
func (f *claimFloors) raise(l lane, at position, careful bool) {
	known, i := f.find(l)
	if !known {
		f.insert(l, i, floor{priority: l.priority, at: at, careful: careful})
		return
	}
	if floor := &f.floors[l.queue][i]; floor.at.before(at) {
		floor.at, floor.careful = at, careful
	} else if floor.at == at {
		floor.careful = careful
	}
}

// set moves a lane's floor, down too.
func (f *claimFloors) set(l lane, at position) {
	known, i := f.find(l)
	if !known {
		f.insert(l, i, floor{priority: l.priority, at: at})
		return
	}
	floor := &f.floors[l.queue][i]
	if at.before(floor.at) {
		floor.careful = true
		if floor.until.before(floor.at) {
			floor.until = floor.at
		}
	}
	floor.at = at
}

// leave notes whether a look at a lane had to leave tasks there, although it got less than it asked for.
func (f *claimFloors) leave(l lane, left bool) {
	if known, i := f.find(l); known {
		f.floors[l.queue][i].left = left
	}
}

func (f *claimFloors) find(l lane) (known bool, i int) {
	floors := f.floors[l.queue]
	for i = range floors {
		if floors[i].priority >= l.priority {
			return floors[i].priority == l.priority, i
		}
	}
	return false, len(floors)
}

func (f *claimFloors) insert(l lane, i int, made floor) {
	if f.floors == nil || f.count >= maxFloors {
		f.floors, f.count, i = map[string][]floor{}, 0, 0
	}
	f.floors[l.queue] = slices.Insert(f.floors[l.queue], i, made)
	f.count++
}

func addQueue(queues []string, queue string) []string {
	if slices.Contains(queues, queue) {
		return queues
	}
	return append(queues, queue)
}
