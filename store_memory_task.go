package anchor

import (
	"slices"
	"sort"
	"time"
)

// How long tasks that have ended are kept, and how many completed ones at most.
const (
	memoryKeepCompleted   = 24 * time.Hour
	memoryKeepFailed      = 7 * 24 * time.Hour // cancelled ones, too
	memoryCompletedAtMost = 100_000
)

// memoryTask is one task. Its times keep their monotonic reading, so that a step of the wall clock neither
// holds tasks up nor ends leases; shown strips it.
type memoryTask struct {
	id          int64
	name        string
	queue       string
	priority    int16
	status      Status
	attempts    int32
	maxAttempts int32
	params      []byte // never changed
	attributes  []byte // never changed
	tag         string
	createdAt   time.Time
	nextRun     time.Time
	startedAt   time.Time
	finishedAt  time.Time
	workerID    string // of the newest attempt, "" while pending
	errors      []AttemptError
	insertedBy  *memoryTx // the open transaction that alone sees it

	// While it is running:
	worker          *memoryWorker
	token           int64
	cancelRequested bool
	exhausted       bool // taken from a dead worker only to be failed

	// While it is pending, one of:
	heap     *taskHeap // where it waits, at position
	position int
	lockedBy *memoryTx // an open transaction that cancels it
}

func (t *memoryTask) live() bool { return t.status == StatusPending || t.status == StatusRunning }

func (t *memoryTask) firstHand() bool { return t.attempts > 0 || t.maxAttempts == 1 }

func (t *memoryTask) attemptsLeft() bool {
	return t.maxAttempts == unlimitedAttempts || t.attempts < t.maxAttempts
}

// note records an error of the newest attempt, unless there is nothing to say.
func (t *memoryTask) note(message string, now time.Time) {
	if message == "" {
		return
	}
	if len(t.errors) >= maxErrors {
		t.errors = slices.Delete(t.errors, 0, 1+len(t.errors)-maxErrors)
	}
	t.errors = append(t.errors, AttemptError{Attempt: int(t.attempts), At: shown(now), Message: cleanMessage(message)})
}

func (t *memoryTask) claimed() *claimedTask {
	return &claimedTask{
		id: t.id, token: t.token, name: t.name, queue: t.queue, priority: t.priority,
		attempt: t.attempts, maxAttempts: t.maxAttempts, params: t.params, attributes: t.attributes, tag: t.tag, exhausted: t.exhausted,
		createdAt: shown(t.createdAt), nextRun: shown(t.nextRun), startedAt: shown(t.startedAt), workerID: t.workerID,
	}
}

func (t *memoryTask) info() *TaskInfo {
	info := t.claimed().info()
	info.Status = t.status
	info.FinishedAt = shown(t.finishedAt)
	info.Errors = slices.Clone(t.errors)
	return info
}

// shown is t as a database would answer it: in microseconds, of the wall clock.
func shown(t time.Time) time.Time { return t.Truncate(time.Microsecond) }

// find finds a task that everybody sees, nil when there is none.
func (s *MemoryStore) find(id int64) *memoryTask {
	if t := s.index.find(id); t != nil && t.insertedBy == nil {
		return t
	}
	return nil
}

// enter puts a pending task into its lane, and wakes those who may take it.
func (s *MemoryStore) enter(t *memoryTask, now time.Time) {
	s.queue(t.queue).push(t, now)
	s.announce(t, now)
}

// settle ends a task that is in no lane.
func (s *MemoryStore) settle(t *memoryTask, status Status, now time.Time) {
	s.letGo(t)
	t.status, t.finishedAt = status, now
	s.releaseEnded(t, now)
	s.retain(t)
	s.dropOutdated(now)
}

// retain counts and keeps a task that has ended.
func (s *MemoryStore) retain(t *memoryTask) {
	if t.status == StatusCompleted {
		s.completed = append(s.completed, retainedTask{t, t.finishedAt})
		return
	}
	if t.status == StatusFailed {
		s.queue(t.queue).failed++
	}
	s.failed = append(s.failed, retainedTask{t, t.finishedAt})
}

// letGo ends the claim on a task, if there is one.
func (s *MemoryStore) letGo(t *memoryTask) {
	if t.worker == nil {
		return
	}
	delete(s.claims, t.token)
	delete(t.worker.held, t.id)
	t.worker, t.token, t.cancelRequested, t.exhausted = nil, 0, false, false
	q := s.queue(t.queue)
	q.running--
	s.tidy(q)
}

// hold gives a task that is in no lane to a worker, under a token of its own.
func (s *MemoryStore) hold(t *memoryTask, w *memoryWorker) {
	s.lastToken++
	t.status, t.worker, t.workerID, t.token = StatusRunning, w, w.record.id, s.lastToken
	s.claims[t.token] = t
	w.held[t.id] = t
	s.queue(t.queue).running++
}

// held finds the task of a claim, nil when the claim is lost.
func (s *MemoryStore) held(claim *claimedTask) *memoryTask {
	t := s.claims[claim.token]
	if t == nil || t.id != claim.id {
		return nil
	}
	return t
}

// retainedTask is a task as it ended at a time. It is outdated when the task was retried since.
type retainedTask struct {
	task *memoryTask
	at   time.Time
}

// dropOutdated forgets tasks that have been kept long enough. They ended in order.
func (s *MemoryStore) dropOutdated(now time.Time) {
	n := max(0, len(s.completed)-memoryCompletedAtMost)
	for n < len(s.completed) && now.Sub(s.completed[n].at) >= memoryKeepCompleted {
		n++
	}
	for _, kept := range s.completed[:n] {
		s.index.remove(kept.task.id)
	}
	s.completed = dropFront(s.completed, n)

	n = 0
	for n < len(s.failed) && now.Sub(s.failed[n].at) >= memoryKeepFailed {
		kept := s.failed[n]
		n++
		t := kept.task
		if t.live() || !t.finishedAt.Equal(kept.at) {
			continue
		}
		s.index.remove(t.id)
		if t.status == StatusFailed {
			q := s.queue(t.queue)
			q.failed--
			s.tidy(q)
		}
	}
	s.failed = dropFront(s.failed, n)
}

// dropFront forgets the first n. The memory behind them is left with the next append that grows.
func dropFront(kept []retainedTask, n int) []retainedTask {
	clear(kept[:n])
	return kept[n:]
}

// taskIndex has all tasks by id, also those of open transactions, so that each is added at the end.
type taskIndex struct {
	entries []indexEntry
	dead    int
}

type indexEntry struct {
	id   int64
	task *memoryTask // nil: removed
}

func (x *taskIndex) search(id int64) int {
	return sort.Search(len(x.entries), func(i int) bool { return x.entries[i].id >= id })
}

func (x *taskIndex) find(id int64) *memoryTask {
	if i := x.search(id); i < len(x.entries) && x.entries[i].id == id {
		return x.entries[i].task
	}
	return nil
}

func (x *taskIndex) add(t *memoryTask) {
	x.entries = append(x.entries, indexEntry{t.id, t})
}

func (x *taskIndex) remove(id int64) {
	i := x.search(id)
	if i == len(x.entries) || x.entries[i].id != id || x.entries[i].task == nil {
		return
	}
	x.entries[i].task = nil
	x.dead++
	if x.dead > len(x.entries)/2+64 {
		x.entries = slices.DeleteFunc(x.entries, func(e indexEntry) bool { return e.task == nil })
		x.dead = 0
	}
}
