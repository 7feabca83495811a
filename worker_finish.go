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
	// heldShare bounds the time spent on them.
	heldShare = 10
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

	held []finishedAttempt // put aside: somebody else's transaction holds them, or they are refused
	over bool

	working context.Context // done once nothing is added any more
}

func newFinisher(w *worker) *finisher {
	f := &finisher{worker: w, work: make(chan struct{}, 1)}
	f.space.L = &f.mu
	return f
}

func (f *finisher) add(finished finishedAttempt) {
	f.mu.Lock()
	for !f.over && len(f.waiting)+len(f.held) >= maxUnwritten {
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
	defer f.close()
	f.working = ctx
	nextHeld := time.Now()
	var giveUp <-chan time.Time // on what was put aside
	for end.Err() == nil {
		if held := f.due(nextHeld); len(held) > 0 {
			began := time.Now()
			f.write(end, held)
			nextHeld = time.Now().Add(max(heldFinishPause, heldShare*time.Since(began)))
		}
		if batch := f.next(); len(batch) > 0 {
			completed := slices.DeleteFunc(slices.Clone(batch), func(a finishedAttempt) bool { return a.outcome != outcomeCompleted })
			others := slices.DeleteFunc(batch, func(a finishedAttempt) bool { return a.outcome == outcomeCompleted })
			f.write(end, completed)
			f.write(end, others)
			continue
		}
		waiting, held := f.left()
		if ctx.Err() != nil && !waiting {
			if !held {
				return
			}
			if giveUp == nil {
				giveUp = time.After(writingGrace)
			}
		}
		var again <-chan time.Time
		stop := ctx.Done()
		if held {
			again = time.After(time.Until(nextHeld))
		}
		if giveUp != nil {
			stop = nil
		}
		select {
		case <-f.work:
		case <-again:
		case <-stop:
		case <-giveUp:
			return
		case <-end.Done():
		}
	}
}

// due takes out what was put aside, once its time has come.
func (f *finisher) due(next time.Time) []finishedAttempt {
	if time.Now().Before(next) {
		return nil
	}
	return f.takeHeld()
}

// left tells whether anything waits, and whether anything was put aside.
func (f *finisher) left() (waiting, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) > 0, len(f.held) > 0
}

// close lets nobody wait for room any more.
func (f *finisher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.space.Broadcast()
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
	for len(batch) > 0 {
		lost, err := w.session.finish(ctx, batch)
		// What an earlier try may have written is most likely not lost.
		lost = without(lost, batch, func(a finishedAttempt) bool { return a.unsure })
		var held *heldError
		if errors.As(err, &held) {
			batch, err = f.putAside(batch, held.ids), nil
		}
		if err == nil {
			w.finishes(batch, lost)
			w.claimsLost(without(lost, batch, func(a finishedAttempt) bool { return a.outcome == outcomeReleased }))
			return
		}
		if len(batch) > 1 && refused(err) {
			// One of them is refused, by a trigger for example: the others must not wait for it.
			for _, half := range [][]finishedAttempt{batch[:len(batch)/2], batch[len(batch)/2:]} {
				f.write(ctx, half)
			}
			return
		}
		if errors.Is(err, ErrOutcomeUnknown) || outcomeUnknown(err) {
			for i := range batch {
				batch[i].unsure = true
			}
		}
		if batch = w.stillOurs(batch, !refused(err) && f.working.Err() == nil); len(batch) == 0 {
			return
		}
		w.trouble("writing finished tasks failed, trying again", err)
		if refused(err) {
			f.putAside(batch, []int64{batch[0].task.id})
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

// without leaves out of ids those of the attempts for which leaveOut is true.
func without(ids []int64, attempts []finishedAttempt, leaveOut func(finishedAttempt) bool) []int64 {
	if len(ids) == 0 {
		return nil
	}
	out := map[int64]bool{}
	for _, a := range attempts {
		if leaveOut(a) {
			out[a.task.id] = true
		}
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return out[id] })
}

// putAside keeps those of a batch that cannot be written now, and answers the others.
func (f *finisher) putAside(batch []finishedAttempt, ids []int64) []finishedAttempt {
	aside := make(map[int64]bool, len(ids))
	for _, id := range ids {
		aside[id] = true
	}
	var others []finishedAttempt
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, finished := range batch {
		if aside[finished.task.id] {
			finished.held = true
			f.held = append(f.held, finished)
		} else {
			others = append(others, finished)
		}
	}
	return others
}

// takeHeld takes out what was put aside.
func (f *finisher) takeHeld() []finishedAttempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := f.held
	f.held = nil
	f.space.Broadcast()
	return held
}

// refused tells that the database has answered and will answer the same again.
func refused(err error) bool {
	state := sqlState(err)
	return isDataError(err) || strings.HasPrefix(state, "P0") || strings.HasPrefix(state, "42")
}

// stillOurs drops what was claimed under a lease that is over, but for what was not started, where it is worth trying again:
// its token guards it, and until others take it back no attempt is counted.
func (w *worker) stillOurs(batch []finishedAttempt, again bool) []finishedAttempt {
	kept := make([]finishedAttempt, 0, len(batch))
	var lost []int64
	for _, finished := range batch {
		unstarted := finished.outcome == outcomeReleased
		if w.lease.holds(finished.task.workerID) || unstarted && again {
			kept = append(kept, finished)
		} else if !finished.unsure && !unstarted {
			lost = append(lost, finished.task.id)
		}
	}
	w.claimsLost(lost)
	return kept
}
