package anchor

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	firstFailBackoff = 50 * time.Millisecond
	lastFailBackoff  = 2 * time.Second

	// maxHookCalls bounds how often a hook is called whose transaction cannot commit, or that others are in the way of.
	maxHookCalls = 5
)

// failForGood records the final failure of a task together with what its hook writes and the delivery to its webhook.
// params is nil when they were not decoded yet; when today's type forbids them, there is no hook to call.
func (w *worker) failForGood(task *claimedTask, def *registeredTask, policy taskPolicy, params any, failure attemptFailure) {
	message := failure.message
	hook := def.onFailed
	if hook != nil && params == nil {
		decoded, err := def.load(task.params)
		if err != nil {
			hook = nil
		}
		params = decoded
	}
	var next []*newTask
	var delivery *registeredTask
	if def.webhook != nil {
		delivery = w.client.tasks[def.delivery.name]
		prepared, err := def.webhook.prepare(delivery, task, failure.brief)
		if err != nil {
			w.logger.Error("anchor: a delivery to a webhook could not be made", "id", task.id, "task", task.name, "error", errorKind(err))
		} else {
			next = []*newTask{prepared}
		}
	}
	if hook == nil && next == nil && !task.exhausted {
		w.finisher.add(finishedAttempt{task: task, outcome: outcomeFailed, message: message})
		return
	}
	var call func(ctx context.Context, tx pgx.Tx) error
	calls := 0
	var hookErr error
	if hook != nil {
		call = func(_ context.Context, tx pgx.Tx) error {
			calls++
			return callHook(w.running.base, policy.timeout, w.options.handlerGrace, task, func(ctx context.Context) error {
				return hook(ctx, tx, Failure{
					TaskID: task.id, Name: task.name, Queue: task.queue, Attempt: int(task.attempt), Err: failure.err, At: time.Now(),
				}, params)
			})
		}
	}
	backoff := firstFailBackoff
	certain := true
	for w.lease.holds(task.workerID) {
		err := w.session.fail(w.end, task,
			finalFailure{message: message, idle: w.idleLimit(policy.timeout), hook: call, hookErr: hookErr, next: next})
		var trouble *hookTrouble
		switch {
		case err == nil:
			def.metrics.settled(task, outcomeFailed)
			if next != nil {
				delivery.metrics.enqueued(next[0].queue, len(next))
			}
			return
		case errors.Is(err, ErrClaimLost):
			if certain {
				w.claimsLost([]int64{task.id})
			}
			return
		case errors.Is(err, errHookInterrupted):
			return // the lease ends with this worker, and another one calls the hook
		case errors.As(err, &trouble) && (trouble.server || calls < maxHookCalls):
			// Its text is the hook's, and not for the log.
			w.trouble("a failure hook met trouble of the database, calling it again", errors.New("SQLSTATE "+trouble.state), "id", task.id)
		case trouble != nil:
			call, hookErr = nil, errors.New(trouble.text)
			continue
		case call != nil && (calls >= maxHookCalls && !isConflict(err) && !serverTrouble(err) || errors.Is(err, errHookStuck) || errors.Is(err, errHookRowsOpen) || errors.Is(err, errHandlerTxEnded)):
			call, hookErr = nil, errors.New(err.Error())
			continue
		default:
			certain = certain && !outcomeUnknown(err)
			w.trouble("recording a final failure failed, trying again", err, "id", task.id)
		}
		select {
		case <-w.end.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastFailBackoff)
	}
	if certain {
		w.claimsLost([]int64{task.id})
	}
}

// errHookInterrupted is the end of a hook that the shutdown has cut short: the failure is recorded elsewhere.
var errHookInterrupted = errors.New("anchor: the worker shut down during the failure hook")

// callHook calls a hook in a goroutine of its own, so that neither a panic nor Goexit nor a hook that ignores its
// context harms the executor.
func callHook(ctx context.Context, timeout, grace time.Duration, task *claimedTask, hook func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, taskContextKey{}, task), timeout, ErrTimeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() {
			if value := recover(); value != nil {
				err = &panicError{value, debug.Stack()}
			}
			if trouble := hookTroubleOf(err); trouble != nil {
				err = trouble
			} else if err != nil {
				err = errors.New(errorText(err)) // what else it can do is its author's, and may panic
			}
			ended <- err
		}()
		err = hook(ctx)
	}()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), ErrShutdown) {
			grace = shutdownGrace
		}
		select {
		case err = <-ended:
		case <-time.After(grace):
			err = fmt.Errorf("%w of %v", errHookStuck, timeout)
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrShutdown) {
		return errors.Join(errHookInterrupted, err)
	}
	return err
}
