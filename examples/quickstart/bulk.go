package main

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	bulkQueue = "quickstart-bulk"
	bulkRows  = 5_000

	firstBulkPause = 5 * time.Millisecond
	lastBulkPause  = 200 * time.Millisecond
)

// resizeMany enqueues n tasks and shows how they go until none is left.
func (s *signUp) resizeMany(ctx context.Context, n int, shown *progress) error {
	var written atomic.Int64
	enqueued := make(chan error, 1)
	go func() {
		// RunMany is the fastest way to enqueue: the worker runs the first of them while others still come.
		for start := 0; start < n; start += bulkRows {
			params := make([]*ResizeParams, min(bulkRows, n-start))
			for i := range params {
				params[i] = &ResizeParams{Picture: start + i}
			}
			if _, err := s.resize.RunMany(ctx, s.client, params); err != nil {
				enqueued <- err
				return
			}
			written.Add(int64(len(params)))
		}
		enqueued <- nil
	}()
	all, pause := false, firstBulkPause
	for {
		select {
		case err := <-enqueued:
			if err != nil {
				return err
			}
			all, enqueued = true, nil
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, lastBulkPause)
		before := written.Load()
		left, err := s.bulkLeft(ctx)
		if err != nil {
			return err
		}
		if all && left == 0 {
			shown.end()
			return nil
		}
		shown.show(int(max(before-left, 0)))
	}
}

// bulkLeft counts with the store, so that it is right with workers in other processes, too.
func (s *signUp) bulkLeft(ctx context.Context) (int64, error) {
	stats, err := s.client.Stats(ctx)
	if err != nil {
		return 0, err
	}
	for _, queue := range stats.Queues {
		if queue.Queue == bulkQueue {
			return queue.Ready + queue.Scheduled + queue.Running, nil
		}
	}
	return 0, nil
}
