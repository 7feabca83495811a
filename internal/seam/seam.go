// Package seam is how the test harness reaches into package anchor without adding to what that exports. Package
// anchor fills [Anchor] in; nobody but anchortest uses it.
package seam

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Anchor is what package anchor lends to the harness. Its types are that package's, which this one cannot name.
var Anchor struct {
	// Watch makes of an anchor.Store one that w watches.
	Watch func(store any, w Watcher) any
	// Tune gives an *anchor.Client the source of its jitter, and tells failed of every error that an attempt
	// ended with.
	Tune func(client any, random func() float64, failed func(id int64, err error))
	// CanWork tells whether a client has a handler for any of its tasks.
	CanWork func(client any) bool
	// HasHook tells whether the declaration of a client's task has a failure hook.
	HasHook func(client any, name string) bool
	// NextDue is when the next task after now falls due that the client of a watched MemoryStore has a handler
	// for. It is false when there is none.
	NextDue func(client any, now time.Time) (time.Time, bool)
	// Begin starts a transaction of an anchor.Store.
	Begin func(ctx context.Context, store any) (pgx.Tx, error)
	// Abort does to a transaction of a MemoryStore, or a savepoint of one, what a statement does that fails with why.
	Abort func(tx pgx.Tx, why error)
}

// Task is a task that was enqueued.
type Task struct {
	ID      int64
	Name    string
	Delay   time.Duration
	StartAt time.Time // zero: Delay counts
}

// Attempt is a task that a worker has claimed.
type Attempt struct {
	ID           int64
	Token        int64 // of this claim
	Name         string
	Number       int // counted from 1
	Max          int // -1 is unlimited
	CreatedAt    time.Time
	NextRun      time.Time
	ScheduledFor time.Time
	// Exhausted attempts are not run: they are here to be failed, for a worker that died.
	Exhausted bool
	// Claim is the worker's own record of it, for [Session.Redeliver].
	Claim any
}

// Outcome is how an attempt ended.
type Outcome string

// Lost attempts left no trace: the claim was somebody else's by then, or their worker died. Released ones were
// never started.
const (
	Completed Outcome = "completed"
	Retried   Outcome = "retried"
	Failed    Outcome = "failed"
	Cancelled Outcome = "cancelled"
	Released  Outcome = "released"
	Lost      Outcome = "lost"
)

// End is how an attempt ended, and what was recorded of it.
type End struct {
	Outcome Outcome
	Message string
	After   time.Duration // of Retried
	Snoozed bool          // Retried because the handler asked for it
}

// ErrDied is what [Session.Commit] answers for an attempt whose worker is to die.
var ErrDied = errors.New("the worker died")

// Watcher is told what happens to a store, and has a say in it. Every method is called concurrently.
type Watcher interface {
	// Enqueued is called once tasks are durable or, when tx is not nil, part of tx.
	Enqueued(tx pgx.Tx, tasks []Task)
	// Cancelled is called once a pending task is cancelled, or a running one was asked to end; as Enqueued is.
	Cancelled(tx pgx.Tx, id int64)
	// Retried is called once a task that had ended is pending again.
	Retried(id int64)
	// Opened is called when a worker with ctx begins. The answer is that worker's; claim makes it claim again.
	Opened(ctx context.Context, claim func()) Session
}

// Session is a [Watcher] of one worker.
type Session interface {
	// Driven workers claim one task at a time, and only when MayClaim is true, which it may be for one claim only.
	Driven() bool
	MayClaim() bool
	// Redeliver is the Claim of an attempt that has ended and is to be delivered once more, nil for none.
	Redeliver() any
	// Claimed is called for each claim, NoneDue when there was nothing to claim.
	Claimed(a Attempt)
	NoneDue()
	// LeaseLost is asked at every heartbeat: true ends the lease.
	LeaseLost() bool

	// Tx gives the handler of a, or its hook, the transaction that it sees instead of tx.
	Tx(a Attempt, tx pgx.Tx, hook bool) pgx.Tx
	// Used tells whether the attempt has something to commit that tx does not know of.
	Used(a Attempt) bool
	// Commit is asked before an attempt that used its transaction completes. An error rolls back; it is ErrDied
	// or what the attempt ends with.
	Commit(a Attempt) error
	// Dead tells whether the worker of a has died, so that nothing more may be written for it.
	Dead(a Attempt) bool
	// Hook is called when the failure hook of a has returned.
	Hook(a Attempt, err error)
	// Ended is called once it is durable how a ended; for one that is lost perhaps more than once.
	Ended(a Attempt, end End)
}

// Tx is a transaction in front of another one, to which the store looks through it.
type Tx interface {
	pgx.Tx
	Inner() pgx.Tx
}
