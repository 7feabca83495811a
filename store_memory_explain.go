package anchor

import (
	"context"
	"slices"
	"time"
)

func (s *MemoryStore) explain(ctx context.Context, id int64) (*taskFacts, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.dropOutdated(now)
	t := s.find(id)
	if t == nil {
		return nil, ErrTaskNotFound
	}
	facts := &taskFacts{task: t.info(), now: shown(now), cancelRequested: t.cancelRequested, workers: s.shownWorkers(now)}
	facts.task.Params = nil
	if t.status == StatusPending {
		q := s.queue(t.queue)
		facts.pausedSince = shown(q.pausedSince)
		if !t.nextRun.After(now) {
			facts.ahead = q.ahead(t, maxAhead+1, now)
		}
	}
	return facts, nil
}

// ahead counts the due tasks that come before t, up to limit.
func (q *memoryQueue) ahead(t *memoryTask, limit int, now time.Time) int {
	count := 0
	// No child of a heap comes before its parent.
	var walk func(h *taskHeap, i int)
	walk = func(h *taskHeap, i int) {
		if count < limit && i < h.Len() && claimedBefore(h.tasks[i], t) {
			count++
			walk(h, 2*i+1)
			walk(h, 2*i+2)
		}
	}
	for _, lane := range q.lanes {
		lane.promote(now)
		walk(&lane.ready, 0)
	}
	return count
}

func (s *MemoryStore) workerInfos(ctx context.Context) ([]*WorkerInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shownWorkers(time.Now()), nil
}

func (s *MemoryStore) shownWorkers(now time.Time) []*WorkerInfo {
	workers := make([]*WorkerInfo, 0, len(s.workers))
	for _, w := range s.workers {
		r := w.record
		workers = append(workers, &WorkerInfo{
			ID: r.id, Host: r.host, PID: r.pid, Slots: r.slots, Held: len(w.held), Tasks: slices.Sorted(slices.Values(r.names)),
			Queues: slices.Clone(r.queues), StartedAt: shown(w.startedAt), LeaseUntil: shown(w.leaseUntil), Alive: !w.leaseOver(now),
		})
	}
	return workers
}
