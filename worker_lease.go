package anchor

import (
	"context"
	"sync"
	"time"
)

const (
	maxMaintenanceInterval = 3 * time.Second
	pruneInterval          = time.Minute
	takeBackLimit          = 1000
)

// leaseState is until when, by this process's monotonic clock, a worker may trust its lease. The time is taken
// before the renewal is sent, so it ends here no later than in the database. A lease that was once seen to be over
// stays so: attempts may have been dropped for it, so the same worker must not live on.
type leaseState struct {
	mu       sync.Mutex
	workerID string
	until    time.Time
	ended    bool
}

// renewed is false when the lease was seen to be over before the renewal came.
func (l *leaseState) renewed(workerID string, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended && l.workerID == workerID {
		return false
	}
	l.workerID, l.until, l.ended = workerID, until, false
	return true
}

// holds tells whether what was claimed under workerID is still this worker's.
func (l *leaseState) holds(workerID string) bool {
	return l.heldAt(workerID, time.Now())
}

// heldAt is holds for a caller that has just looked at the clock.
func (l *leaseState) heldAt(workerID string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = l.ended || !now.Before(l.until)
	return !l.ended && l.workerID == workerID
}

// over tells whether the lease has ended unrenewed.
func (l *leaseState) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = l.ended || !time.Now().Before(l.until)
	return l.ended
}

// keepLease renews the lease every third of it. When that fails for too long, or somebody else has taken the tasks,
// the handlers that hold them are told, and the worker goes on under a new id.
func (w *worker) keepLease(ctx context.Context) {
	third := w.options.lease / 3
	next := third
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		next = third
		began := time.Now()
		beat, err := w.session.heartbeat(ctx, w.lease.over())
		if err == nil && w.lease.renewed(beat.workerID, began.Add(w.options.lease)) {
			w.session.adopt(beat.workerID)
			w.running.loseClaims(beat.workerID)
			for _, id := range beat.cancelled {
				w.running.cancelTask(id)
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			next = 0 // the answer came too late for a lease that is over here
			continue
		}
		w.trouble("renewing the lease failed, trying again", err)
		next = min(third, time.Second)
	}
}

// maintain takes back the tasks of dead workers, drops what was kept long enough and, for the metrics, samples how
// deep the queues are. Every worker does.
func (w *worker) maintain(ctx context.Context) {
	interval := min(w.options.lease/5, maxMaintenanceInterval)
	nextPrune := time.Now().Add(pruneInterval / 2)
	var nextSample time.Time
	for {
		if now := time.Now(); w.client.metrics != nil && now.After(nextSample) {
			nextSample = now.Add(w.options.sampleInterval)
			w.sampleDepths(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval - interval/10 + time.Duration(jitter()*float64(interval/5))):
		}
		w.takeBack(ctx)
		if now := time.Now(); now.After(nextPrune) {
			nextPrune = now.Add(pruneInterval)
			if err := w.session.prune(ctx); err != nil && ctx.Err() == nil {
				w.trouble("pruning failed", err)
			}
		}
	}
}

func (w *worker) takeBack(ctx context.Context) {
	for ctx.Err() == nil {
		names := w.names
		if w.intake.crowded() {
			names = []string{} // exhausted tasks are left to others, or to later
		}
		taken, err := w.session.takeBack(ctx, names, takeBackLimit)
		if err != nil {
			if ctx.Err() == nil {
				w.trouble("taking back tasks of dead workers failed", err)
			}
			return
		}
		if taken.count > 0 {
			w.client.metrics.tookBack(taken.count)
			w.logger.Warn("anchor: took back tasks of a worker that stopped responding", "tasks", taken.count, "exhausted", len(taken.exhausted))
		}
		w.start(taken.exhausted)
		if taken.count < takeBackLimit {
			return
		}
	}
}
