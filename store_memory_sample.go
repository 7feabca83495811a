package anchor

import (
	"context"
	"fmt"
	"time"
)

// sample counts, which is cheap here: exact, and never older than now.
func (s *memorySession) sample(ctx context.Context, _ time.Duration, _ []string) (*depthSample, error) {
	stats, err := s.store.stats(ctx)
	if err != nil {
		return nil, err
	}
	sample := &depthSample{source: fmt.Sprintf("%p", s.store), at: time.Now()}
	for _, q := range stats.Queues {
		sample.queues = append(sample.queues, queueDepth{
			queue: q.Queue, ready: q.Ready, scheduled: q.Scheduled, running: q.Running, oldest: q.OldestReady,
		})
	}
	return sample, nil
}
