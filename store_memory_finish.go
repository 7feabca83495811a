package anchor

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

func (s *memorySession) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	now := time.Now()
	var lost []int64
	for _, end := range batch {
		t := s.store.held(end.task)
		if t == nil {
			lost = append(lost, end.task.id)
			continue
		}
		s.store.endAttempt(t, end, now)
	}
	return lost, nil
}

func (s *MemoryStore) endAttempt(t *memoryTask, end finishedAttempt, now time.Time) {
	cancelled := t.cancelRequested
	switch end.outcome {
	case outcomeCompleted:
		s.settle(t, StatusCompleted, now)
	case outcomeFailed:
		t.note(end.message, now)
		s.settle(t, StatusFailed, now)
	case outcomeCancelled:
		t.note(end.message, now)
		s.settle(t, StatusCancelled, now)
	case outcomeRetried:
		t.note(end.message, now)
		if cancelled {
			s.settle(t, StatusCancelled, now)
			return
		}
		s.giveBack(t, now.Add(end.after), now)
	case outcomeReleased:
		if t.exhausted {
			// Its last attempt did start, and is not to be had again. It stays this worker's until the
			// session ends, and is another's to fail then.
			return
		}
		t.attempts--
		if cancelled {
			s.settle(t, StatusCancelled, now)
			return
		}
		s.giveBack(t, t.nextRun, now)
	}
}

// giveBack makes a running task pending again.
func (s *MemoryStore) giveBack(t *memoryTask, nextRun, now time.Time) {
	s.letGo(t)
	t.status, t.nextRun, t.workerID = StatusPending, nextRun, ""
	s.enter(t, now)
}

func (s *memorySession) fail(ctx context.Context, task *claimedTask, end finalFailure) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	store := s.store
	tx := &memoryTx{store: store, attempt: true}
	attempt := &memoryAttempt{task: task, tx: tx}
	defer attempt.abandon()
	hookErr := end.hookErr
	if end.hook != nil {
		if err := attempt.beginFailing(); err != nil {
			return err
		}
		hookErr = end.hook(ctx, tx)
		if errors.Is(hookErr, errHookStuck) || errors.Is(hookErr, errHookInterrupted) {
			return hookErr // nothing is recorded, the worker decides who tries again
		}
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	now := time.Now()
	t := store.held(task)
	if t == nil {
		return ErrClaimLost
	}
	if errors.As(hookErr, new(*hookTrouble)) {
		return hookErr
	}
	switch trouble := hookTroubleOf(tx.failedBy); {
	case tx.aborted() && trouble != nil:
		return trouble
	case hookErr != nil:
	case tx.ended:
		hookErr = errHandlerTxOver // a savepoint was cut off by its context
	case tx.aborted():
		hookErr = errHandlerTxFailed
	}
	t.note(end.message, now)
	if hookErr != nil {
		t.note(hookMessagePrefix+hookErr.Error(), now)
		tx.discard(now)
	}
	store.settle(t, StatusFailed, now)
	if hookErr == nil {
		tx.apply(now)
	}
	if len(end.next) > 0 {
		next := &memoryTx{store: store}
		_, _ = store.insert(next, end.next, now) // without a tag, nothing is in the way
		next.apply(now)
	}
	return nil
}

// memoryAttempt is the transaction of one attempt.
type memoryAttempt struct {
	task *claimedTask
	tx   *memoryTx
}

var _ attemptTx = (*memoryAttempt)(nil)

// begin needs no idle limit: a stopped process takes its store with it.
func (s *memorySession) begin(task *claimedTask, _ time.Duration) attemptTx {
	return &memoryAttempt{task: task, tx: &memoryTx{store: s.store, attempt: true}}
}

func (a *memoryAttempt) handler() pgx.Tx { return a.tx }

func (a *memoryAttempt) endUnused() bool {
	a.tx.store.mu.Lock()
	defer a.tx.store.mu.Unlock()
	used := a.tx.wrote || a.tx.aborted()
	if !used && !a.tx.ended {
		a.tx.end()
	}
	return !used
}

func (a *memoryAttempt) complete(ctx context.Context) error {
	store := a.tx.store
	store.mu.Lock()
	defer store.mu.Unlock()
	if err := a.tx.closed(); err != nil {
		return err
	}
	now := time.Now()
	if err := ctx.Err(); err != nil {
		a.tx.discard(now)
		return err
	}
	if a.tx.aborted() {
		a.tx.discard(now)
		return errHandlerTxFailed
	}
	t := store.held(a.task)
	if t == nil {
		a.tx.discard(now)
		return ErrClaimLost
	}
	store.settle(t, StatusCompleted, now)
	a.tx.apply(now)
	return nil
}

func (a *memoryAttempt) sever() { a.abandon() }

func (a *memoryAttempt) abandon() {
	a.tx.store.mu.Lock()
	defer a.tx.store.mu.Unlock()
	if !a.tx.ended {
		a.tx.discard(time.Now())
	}
}

// beginFailing frees within the transaction what the end of the task will free, so that its hook may enqueue
// a successor of the same tag.
func (a *memoryAttempt) beginFailing() error {
	s := a.tx.store
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.held(a.task)
	if t == nil {
		return ErrClaimLost
	}
	s.freeTag(a.tx, t, time.Now())
	return nil
}
