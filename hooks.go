package anchor

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Failure tells a failure hook what failed.
type Failure struct {
	// TaskID, Name, Queue and Attempt are the task's; Attempt is the last one's number.
	TaskID  int64
	Name    string
	Queue   string
	Attempt int
	// Err is what the handler returned, so that errors.Is and errors.As work on it, or what ended the
	// attempt otherwise: a panic, a timeout, a lost worker.
	Err error
	// At is when the hook was called.
	At time.Time
}

// FailureHook is called once a task has failed for good: its attempts are used up, or its error was [Fatal].
// What it writes through tx commits together with the status, once. Its ctx ends with the task's timeout.
// An error or a panic of the hook is recorded with the task, what it wrote is rolled back, and the task
// stays failed. Where the database is to blame, the hook is called again, and only the last call's writes are there:
// while the server lacks disk, memory or connections, as long as it takes; after a lost connection or a conflict with
// other transactions, up to five times. So what a hook does elsewhere may happen more than once. It is not called for
// a task whose stored parameters are no longer what the type allows, nor for a cancelled one. It may run in another
// process than the last attempt did.
type FailureHook[P any] func(ctx context.Context, tx pgx.Tx, failure Failure, params *P) error

// OnFailed sets the task's failure hook and returns the task. It is part of the declaration: call it once,
// before [New]. To post failures to a URL, give [Define] the option [WebhookOnFailed]; a task may have both.
func (t *Task[P]) OnFailed(hook FailureHook[P]) *Task[P] {
	switch {
	case hook == nil:
		t.def.mistake(errors.New("OnFailed: the hook is nil"))
	case t.def.onFailed != nil:
		t.def.mistake(errors.New("OnFailed: the task has a hook already"))
	default:
		t.def.onFailed = func(ctx context.Context, tx pgx.Tx, failure Failure, params any) error {
			return hook(ctx, tx, failure, params.(*P))
		}
	}
	return t
}
