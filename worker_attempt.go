package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errGoexit       = errors.New("anchor: the handler ended its goroutine with runtime.Goexit")
	errHookRowsOpen = errors.New("anchor: the failure hook left the rows of a query open")
	errHookStuck    = errors.New("anchor: the failure hook did not return after its timeout")
)

// panicError is a panic of a handler or hook as the error of its attempt.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.value, e.stack) }

// Unwrap gives the error that the handler panicked with, if it was one.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// attempt is one run of a handler. Whoever sets taken first decides how it ended: its executor, or the watch that
// takes the task away from a handler that does not return.
type attempt struct {
	task   *claimedTask
	def    *registeredTask
	policy taskPolicy
	params any
	tx     attemptTx
	ctx    attemptContext
	traced context.Context // ctx as the tracer made it, nil without one
	took   time.Duration   // how long the handler ran, where somebody wants to know
	taken  atomic.Bool
	// endedAt is when its context was ended early, as Unix nanoseconds; 0 while it was not.
	endedAt atomic.Int64

	next, previous *attempt // in the set of those that run, which guards them
	listed         bool
}

// began is when the handler was called.
func (a *attempt) began() time.Time { return a.ctx.deadline.Add(-a.policy.timeout) }

// end ends the handler's context early.
func (a *attempt) end(cause error) {
	a.endedAt.CompareAndSwap(0, time.Now().UnixNano())
	a.ctx.end(cause)
}

// overdue is how long the handler has gone on after its context ended; negative while it has not ended.
func (a *attempt) overdue(now time.Time) time.Duration {
	overdue := now.Sub(a.ctx.deadline)
	if at := a.endedAt.Load(); at != 0 {
		overdue = max(overdue, now.Sub(time.Unix(0, at)))
	}
	return overdue
}

// execute is an executor: it takes tasks until there are none.
func (w *worker) execute() {
	for {
		task := w.intake.take()
		if task == nil {
			return
		}
		if !w.attempt(task) {
			return // another executor has this one's slot
		}
	}
}

// attempt runs one task and settles it. It is false when the slot was given to another executor meanwhile.
func (w *worker) attempt(task *claimedTask) (slotKept bool) {
	def := w.client.tasks[task.name]
	policy, err := def.policyOf(task)
	if task.exhausted {
		if !w.lease.holds(task.workerID) {
			return true // it is others' by now
		}
		w.client.failed(task.id, errAttemptsLost)
		failure := examine(errAttemptsLost)
		w.logger.Error("anchor: a task failed for good", attemptAttrs(&attempt{task: task}, slog.String("error", failure.kind))...)
		w.failForGood(task, def, policy, nil, failure)
		return true
	}
	var params any
	if err == nil {
		params, err = def.load(task.params)
	}
	if err != nil {
		if !w.lease.holds(task.workerID) {
			w.giveBack(task)
			return true
		}
		err = Fatal(fmt.Errorf("anchor: the stored parameters do not fit the task's type: %w", err))
		w.settle(&attempt{task: task, def: def, policy: policy}, err, nil)
		return true
	}
	now := time.Now()
	a := w.newAttempt(task, def, policy, params, now)
	w.running.add(a)
	if !w.lease.heldAt(task.workerID, now) { // lost before anybody could tell this attempt
		w.running.remove(a)
		a.ctx.end(nil)
		w.giveBack(task)
		return true
	}
	returned := false
	defer func() {
		if !returned { // a panic or Goexit; after Goexit this goroutine is lost
			if value := recover(); value != nil {
				err = &panicError{value, debug.Stack()}
			} else {
				err = errGoexit
				defer func() {
					if slotKept {
						w.intake.replace()
					}
				}()
			}
		}
		slotKept = w.conclude(a, err)
	}()
	err = pauseAt(pauseBeforeHandler, task.attempt)
	if err == nil {
		err = def.run(w.attemptStarts(a), a.tx.handler(), params)
	}
	if err == nil {
		err = pauseAt(pauseAfterHandler, task.attempt)
	}
	returned = true
	return
}

// errAttemptsLost ends a task whose last attempt went down with its worker.
var errAttemptsLost = errors.New("anchor: the worker stopped responding in the last attempt")

// policyOf is the definition's policy with what this task was enqueued with instead.
func (r *registeredTask) policyOf(task *claimedTask) (taskPolicy, error) {
	policy := r.policy
	policy.maxAttempts = int(task.maxAttempts)
	if len(task.attributes) == 0 {
		return policy, nil
	}
	var attributes taskAttributes
	if err := json.Unmarshal(task.attributes, &attributes); err != nil {
		return policy, errors.New("its attributes cannot be read")
	}
	if attributes.Retry != "" {
		retry, err := parseRetryPolicy(attributes.Retry)
		if err != nil {
			return policy, err
		}
		policy.retry = retry
	}
	if attributes.Timeout != "" {
		timeout, err := time.ParseDuration(attributes.Timeout)
		if err != nil {
			return policy, errors.New("its timeout is not a duration")
		}
		policy.timeout = timeout
	}
	return policy, nil
}

func (w *worker) newAttempt(task *claimedTask, def *registeredTask, policy taskPolicy, params any, now time.Time) *attempt {
	a := &attempt{task: task, def: def, policy: policy, params: params}
	a.ctx.base, a.ctx.task, a.ctx.deadline = w.running.base, task, now.Add(policy.timeout)
	a.tx = w.session.begin(task, w.idleLimit(policy.timeout))
	return a
}

// idleLimit bounds how long the database keeps a transaction whose process says nothing: no longer than the
// handler's own timeout allows. A reaper is faster where another worker lives.
func (w *worker) idleLimit(timeout time.Duration) time.Duration {
	return min(timeout+w.options.handlerGrace, 24*time.Hour)
}

// conclude settles an attempt whose handler has returned, unless the task was taken away from it.
func (w *worker) conclude(a *attempt, err error) (slotKept bool) {
	w.running.remove(a)
	if !a.taken.CompareAndSwap(false, true) {
		w.stuck.Add(-1)
		return false
	}
	if err != nil || w.timed {
		a.took = time.Since(a.began())
	}
	if err != nil {
		// A retry would apply again what such a handler has committed.
		if tx, ok := a.tx.(interface{ endedByHandler() bool }); ok && tx.endedByHandler() {
			err = Fatal(fmt.Errorf("%w, and then failed: %w", errHandlerTxEnded, err))
		}
	} else if !a.tx.endUnused() {
		err = a.tx.complete(context.WithoutCancel(w.running.base))
		if err == nil {
			a.ctx.end(nil)
			a.def.metrics.settled(a.task, outcomeCompleted)
			w.attemptEnds(a, AttemptCompleted, nil, 0)
			return true
		}
		if errors.Is(err, ErrClaimLost) {
			a.tx.abandon()
			a.ctx.end(nil)
			w.loses(a, err)
			return true
		}
	}
	if err == nil {
		a.ctx.end(nil)
		w.settle(a, nil, nil)
		return true
	}
	a.tx.abandon()
	cause := a.ctx.endedBy()
	a.ctx.end(nil)
	w.settle(a, err, cause)
	return true
}

// takeAway ends an attempt whose handler does not return: its slot goes to another executor, its transaction is cut,
// and the attempt has failed for the reason given.
func (w *worker) takeAway(a *attempt, reason error) {
	if !a.taken.CompareAndSwap(false, true) {
		return
	}
	w.stuck.Add(1)
	a.took = time.Since(a.began())
	w.running.remove(a)
	a.tx.sever()
	cause := a.ctx.endedBy()
	w.logger.Error("anchor: a handler ignores that its context has ended; its task is taken away from it", attemptAttrs(a)...)
	w.intake.replace()
	// The failure hook may take its time: the watch has other handlers to look after.
	w.aside.Go(func() { w.settle(a, reason, cause) })
}

// settle decides what follows an attempt: err is what it ended with, cause what ended its context early.
func (w *worker) settle(a *attempt, err, cause error) {
	if err == nil {
		w.attemptEnds(a, AttemptCompleted, nil, 0)
		w.finisher.add(finishedAttempt{task: a.task, outcome: outcomeCompleted})
		return
	}
	failure := examine(err)
	switch {
	case errors.Is(cause, ErrClaimLost):
		w.loses(a, err)
		return
	case errors.Is(cause, ErrCancelled):
		w.attemptEnds(a, AttemptCancelled, err, 0)
		w.finisher.add(finishedAttempt{task: a.task, outcome: outcomeCancelled, message: explained(failure, cause).message})
		return
	case errors.Is(cause, ErrTimeout) && failure.deadline:
		failure = examine(fmt.Errorf("%w after %v: %w", ErrTimeout, a.policy.timeout, err))
	case errors.Is(cause, ErrShutdown):
		failure = explained(failure, cause)
	}
	w.client.failed(a.task.id, failure.err)
	after, final := nextAttempt(failure, a.policy.retry, int(a.task.attempt), a.policy.maxAttempts, w.client.random())
	if final {
		w.attemptEnds(a, AttemptFailed, failure.err, 0)
		w.logger.Error("anchor: a task failed for good", attemptAttrs(a, slog.String("error", failure.kind))...)
		w.failForGood(a.task, a.def, a.policy, a.params, failure)
		return
	}
	if errors.Is(cause, ErrShutdown) {
		after = 0
	}
	w.attemptEnds(a, AttemptRetried, failure.err, after)
	w.logger.Warn("anchor: an attempt failed", attemptAttrs(a, slog.String("error", failure.kind))...)
	w.finisher.add(finishedAttempt{
		task: a.task, outcome: outcomeRetried, message: failure.message, after: after, asked: failure.asked,
	})
}

// explained joins what ended a handler's context to an error that says only that it had ended.
func explained(f attemptFailure, cause error) attemptFailure {
	enough := true
	_ = guarded(func() { enough = !errors.Is(f.err, context.Canceled) || errors.Is(f.err, cause) })
	if enough {
		return f
	}
	return examine(fmt.Errorf("%w: %w", cause, f.err))
}

// loses ends an attempt of which nothing is applied: its task is somebody else's by now.
func (w *worker) loses(a *attempt, err error) {
	w.attemptEnds(a, AttemptLost, err, 0)
	w.client.metrics.lostClaims(1)
	w.logger.Warn("anchor: an attempt lost its claim, nothing of it is applied", attemptAttrs(a)...)
}

// runningSet are the attempts whose handlers run. It is safe for concurrent use.
type runningSet struct {
	base context.Context // of every handler

	mu    sync.Mutex
	first *attempt // a list, as adding and removing is all that most attempts do
	count int
}

func (r *runningSet) add(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.next = r.first; a.next != nil {
		a.next.previous = a
	}
	r.first = a
	r.count++
	a.listed = true
}

func (r *runningSet) remove(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !a.listed {
		return
	}
	if a.previous != nil {
		a.previous.next = a.next
	} else {
		r.first = a.next
	}
	if a.next != nil {
		a.next.previous = a.previous
	}
	a.next, a.previous, a.listed = nil, nil, false
	r.count--
}

func (r *runningSet) all() []*attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	attempts := make([]*attempt, 0, r.count)
	for a := r.first; a != nil; a = a.next {
		attempts = append(attempts, a)
	}
	return attempts
}

// cancelTask ends the contexts of a task's handlers because somebody cancelled it.
func (r *runningSet) cancelTask(id int64) {
	for _, a := range r.all() {
		if a.task.id == id {
			a.end(ErrCancelled)
		}
	}
}

// loseClaims ends the contexts of all handlers whose claim is not workerID's.
func (r *runningSet) loseClaims(workerID string) {
	for _, a := range r.all() {
		if a.task.workerID != workerID {
			a.end(ErrClaimLost)
		}
	}
}

// watchInterval is how often a worker looks after its handlers and its buffer.
const watchInterval = 100 * time.Millisecond

// watch takes tasks away from handlers that ignore the end of their context, gives back what waits too long behind
// others, and ends the handlers of a lease that could not be renewed. It sleeps while no slot is taken: then nothing waits
// in the buffer either.
func (w *worker) watch(ctx context.Context) {
	timer := time.NewTimer(watchInterval)
	defer timer.Stop()
	for {
		if w.intake.busy() == 0 {
			select {
			case <-ctx.Done():
				return
			case <-w.intake.begun:
			}
		}
		timer.Reset(watchInterval)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if w.lease.over() {
			w.running.loseClaims("")
		}
		for _, task := range w.intake.stale() {
			w.giveBack(task)
		}
		now := time.Now()
		for _, a := range w.running.all() {
			if grace := w.options.handlerGrace; a.overdue(now) > grace {
				w.takeAway(a, fmt.Errorf("%w; the handler did not return within %v of it", a.ctx.endedBy(), grace))
			}
		}
	}
}
