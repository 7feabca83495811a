package anchor

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// maxUnwritten bounds how many ended attempts wait to be written; more make executors wait.
	maxUnwritten = 20_000
	// finishRows bounds one flush.
	finishRows = 5000

	lastFinishBackoff = time.Second
	// lastFinishTries bounds the tries of a worker that is shutting down.
	lastFinishTries = 5
)

// finisher writes how attempts ended: all that end during one flush go together in the next. A flush that fails is
// repeated until the lease is gone, when its tasks are others' to finish.
type finisher struct {
	worker *worker
	work   chan struct{} // a hint: something waits

	mu      sync.Mutex
	space   sync.Cond
	waiting []finishedAttempt
}

func newFinisher(w *worker) *finisher {
	f := &finisher{worker: w, work: make(chan struct{}, 1)}
	f.space.L = &f.mu
	return f
}

func (f *finisher) add(finished finishedAttempt) {
	f.mu.Lock()
	for len(f.waiting) >= maxUnwritten {
		f.space.Wait()
	}
	f.waiting = append(f.waiting, finished)
	f.mu.Unlock()
	select {
	case f.work <- struct{}{}:
	default:
	}
}

// run writes until ctx is done and nothing waits.
func (f *finisher) run(ctx context.Context) {
	for {
		if batch := f.next(); len(batch) > 0 {
			f.write(ctx, batch)
			continue
		}
		select {
		case <-f.work:
		case <-ctx.Done():
			if f.empty() {
				return
			}
		}
	}
}

func (f *finisher) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) == 0
}

func (f *finisher) next() []finishedAttempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.waiting), finishRows)
	if n == 0 {
		return nil
	}
	batch := f.waiting[:n:n]
	if n == len(f.waiting) {
		f.waiting = make([]finishedAttempt, 0, n)
	} else {
		f.waiting = f.waiting[n:]
	}
	f.space.Broadcast()
	return batch
}

func (f *finisher) write(ctx context.Context, batch []finishedAttempt) {
	w := f.worker
	base := context.WithoutCancel(ctx)
	backoff := 10 * time.Millisecond
	certain := true // no earlier try may have been committed
	for tries := 1; ; tries++ {
		lost, err := w.session.finish(base, batch)
		if err == nil {
			if !certain {
				lost = nil // most likely an earlier try has written them
			}
			w.finishes(batch, lost)
			w.claimsLost(lost)
			return
		}
		certain = certain && !errors.Is(err, ErrOutcomeUnknown) && !outcomeUnknown(err)
		batch = w.stillOurs(batch, certain)
		if len(batch) == 0 || ctx.Err() != nil && tries >= lastFinishTries {
			return
		}
		w.trouble("writing finished tasks failed, trying again", err)
		time.Sleep(backoff/2 + rand.N(backoff/2))
		backoff = min(2*backoff, lastFinishBackoff)
	}
}

// stillOurs drops what was claimed under a lease that is over. certain says that it was not written before.
func (w *worker) stillOurs(batch []finishedAttempt, certain bool) []finishedAttempt {
	kept := make([]finishedAttempt, 0, len(batch))
	var lost []int64
	for _, finished := range batch {
		if w.lease.holds(finished.task.workerID) {
			kept = append(kept, finished)
		} else if certain && finished.outcome != outcomeReleased {
			lost = append(lost, finished.task.id)
		}
	}
	w.claimsLost(lost)
	return kept
}
