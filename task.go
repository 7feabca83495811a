package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// Status is where a task is in its life.
type Status string

// A task is pending until it is claimed, running until its attempt ends, and then pending again (a retry) or
// in one of the three final statuses.
const (
	StatusPending   Status = "pending"
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
)

// Final tells whether a task of this status has ended.
func (s Status) Final() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// AttemptError is what one failed attempt left behind.
type AttemptError struct {
	// Attempt counts from 1.
	Attempt int `json:"attempt"`
	// At is when the failure was recorded.
	At time.Time `json:"at"`
	// Message is the error's text, at most 16 KiB.
	Message string `json:"message"`
}

// TaskInfo is one task as it was when it was read. Times are zero where they do not apply.
type TaskInfo struct {
	ID          int64           `json:"id"`
	Name        string          `json:"name"`
	Queue       string          `json:"queue"`
	Priority    int             `json:"priority"`
	Status      Status          `json:"status"`
	Attempts    int             `json:"attempts"`        // started so far; the running one counts
	MaxAttempts int             `json:"maxAttempts"`     // -1 is unlimited
	Params      json.RawMessage `json:"params,omitzero"` // a JSON object
	UniqueTag   string          `json:"uniqueTag,omitzero"`
	CreatedAt   time.Time       `json:"createdAt"`
	NextRun     time.Time       `json:"nextRun"` // when it is, or was last, due
	// ScheduledFor is the tick that an instance of a schedule stands for.
	ScheduledFor time.Time      `json:"scheduledFor,omitzero"`
	StartedAt    time.Time      `json:"startedAt,omitzero"` // of the newest attempt
	FinishedAt   time.Time      `json:"finishedAt,omitzero"`
	WorkerID     string         `json:"workerId,omitzero"` // who runs it, or ended it
	Errors       []AttemptError `json:"errors,omitzero"`   // oldest first, at most the newest 100
}

// Handler does a task's work. params is never nil. tx is the task's own transaction: it begins with the
// first statement, and what is written through it commits together with the task's completion, or not at
// all. Commit and Rollback on it answer an error, they belong to the worker; Begin gives a savepoint. A nil
// error completes the task; any other fails the attempt, which is retried as the task's policy says (see
// [Fatal] and [RetryAfter]). ctx ends with the attempt's timeout, with [Client.Cancel], when the claim is
// lost and when the worker shuts down for good; [context.Cause] tells which. A handler runs concurrently with itself.
type Handler[P any] func(ctx context.Context, tx pgx.Tx, params *P) error

// Task is a declared task with parameters of type P. It is made by [Define], given to [New] through
// [WithTasks], and safe for concurrent use from then on.
type Task[P any] struct {
	def *taskDefinition
}

// AnyTask is a [Task] of any parameter type. Only this package implements it.
type AnyTask interface {
	// Name returns the name given to [Define].
	Name() string
	definition() *taskDefinition
}

// taskDefinition is a Task with its type parameter erased.
type taskDefinition struct {
	name    string
	source  string // file:line of Define
	params  reflect.Type
	schema  *paramsSchema // nil when params cannot be described
	options taskOptions
	// decode also tells whether every field was there with a value of its own.
	decode   func(raw []byte) (params any, complete bool, err error)
	run      func(ctx context.Context, tx pgx.Tx, params any) error // nil: this process only enqueues it
	onFailed func(ctx context.Context, tx pgx.Tx, failure Failure, params any) error
	webhook  *webhookSender  // nil: none
	delivery *taskDefinition // what the webhook's deliveries are
	cron     *declaredCron   // nil: no declared schedule
	errs     []error         // mistakes of the declaration, for New
}

// Define declares a task: its name, unique within a [Client] and stored with each task, its handler and its
// options. A nil handler declares a task that this process only enqueues. P is a struct that encoding/json
// can write and read. Mistakes are reported by [New], with the file and line of this call.
func Define[P any](name string, handler Handler[P], opts ...TaskOption) *Task[P] {
	def := &taskDefinition{name: name, source: "unknown", params: reflect.TypeFor[P]()}
	if _, file, line, ok := runtime.Caller(1); ok {
		def.source = fmt.Sprintf("%s:%d", file, line)
	}
	var err error
	if def.options, err = resolveTaskOptions(opts); err != nil {
		def.mistake(err)
	}
	if err := checkName(name); err != nil {
		def.mistake(err)
	}
	if err := checkParamsType(def.params); err != nil {
		def.mistake(err)
	} else if def.schema, err = newParamsSchema(def.params); err != nil {
		def.mistake(err)
	}
	if def.options.webhook != nil {
		def.declareWebhook(def.options.webhook)
	}
	var quick *quickDecoder
	if def.params.Kind() == reflect.Struct {
		quick = newQuickDecoder(def.params)
	}
	def.decode = func(raw []byte) (any, bool, error) {
		if quick != nil {
			params := new(P)
			if complete, ok := quick.decode(raw, params); ok {
				return params, complete, nil
			}
		}
		params := new(P)
		return params, false, decodeStrictly(raw, params)
	}
	if handler != nil {
		def.run = func(ctx context.Context, tx pgx.Tx, params any) error { return handler(ctx, tx, params.(*P)) }
	}
	return &Task[P]{def: def}
}

// Name returns the name given to [Define].
func (t *Task[P]) Name() string {
	if t.definition() == nil {
		return ""
	}
	return t.def.name
}

func (t *Task[P]) definition() *taskDefinition {
	if t == nil {
		return nil
	}
	return t.def
}

func (d *taskDefinition) mistake(err error) { d.errs = append(d.errs, err) }

// err joins the declaration's mistakes, nil when there is none.
func (d *taskDefinition) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%s: task %q: %w", d.source, d.name, errors.Join(d.errs...))
}

// checkName accepts 1 to 200 bytes of printable characters without spaces.
func checkName(name string) error {
	if err := checkText("name", name, maxNameLength); err != nil {
		return err
	}
	for _, r := range name {
		if !unicode.IsPrint(r) || unicode.IsSpace(r) {
			return fmt.Errorf("name %q holds a space or an unprintable character", name)
		}
	}
	return nil
}

type taskContextKey struct{}

// TaskFromContext returns the task whose handler or failure hook was given ctx, as it was claimed. It is
// false elsewhere. The TaskInfo is the caller's own.
func TaskFromContext(ctx context.Context) (*TaskInfo, bool) {
	task, ok := ctx.Value(taskContextKey{}).(*claimedTask)
	if !ok {
		return nil, false
	}
	return task.info(), true
}
