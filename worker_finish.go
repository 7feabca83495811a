package anchor

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxUnwritten bounds how many ended attempts wait to be written; more make executors wait.
	maxUnwritten = 20_000
	// finishRows bounds one flush.
	finishRows = 5000

	lastFinishBackoff = time.Second
	// heldFinishPause is the time between tries to write what others' transactions hold.
	heldFinishPause = 250 * time.Millisecond
)

// finisher writes how attempts ended: all that end during one flush go together in the next. A flush that fails is
// repeated until the lease is gone, when its tasks are others' to finish. What somebody else's transaction holds waits
// apart.
type finisher struct {
	worker *worker
	work   chan struct{} // a hint: something waits

	mu      sync.Mutex
	space   sync.Cond
	waiting []finishedAttempt

	held     []finishedAttempt // used by run alone
	nextHeld time.Time
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

// run writes until ctx is done and nothing waits. What cannot be written by the time that end is done is left to the
// end of the lease.
func (f *finisher) run(ctx, end context.Context) {
	var again <-chan time.Time
	for {
		if len(f.held) > 0 && !time.Now().Before(f.nextHeld) {
			held := f.held
			f.held, f.nextHeld = nil, time.Now().Add(heldFinishPause)
			f.write(end, held)
		}
		if batch := f.next(); len(batch) > 0 {
			completed := slices.DeleteFunc(slices.Clone(batch), func(a finishedAttempt) bool { return a.outcome != outcomeCompleted })
			others := slices.DeleteFunc(batch, func(a finishedAttempt) bool { return a.outcome == outcomeCompleted })
			f.write(end, completed)
			f.write(end, others)
			continue
		}
		if again = nil; len(f.held) > 0 {
			again = time.After(time.Until(f.nextHeld))
		}
		select {
		case <-f.work:
		case <-again:
		case <-end.Done():
			return
		case <-ctx.Done():
			if f.empty() && len(f.held) == 0 {
				return
			}
			if again != nil {
				select {
				case <-again:
				case <-end.Done():
				}
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

// write writes attempts of one kind, trying until the lease or ctx is over.
func (f *finisher) write(ctx context.Context, batch []finishedAttempt) {
	w := f.worker
	backoff := 10 * time.Millisecond
	certain := true // no earlier try may have been committed
	for len(batch) > 0 {
		lost, err := w.session.finish(ctx, batch)
		var held *heldError
		if errors.As(err, &held) {
			batch, err = f.putAside(batch, held.ids), nil
		}
		if err == nil {
			if !certain {
				lost = nil // most likely an earlier try has written them
			}
			w.finishes(batch, lost)
			w.claimsLost(lost)
			return
		}
		if certain && len(batch) > 1 && refused(err) {
			// One of them is refused, by a trigger for example: the others must not wait for it.
			for _, half := range [][]finishedAttempt{batch[:len(batch)/2], batch[len(batch)/2:]} {
				f.write(ctx, half)
			}
			return
		}
		certain = certain && !errors.Is(err, ErrOutcomeUnknown) && !outcomeUnknown(err)
		if batch = w.stillOurs(batch, certain); len(batch) == 0 {
			return
		}
		w.trouble("writing finished tasks failed, trying again", err)
		if len(batch) == 1 && refused(err) {
			batch[0].held = true
			f.held = append(f.held, batch[0])
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, lastFinishBackoff)
	}
}

// putAside keeps those of a batch that somebody else holds, and answers the others.
func (f *finisher) putAside(batch []finishedAttempt, held []int64) []finishedAttempt {
	if len(f.held) == 0 {
		f.nextHeld = time.Now().Add(heldFinishPause)
	}
	var others []finishedAttempt
	for _, finished := range batch {
		if slices.Contains(held, finished.task.id) {
			finished.held = true
			f.held = append(f.held, finished)
		} else {
			others = append(others, finished)
		}
	}
	return others
}

// refused tells that the database has answered and will answer the same again.
func refused(err error) bool {
	state := sqlState(err)
	return isDataError(err) || strings.HasPrefix(state, "P0") || strings.HasPrefix(state, "42")
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
