package anchor

import (
	"context"
	"slices"
	"strings"
	"time"
)

func (s *MemoryStore) task(ctx context.Context, id int64) (*TaskInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropOutdated(time.Now())
	t := s.find(id)
	if t == nil {
		return nil, ErrTaskNotFound
	}
	return t.info(), nil
}

func (s *MemoryStore) tasks(ctx context.Context, q TaskQuery) ([]*TaskInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropOutdated(time.Now())
	entries := s.index.entries
	if q.Before > 0 {
		entries = entries[:s.index.search(q.Before)]
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultPageSize
	}
	page := []*TaskInfo{}
	for _, entry := range slices.Backward(entries) {
		if len(page) == limit {
			break
		}
		if t := entry.task; t != nil && t.insertedBy == nil && selects(q, t) {
			page = append(page, t.info())
		}
	}
	return page, nil
}

func selects(q TaskQuery, t *memoryTask) bool {
	return (q.Name == "" || q.Name == t.name) &&
		(q.Queue == "" || q.Queue == t.queue) &&
		(q.UniqueTag == "" || q.UniqueTag == t.tag) &&
		(len(q.Status) == 0 || slices.Contains(q.Status, t.status))
}

func (s *MemoryStore) stats(ctx context.Context) (*Stats, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.dropOutdated(now)
	stats := &Stats{Queues: make([]QueueStats, 0, len(s.queues))}
	for _, q := range s.queues {
		stats.Queues = append(stats.Queues, q.stats(now))
	}
	slices.SortFunc(stats.Queues, func(a, b QueueStats) int { return strings.Compare(a.Queue, b.Queue) })
	return stats, nil
}

func (q *memoryQueue) stats(now time.Time) QueueStats {
	stats := QueueStats{Queue: q.name, Paused: q.paused, PausedSince: shown(q.pausedSince), Running: int64(q.running), Failed: int64(q.failed)}
	count := func(t *memoryTask) {
		if t.nextRun.After(now) {
			stats.Scheduled++
			return
		}
		stats.Ready++
		stats.OldestReady = max(stats.OldestReady, now.Sub(t.nextRun))
	}
	for _, lane := range q.lanes {
		for _, t := range lane.ready.tasks {
			count(t)
		}
		for _, t := range lane.scheduled.tasks {
			count(t)
		}
	}
	for t := range q.locked {
		count(t)
	}
	return stats
}
