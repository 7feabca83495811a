package anchor

import "time"

// Below, the caller has the store's mutex.

// announce tells the workers that have a handler for it of a pending task.
func (s *MemoryStore) announce(t *memoryTask, now time.Time) {
	if q := s.queues[t.queue]; q != nil && q.paused {
		return
	}
	for _, session := range s.sessions {
		switch {
		case !session.names[t.name]:
		case t.nextRun.After(now):
			session.arm(t.nextRun, now)
		default:
			session.hint(t.queue)
		}
	}
}

// hint says that a queue may have ready tasks, unless that is the newest that the worker has yet to hear.
func (s *memorySession) hint(queue string) {
	hint := wakeup{queue: queue}
	waiting := len(s.awoken)
	if waiting > 0 && s.lastHint == hint || waiting >= cap(s.awoken)/2 {
		return
	}
	s.tell(hint)
}

func (s *memorySession) tell(hint wakeup) {
	if s.closed {
		return
	}
	select {
	case s.awoken <- hint:
		s.lastHint = hint
	default:
	}
}

// arm sees to it that the worker is woken at a time.
func (s *memorySession) arm(at, now time.Time) {
	if s.closed || !s.armedFor.IsZero() && !at.Before(s.armedFor) {
		return
	}
	s.armedFor = at
	if s.timer == nil {
		s.timer = time.AfterFunc(at.Sub(now), s.fallDue)
		return
	}
	s.timer.Reset(at.Sub(now))
}

// rearm hints at the queues that have ready tasks, and arms the timer for the next task that falls due.
func (s *memorySession) rearm(now time.Time) {
	s.armedFor = time.Time{}
	for name, q := range s.store.queues {
		if q.paused {
			continue
		}
		ready, next := q.due(s.names, now)
		if ready {
			s.hint(name)
		}
		if !next.IsZero() {
			s.arm(next, now)
		}
	}
}

// fallDue is what the timer calls. It takes the mutex itself.
func (s *memorySession) fallDue() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if !s.closed {
		s.rearm(time.Now())
	}
}
