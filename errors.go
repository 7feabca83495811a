package anchor

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrTaskAlreadyExists is what enqueuing answers when another task holds the unique tag.
	// The error is a [*TaskExistsError], which holds that task's id.
	ErrTaskAlreadyExists = errors.New("anchor: a task with this unique tag already exists")

	// ErrTaskNotFound is what queries and management answer for an id that no task has, for example
	// because its retention is over.
	ErrTaskNotFound = errors.New("anchor: no such task")

	// ErrTaskNotRegistered is what enqueuing answers for a task that was not given to [New] through [WithTasks].
	ErrTaskNotRegistered = errors.New("anchor: the task is not registered with this client")

	// ErrInvalidParams is what enqueuing answers for parameters that cannot be stored or that the task's
	// type forbids. The error is a [*ValidationError].
	ErrInvalidParams = errors.New("anchor: invalid parameters")

	// ErrTaskNotCancellable is what [Client.Cancel] answers for a task that has ended.
	ErrTaskNotCancellable = errors.New("anchor: only a pending or running task can be cancelled")

	// ErrTaskNotRetryable is what [Client.Retry] answers for a task that has not failed and was not cancelled.
	ErrTaskNotRetryable = errors.New("anchor: only a failed or cancelled task can be retried")

	// ErrCronNotFound is what schedule management answers for a name that no schedule has.
	ErrCronNotFound = errors.New("anchor: no such schedule")

	// ErrClaimLost ends an attempt whose task belongs to somebody else by now: its lease was over and
	// another worker took it. Nothing that the attempt wrote through its tx is applied. It is also the
	// cause ([context.Cause]) of a handler's context that was cancelled for this reason.
	ErrClaimLost = errors.New("anchor: the claim on this task is lost")

	// ErrOutcomeUnknown is what a write answers when the connection died between the statement and its
	// answer: it may be durable or not at all, never in part.
	ErrOutcomeUnknown = errors.New("anchor: the connection was lost before the database answered, the outcome is unknown")

	// ErrNotMigrated is what a call answers while the schema is missing, or lacks what that call needs because it is of
	// another version. [Client.Work] and [PGStore.CheckMigrated] compare the versions themselves; others go on with
	// a schema that has what they need. See [PGStore.Migrate].
	ErrNotMigrated = errors.New("anchor: the database is not migrated for this version")

	// ErrNoTransaction is what a tx of the in-memory store answers to SQL.
	ErrNoTransaction = errors.New("anchor: the in-memory store has no SQL transaction")

	// ErrCancelled is the cause ([context.Cause]) of the context of a handler whose task was cancelled.
	ErrCancelled = errors.New("anchor: the task was cancelled")

	// ErrTimeout is the cause ([context.Cause]) of the context of a handler that ran past its timeout.
	ErrTimeout = errors.New("anchor: the attempt's timeout is over")

	// ErrShutdown is the cause ([context.Cause]) of the context of a handler that was still running when
	// the shutdown timeout of [Client.Work] was over.
	ErrShutdown = errors.New("anchor: the worker is shutting down")
)

// prefixed says whose error it is. nil is nil.
func prefixed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("anchor: %w", err)
}

// TaskExistsError says which task holds a unique tag. errors.Is(err, ErrTaskAlreadyExists) is true of it.
type TaskExistsError struct {
	// Tag is the unique tag asked for.
	Tag string
	// ID is the task that has it. It is 0 when the holder is not visible to the caller's transaction
	// (isolation level repeatable read or above).
	ID int64
}

func (e *TaskExistsError) Error() string {
	if e.ID == 0 {
		return fmt.Sprintf("anchor: unique tag %q is held by a task that this transaction cannot see", e.Tag)
	}
	return fmt.Sprintf("anchor: unique tag %q is held by task %d", e.Tag, e.ID)
}

// Unwrap returns [ErrTaskAlreadyExists].
func (e *TaskExistsError) Unwrap() error { return ErrTaskAlreadyExists }

// Violation is one rule that parameters break.
type Violation struct {
	// Pointer is the JSON pointer (RFC 6901) of the offending value, "" for the whole.
	Pointer string
	// Message says which rule is broken. It never quotes the value.
	Message string
}

// ValidationError lists every violation of a task's parameters. errors.Is(err, ErrInvalidParams) is true of it.
type ValidationError struct {
	// Task is the task's name.
	Task string
	// Index is the place in the params of [Task.RunMany], 0 for a single task. RunMany joins several of these errors.
	Index int
	// Violations has at least one entry.
	Violations []Violation
}

func (e *ValidationError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "anchor: invalid parameters of task %q: ", e.Task)
	for i, v := range e.Violations {
		if i > 0 {
			b.WriteString("; ")
		}
		if v.Pointer != "" {
			b.WriteString(v.Pointer)
			b.WriteString(": ")
		}
		b.WriteString(v.Message)
	}
	return b.String()
}

// Unwrap returns [ErrInvalidParams].
func (e *ValidationError) Unwrap() error { return ErrInvalidParams }
