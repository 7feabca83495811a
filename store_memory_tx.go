package anchor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// memoryTx is a transaction, or a savepoint of one. What is done in it is a log of changes that reserve what
// they need at once, are undone in reverse order, and become visible when they are committed.
type memoryTx struct {
	store    *MemoryStore
	parent   *memoryTx // nil: this is the transaction itself
	mark     int       // of a savepoint: how long the log was
	attempt  bool      // commits and rolls back with its attempt only
	implicit bool      // lives for one call
	ended    bool

	// Of the transaction itself:
	log       []memoryChange
	wrote     bool          // even if it was undone since
	loosened  chan struct{} // closed when others may find free what they waited for; nil while nobody waits
	waitingOn *memoryTx
	waitingAt <-chan struct{} // the channel that waitingOn had then
	failedIn  *memoryTx       // this, or the savepoint, in which it was aborted: nothing goes on until that is rolled back
	failedBy  error           // why, as long as it is
}

// memoryChange is one entry of a log. Every method has the store's mutex.
type memoryChange interface {
	do(s *MemoryStore, now time.Time)
	undo(s *MemoryStore, now time.Time)
	commit(s *MemoryStore, now time.Time)
}

var errMemoryDeadlock = errors.New("anchor: deadlock: two transactions of the in-memory store wait for each other")

// run runs do in the transaction, all or nothing. While do names another transaction, it is undone and run
// again when that one has let go of something.
func (t *memoryTx) run(ctx context.Context, do func(root *memoryTx, now time.Time) (*memoryTx, error)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		loosened, err := t.try(do)
		if err != nil || loosened == nil {
			return err
		}
		select {
		case <-loosened:
		case <-ctx.Done():
			t.cutOff()
			return fmt.Errorf("anchor: waiting for another transaction to end: %w", ctx.Err())
		}
	}
}

func (t *memoryTx) try(do func(root *memoryTx, now time.Time) (*memoryTx, error)) (<-chan struct{}, error) {
	s := t.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := t.unusable(); err != nil {
		return nil, err
	}
	root, now := t.root(), time.Now()
	root.waitingOn = nil
	mark := len(root.log)
	blocker, err := do(root, now)
	switch {
	case err != nil:
		root.undo(mark, now)
		return nil, err
	case blocker != nil:
		root.undo(mark, now)
		for on := blocker; on != nil; on = on.blocker() {
			if on == root {
				t.abort(errMemoryDeadlock, now)
				return nil, errMemoryDeadlock
			}
		}
		if blocker.loosened == nil {
			blocker.loosened = make(chan struct{})
		}
		root.waitingOn, root.waitingAt = blocker, blocker.loosened
		return blocker.loosened, nil
	case root.implicit:
		root.apply(now)
	}
	return nil, nil
}

// cutOff ends a transaction whose wait was given up, as a connection is closed whose statement was cut off.
func (t *memoryTx) cutOff() {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	root := t.root()
	root.waitingOn = nil
	root.discard(time.Now())
}

// Below, the caller has the mutex.

func (t *memoryTx) root() *memoryTx {
	for t.parent != nil {
		t = t.parent
	}
	return t
}

// blocker is the transaction that t waits for, nil when it waits for none, or not any more.
func (t *memoryTx) blocker() *memoryTx {
	if on := t.waitingOn; on != nil && t.waitingAt == on.loosened {
		return on
	}
	return nil
}

// closed is an error when this or what it is a savepoint of has ended.
func (t *memoryTx) closed() error {
	for ; t != nil; t = t.parent {
		switch {
		case t.ended && t.attempt:
			return errHandlerTxOver
		case t.ended:
			return pgx.ErrTxClosed
		}
	}
	return nil
}

// abort is what an error does to a transaction, up to the rollback of the savepoint in which it came: what was done
// there is undone at once, so that nobody waits for it.
func (t *memoryTx) abort(why error, now time.Time) {
	root := t.root()
	if root.failedIn != nil {
		return
	}
	root.failedIn, root.failedBy = t, why
	root.undo(t.mark, now)
	root.loosen()
}

func (t *memoryTx) aborted() bool { return t.root().failedIn != nil }

// unusable is an error when nothing can be done in t.
func (t *memoryTx) unusable() error {
	if err := t.closed(); err != nil || !t.aborted() {
		return err
	}
	return &pgconn.PgError{
		Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "25P02",
		Message: "current transaction is aborted, commands ignored until end of transaction block",
	}
}

// within tells whether t is outer or a savepoint in it.
func (t *memoryTx) within(outer *memoryTx) bool {
	for ; t != nil; t = t.parent {
		if t == outer {
			return true
		}
	}
	return false
}

func (t *memoryTx) record(change memoryChange, now time.Time) {
	change.do(t.store, now)
	t.log = append(t.log, change)
	t.wrote = true
}

func (t *memoryTx) undo(mark int, now time.Time) {
	mark = min(mark, len(t.log))
	for _, change := range slices.Backward(t.log[mark:]) {
		change.undo(t.store, now)
	}
	clear(t.log[mark:])
	t.log = t.log[:mark]
}

func (t *memoryTx) apply(now time.Time) {
	for _, change := range t.log {
		change.commit(t.store, now)
	}
	t.end()
}

func (t *memoryTx) discard(now time.Time) {
	t.undo(0, now)
	t.end()
}

func (t *memoryTx) end() {
	t.ended, t.log = true, nil
	t.loosen()
}

func (t *memoryTx) loosen() {
	if t.loosened != nil {
		close(t.loosened)
		t.loosened = nil
	}
}

// taskInsert is a new task. Its tag is a change of its own.
type taskInsert struct{ task *memoryTask }

func (c *taskInsert) do(s *MemoryStore, _ time.Time)   { s.index.add(c.task) }
func (c *taskInsert) undo(s *MemoryStore, _ time.Time) { s.index.remove(c.task.id) }

func (c *taskInsert) commit(s *MemoryStore, now time.Time) {
	c.task.insertedBy = nil
	if c.task.status == StatusPending {
		s.enter(c.task, now)
		return
	}
	s.retain(c.task)
}

// insertedCancel cancels a task of the transaction's own.
type insertedCancel struct{ task *memoryTask }

func (c *insertedCancel) do(_ *MemoryStore, now time.Time) {
	c.task.status, c.task.finishedAt = StatusCancelled, now
}

func (c *insertedCancel) undo(*MemoryStore, time.Time) {
	c.task.status, c.task.finishedAt = StatusPending, time.Time{}
}

func (c *insertedCancel) commit(*MemoryStore, time.Time) {}

// pendingCancel cancels a pending task, and keeps it from being claimed until that is decided.
type pendingCancel struct {
	task *memoryTask
	tx   *memoryTx
}

func (c *pendingCancel) do(s *MemoryStore, _ time.Time) {
	q := s.queue(c.task.queue)
	q.remove(c.task)
	q.locked[c.task] = struct{}{}
	c.task.lockedBy = c.tx
}

func (c *pendingCancel) undo(s *MemoryStore, now time.Time) {
	delete(s.queue(c.task.queue).locked, c.task)
	c.task.lockedBy = nil
	s.enter(c.task, now)
}

func (c *pendingCancel) commit(s *MemoryStore, now time.Time) {
	q := s.queue(c.task.queue)
	delete(q.locked, c.task)
	c.task.lockedBy = nil
	s.settle(c.task, StatusCancelled, now)
	s.tidy(q)
}

// cancelRequest asks for the end of a task that was running when the request was made.
type cancelRequest struct{ task *memoryTask }

func (c *cancelRequest) do(*MemoryStore, time.Time)   {}
func (c *cancelRequest) undo(*MemoryStore, time.Time) {}

func (c *cancelRequest) commit(s *MemoryStore, now time.Time) {
	t := c.task
	switch {
	case t.lockedBy != nil: // another transaction cancels it
	case t.status == StatusPending: // retried since
		s.queue(t.queue).remove(t)
		s.settle(t, StatusCancelled, now)
		s.tidy(s.queue(t.queue))
	case t.status == StatusRunning:
		t.cancelRequested = true
		t.worker.session.tell(wakeup{cancelled: t.id})
	}
}
