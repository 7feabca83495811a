package anchor

import (
	"context"
	"slices"
	"time"
)

// memoryHints is how many wakeups may wait. When it is half full, hints of ready tasks are dropped, so that
// there is room for cancellations; those that still find none are told by the next heartbeat.
const memoryHints = 256

// memoryWorker is a worker as the others see it.
type memoryWorker struct {
	record     workerRecord
	session    *memorySession
	startedAt  time.Time
	leaseUntil time.Time
	held       map[int64]*memoryTask
	// gone is set when its lease was found over, or its session is closed: what it holds may be taken, and it
	// can claim no more.
	gone bool
}

func (w *memoryWorker) leaseOver(now time.Time) bool { return w.gone || !now.Before(w.leaseUntil) }

// memorySession is one worker's view of the store.
type memorySession struct {
	store  *MemoryStore
	names  map[string]bool // what it has handlers for
	awoken chan wakeup

	// Guarded by the store's mutex:
	worker    *memoryWorker
	next      *memoryWorker // registered, and not adopted yet
	lastFirst string        // the queue that came first in the last claim
	lastHint  wakeup
	timer     *time.Timer // for the next task that falls due
	armedFor  time.Time   // zero: not armed
	closed    bool
}

var _ session = (*memorySession)(nil)

func (s *MemoryStore) openSession(ctx context.Context, w workerRecord) (session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.names = slices.Clone(w.names)
	// The channel is made here so that it belongs to the synctest bubble of its worker.
	session := &memorySession{store: s, names: nameSet(w.names), awoken: make(chan wakeup, memoryHints)}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	session.worker = session.register(w, now)
	s.sessions = append(s.sessions, session)
	session.rearm(now)
	return session, nil
}

func nameSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// register begins the life of a worker. The caller has the mutex.
func (s *memorySession) register(record workerRecord, now time.Time) *memoryWorker {
	w := &memoryWorker{record: record, session: s, startedAt: now, leaseUntil: now.Add(record.lease), held: make(map[int64]*memoryTask)}
	s.store.workers = append(s.store.workers, w)
	return w
}

// heartbeat renews no lease that is over, even if nobody has taken the tasks yet: their handlers may have been
// told that the claims are lost. Whoever takes back next, this session included, makes them pending again.
func (s *memorySession) heartbeat(ctx context.Context, over bool) (heartbeat, error) {
	if err := ctx.Err(); err != nil {
		return heartbeat{}, err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	now := time.Now()
	if !s.closed && (over || s.worker.leaseOver(now)) {
		s.worker.gone = true
		record := s.worker.record
		record.id = newWorkerID()
		s.next = s.register(record, now)
		s.store.forgetIdle()
		return heartbeat{workerID: record.id}, nil
	}
	s.worker.leaseUntil = now.Add(s.worker.record.lease)
	beat := heartbeat{workerID: s.worker.record.id}
	for id, t := range s.worker.held {
		if t.cancelRequested {
			beat.cancelled = append(beat.cancelled, id)
		}
	}
	slices.Sort(beat.cancelled)
	return beat, nil
}

func (s *memorySession) adopt(workerID string) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if s.next != nil && s.next.record.id == workerID {
		s.worker, s.next = s.next, nil
	}
}

// claim looks at every queue, so hints and sweeps make no difference.
func (s *memorySession) claim(ctx context.Context, req claimRequest) (claimed, error) {
	if err := ctx.Err(); err != nil {
		return claimed{}, err
	}
	store := s.store
	store.mu.Lock()
	defer store.mu.Unlock()
	now := time.Now()
	if s.worker.leaseOver(now) {
		return claimed{}, ErrClaimLost
	}
	names := nameSet(req.names)
	var answer claimed
	first := true
	for _, q := range s.turns(req.queues) {
		limit := req.limit - len(answer.tasks)
		if limit <= 0 {
			answer.more = true
			break
		}
		tasks := q.take(names, limit, req.firstHand, now)
		if len(tasks) > 0 && first {
			s.lastFirst, first = q.name, false
		}
		for _, t := range tasks {
			if t.firstHand() {
				req.firstHand--
			}
			store.hold(t, s.worker)
			t.attempts++
			t.startedAt = now
			answer.tasks = append(answer.tasks, t.claimed())
		}
	}
	answer.more = answer.more || len(answer.tasks) >= req.limit || req.firstHand <= 0
	return answer, nil
}

// turns are the queues that may be claimed from. The one after that which came first last time comes first.
func (s *memorySession) turns(wanted []string) []*memoryQueue {
	var queues []*memoryQueue
	consider := func(q *memoryQueue) {
		if q != nil && !q.paused && q.pending > 0 {
			queues = append(queues, q)
		}
	}
	if len(wanted) == 0 {
		for _, q := range s.store.queues {
			consider(q)
		}
	}
	for i, name := range wanted {
		if !slices.Contains(wanted[:i], name) {
			consider(s.store.queues[name])
		}
	}
	slices.SortFunc(queues, func(a, b *memoryQueue) int {
		if aNext, bNext := a.name > s.lastFirst, b.name > s.lastFirst; aNext != bNext {
			if aNext {
				return -1
			}
			return 1
		}
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return queues
}

func (s *memorySession) prune(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	now := time.Now()
	s.store.dropOutdated(now)
	s.store.releaseOutdated(now)
	s.store.dropOldRuns(now)
	return nil
}

func (s *memorySession) wakeups() <-chan wakeup { return s.awoken }

// close leaves what is still claimed to whoever takes it back next: with the session, its worker is gone.
func (s *memorySession) close(context.Context) error {
	store := s.store
	store.mu.Lock()
	defer store.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.worker.gone = true, true
	if s.timer != nil {
		s.timer.Stop()
	}
	store.sessions = slices.DeleteFunc(store.sessions, func(other *memorySession) bool { return other == s })
	store.forgetIdle()
	return nil
}
