package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

// maxCarrier bounds what a [Tracer] may have travel with a task, keys and values together, in bytes.
const maxCarrier = 4096

// AttemptOutcome is how an attempt ended, as its worker decided it.
type AttemptOutcome string

// An attempt completes its task, fails with attempts left (retried) or for good, ends after [Client.Cancel], or has
// lost its claim to another worker, so that nothing of it is applied.
const (
	AttemptCompleted AttemptOutcome = "completed"
	AttemptRetried   AttemptOutcome = "retried"
	AttemptFailed    AttemptOutcome = "failed"
	AttemptCancelled AttemptOutcome = "cancelled"
	AttemptLost      AttemptOutcome = "lost"
)

var attemptOutcomes = []AttemptOutcome{AttemptCompleted, AttemptRetried, AttemptFailed, AttemptCancelled, AttemptLost}

// Tracer is told when enqueues and attempts start and end, for example to make spans of them. Its methods are called
// concurrently, on the path of every task, so they should be quick. A panic of one is logged and changes nothing else.
type Tracer interface {
	// TraceEnqueueStart is called before tasks are written. The context that it returns, derived from ctx, is the one
	// that TraceEnqueueEnd is given. The carrier travels with the tasks to TraceAttemptStart, in another process
	// possibly; it is text of up to 4 KiB in all, and left out when it is not.
	TraceEnqueueStart(ctx context.Context, data TraceEnqueueStart) (next context.Context, carrier map[string]string)
	TraceEnqueueEnd(ctx context.Context, data TraceEnqueueEnd)
	// TraceAttemptStart is called before a handler. The context that it returns, derived from ctx, is given to the
	// handler and to TraceAttemptEnd.
	TraceAttemptStart(ctx context.Context, data TraceAttemptStart) context.Context
	TraceAttemptEnd(ctx context.Context, data TraceAttemptEnd)
}

// TraceEnqueueStart describes one call of [Task.Run] or its sisters.
type TraceEnqueueStart struct {
	Name  string
	Queue string
	// Count is how many tasks are enqueued.
	Count int
	// InTx tells that the tasks are part of the caller's transaction.
	InTx bool
}

// TraceEnqueueEnd says what came of it.
type TraceEnqueueEnd struct {
	// IDs are the tasks', empty after an error.
	IDs []int64
	Err error
}

// TraceAttemptStart describes one attempt.
type TraceAttemptStart struct {
	TaskID      int64
	Name        string
	Queue       string
	Attempt     int // counted from 1
	MaxAttempts int // -1 is unlimited
	WorkerID    string
	CreatedAt   time.Time
	// DueAt is when the attempt was due.
	DueAt time.Time
	// Carrier is what TraceEnqueueStart gave, nil when there was nothing.
	Carrier map[string]string
}

// TraceAttemptEnd says what came of it. The outcome is yet to be written, unless the handler used its tx.
type TraceAttemptEnd struct {
	Outcome AttemptOutcome
	// Err is what the handler returned, or what ended the attempt otherwise; its text may hold anything.
	Err error
	// RetryAfter is how far away the next attempt is, for [AttemptRetried].
	RetryAfter time.Duration
}

// WithTracer tells t of every enqueue and attempt of this client. Defaults to none.
func WithTracer(t Tracer) ClientOption {
	return clientOption{
		text: "WithTracer",
		set: func(o *clientOptions) error {
			if t == nil {
				return errors.New("the tracer is nil")
			}
			o.tracer = t
			return nil
		},
	}
}

// safeTracer calls a Tracer whose panics and nil contexts harm nobody.
type safeTracer struct {
	Tracer
	logger *slog.Logger
}

func (t *safeTracer) enqueueStart(ctx context.Context, data TraceEnqueueStart) (next context.Context, carrier map[string]string) {
	next = ctx
	defer t.recover()
	traced, carrier := t.TraceEnqueueStart(ctx, data)
	if traced != nil {
		next = traced
	}
	return next, cleanCarrier(carrier)
}

func (t *safeTracer) enqueueEnd(ctx context.Context, data TraceEnqueueEnd) {
	defer t.recover()
	t.TraceEnqueueEnd(ctx, data)
}

func (t *safeTracer) attemptStart(ctx context.Context, data TraceAttemptStart) (next context.Context) {
	next = ctx
	defer t.recover()
	if traced := t.TraceAttemptStart(ctx, data); traced != nil {
		next = traced
	}
	return next
}

func (t *safeTracer) attemptEnd(ctx context.Context, data TraceAttemptEnd) {
	defer t.recover()
	t.TraceAttemptEnd(ctx, data)
}

func (t *safeTracer) recover() {
	if value := recover(); value != nil {
		t.logger.Error("anchor: the tracer panicked", "panic", fmt.Sprintf("%T", value))
	}
}

// cleanCarrier answers nil for a carrier that cannot be stored.
func cleanCarrier(carrier map[string]string) map[string]string {
	size := 0
	for key, value := range carrier {
		size += len(key) + len(value)
		if size > maxCarrier || !utf8.ValidString(key) || !utf8.ValidString(value) || strings.ContainsRune(key+value, 0) {
			return nil
		}
	}
	return carrier
}
