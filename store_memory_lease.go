package anchor

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

func (s *memorySession) takeBack(ctx context.Context, names []string, limit int) (takenBack, error) {
	if err := ctx.Err(); err != nil {
		return takenBack{}, err
	}
	store := s.store
	store.mu.Lock()
	defer store.mu.Unlock()
	now := time.Now()
	if s.worker.leaseOver(now) {
		return takenBack{}, nil // what it took would be others' at once; the next heartbeat comes first
	}
	wanted := nameSet(names)
	var taken takenBack
	for _, w := range store.workers {
		if !w.leaseOver(now) {
			continue
		}
		w.gone = true // it cannot renew any more
		held := slices.SortedFunc(maps.Values(w.held), func(a, b *memoryTask) int { return cmp.Compare(a.id, b.id) })
		for _, t := range held {
			if taken.count >= limit {
				break
			}
			switch message := lostAttemptMessage(w.record.host, w.record.pid); {
			case t.cancelRequested:
				t.note(message, now)
				store.settle(t, StatusCancelled, now)
			case t.attemptsLeft():
				t.note(message, now)
				store.giveBack(t, now, now)
			case wanted[t.name]:
				store.letGo(t)
				store.hold(t, s.worker)
				t.exhausted = true
				taken.exhausted = append(taken.exhausted, t.claimed())
			default:
				continue // left to a worker that can call its hook
			}
			taken.count++
		}
	}
	store.forgetIdle()
	return taken, nil
}

// forgetIdle forgets the workers that are gone and hold nothing.
func (s *MemoryStore) forgetIdle() {
	s.workers = slices.DeleteFunc(s.workers, func(w *memoryWorker) bool { return w.gone && len(w.held) == 0 })
}
