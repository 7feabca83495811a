package anchor

import (
	"container/heap"
	"time"
)

// memoryQueue holds the pending tasks of one queue, in lanes, and counts its others.
type memoryQueue struct {
	name        string
	paused      bool
	pausedSince time.Time
	lanes       map[laneKey]*memoryLane
	pending     int                      // in the lanes
	locked      map[*memoryTask]struct{} // pending, but being cancelled by an open transaction, and in no lane
	running     int
	failed      int
}

// laneKey splits a queue by what a claim may leave out, so that nothing that it leaves out stands before
// what it wants.
type laneKey struct {
	name      string
	firstHand bool
}

// memoryLane has the due tasks by their order of claim, and the others by the time at which they are due.
type memoryLane struct {
	ready     taskHeap
	scheduled taskHeap
}

func (q *memoryQueue) push(t *memoryTask, now time.Time) {
	key := laneKey{t.name, t.firstHand()}
	lane := q.lanes[key]
	if lane == nil {
		lane = &memoryLane{ready: taskHeap{before: claimedBefore}, scheduled: taskHeap{before: dueBefore}}
		q.lanes[key] = lane
	}
	if t.nextRun.After(now) {
		heap.Push(&lane.scheduled, t)
	} else {
		heap.Push(&lane.ready, t)
	}
	q.pending++
}

func (q *memoryQueue) remove(t *memoryTask) {
	key := laneKey{t.name, t.firstHand()}
	lane := q.lanes[key]
	heap.Remove(t.heap, t.position)
	q.pending--
	if lane.empty() {
		delete(q.lanes, key)
	}
}

// take removes due tasks of the wanted names in their order of claim, up to limit, and up to firstHand of
// those that are claimed first hand only.
func (q *memoryQueue) take(names map[string]bool, limit, firstHand int, now time.Time) []*memoryTask {
	var fronts laneHeap
	for key, lane := range q.lanes {
		if !names[key.name] || key.firstHand && firstHand <= 0 {
			continue
		}
		lane.promote(now)
		if lane.ready.Len() > 0 {
			fronts = append(fronts, laneFront{key, lane})
		}
	}
	heap.Init(&fronts)
	var taken []*memoryTask
	for len(taken) < limit && len(fronts) > 0 {
		front := fronts[0]
		if front.key.firstHand && firstHand <= 0 {
			heap.Pop(&fronts)
			continue
		}
		t := heap.Pop(&front.lane.ready).(*memoryTask)
		q.pending--
		taken = append(taken, t)
		if front.key.firstHand {
			firstHand--
		}
		if front.lane.ready.Len() > 0 {
			heap.Fix(&fronts, 0)
			continue
		}
		heap.Pop(&fronts)
		if front.lane.empty() {
			delete(q.lanes, front.key)
		}
	}
	return taken
}

// due tells whether a task of the wanted names is ready, and when the next one will be, zero for never.
func (q *memoryQueue) due(names map[string]bool, now time.Time) (ready bool, next time.Time) {
	for key, lane := range q.lanes {
		if !names[key.name] {
			continue
		}
		lane.promote(now)
		ready = ready || lane.ready.Len() > 0
		if lane.scheduled.Len() > 0 {
			if at := lane.scheduled.tasks[0].nextRun; next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	return ready, next
}

func (q *memoryQueue) idle() bool {
	return q.pending == 0 && len(q.locked) == 0 && q.running == 0 && q.failed == 0 && !q.paused
}

// promote moves what has fallen due. Each task is moved once, so that a claim stays logarithmic on average.
func (l *memoryLane) promote(now time.Time) {
	for l.scheduled.Len() > 0 && !l.scheduled.tasks[0].nextRun.After(now) {
		heap.Push(&l.ready, heap.Pop(&l.scheduled))
	}
}

func (l *memoryLane) empty() bool { return l.ready.Len() == 0 && l.scheduled.Len() == 0 }

func claimedBefore(a, b *memoryTask) bool {
	if a.priority != b.priority {
		return a.priority < b.priority
	}
	return dueBefore(a, b)
}

func dueBefore(a, b *memoryTask) bool {
	if c := a.nextRun.Compare(b.nextRun); c != 0 {
		return c < 0
	}
	return a.id < b.id
}

// taskHeap is a heap.Interface whose tasks know their heap and their position in it.
type taskHeap struct {
	tasks  []*memoryTask
	before func(a, b *memoryTask) bool
}

func (h *taskHeap) Len() int           { return len(h.tasks) }
func (h *taskHeap) Less(i, j int) bool { return h.before(h.tasks[i], h.tasks[j]) }

func (h *taskHeap) Swap(i, j int) {
	h.tasks[i], h.tasks[j] = h.tasks[j], h.tasks[i]
	h.tasks[i].position, h.tasks[j].position = i, j
}

func (h *taskHeap) Push(x any) {
	t := x.(*memoryTask)
	t.heap, t.position = h, len(h.tasks)
	h.tasks = append(h.tasks, t)
}

func (h *taskHeap) Pop() any {
	last := len(h.tasks) - 1
	t := h.tasks[last]
	h.tasks[last] = nil
	h.tasks = h.tasks[:last]
	t.heap = nil
	return t
}

type laneFront struct {
	key  laneKey
	lane *memoryLane
}

// laneHeap is a heap.Interface of lanes that have ready tasks, by their first.
type laneHeap []laneFront

func (h laneHeap) Len() int { return len(h) }
func (h laneHeap) Less(i, j int) bool {
	return claimedBefore(h[i].lane.ready.tasks[0], h[j].lane.ready.tasks[0])
}
func (h laneHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *laneHeap) Push(x any)   { *h = append(*h, x.(laneFront)) }
func (h *laneHeap) Pop() any {
	last := len(*h) - 1
	front := (*h)[last]
	*h = (*h)[:last]
	return front
}
