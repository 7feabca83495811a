package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// This file is where enqueues and attempts are shown to metrics, tracer and log. Where there is none of them, a nil
// check is all that is paid.

// observe sets up what the options ask for, once the tasks are registered.
func (c *Client) observe(o *clientOptions) error {
	if o.tracer != nil {
		c.tracer = &safeTracer{o.tracer, c.logger}
	}
	if o.registerer == nil {
		return nil
	}
	m, err := registerMetrics(o.registerer)
	if err != nil {
		return err
	}
	c.metrics = m
	for _, task := range c.tasks {
		m.nameQueue(task.policy.queue)
		task.metrics = m.ofTask(task.name, task.policy.queue)
	}
	return nil
}

// enqueueStarts answers the context that the enqueue goes on with.
func (c *Client) enqueueStarts(ctx context.Context, task *registeredTask, options *runOptions, count int, inTx bool) context.Context {
	if c.tracer == nil {
		return ctx
	}
	ctx, options.trace = c.tracer.enqueueStart(ctx, TraceEnqueueStart{Name: task.name, Queue: options.queue, Count: count, InTx: inTx})
	return ctx
}

func (c *Client) enqueueFailed(ctx context.Context, err error) {
	if c.metrics != nil && storeFailed(err) {
		c.metrics.storeFailed()
	}
	if c.tracer != nil {
		c.tracer.enqueueEnd(ctx, TraceEnqueueEnd{Err: err})
	}
}

// enqueueEnds is told of tasks of one name and queue.
func (c *Client) enqueueEnds(ctx context.Context, task *registeredTask, tasks ...*newTask) {
	task.metrics.enqueued(tasks[0].queue, len(tasks))
	if c.tracer != nil {
		c.tracer.enqueueEnd(ctx, TraceEnqueueEnd{IDs: idsOf(tasks)})
	}
}

// storeFailed tells the errors of an enqueue that are the store's trouble, not the caller's.
func storeFailed(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) {
		return true
	}
	return !errors.Is(err, ErrTaskAlreadyExists) && !errors.Is(err, ErrInvalidParams) && !errors.Is(err, context.Canceled)
}

// attemptStarts answers the context for the handler.
func (w *worker) attemptStarts(a *attempt) context.Context {
	a.def.metrics.started(a.task, a.began())
	if w.client.tracer == nil {
		return &a.ctx
	}
	task := a.task
	a.traced = w.client.tracer.attemptStart(&a.ctx, TraceAttemptStart{
		TaskID: task.id, Name: task.name, Queue: task.queue, Attempt: int(task.attempt), MaxAttempts: int(task.maxAttempts),
		WorkerID: task.workerID, CreatedAt: task.createdAt, DueAt: task.nextRun, Carrier: task.carrier(),
	})
	return a.traced
}

func (t *claimedTask) carrier() map[string]string {
	if len(t.attributes) == 0 {
		return nil
	}
	var attributes taskAttributes
	if json.Unmarshal(t.attributes, &attributes) != nil {
		return nil
	}
	return attributes.Trace
}

// attemptEnds is told how an attempt ended, before that is written. Where no handler ran, took is 0.
func (w *worker) attemptEnds(a *attempt, outcome AttemptOutcome, err error, after time.Duration) {
	if a.params != nil {
		a.def.metrics.ran(outcome, a.took)
	}
	if a.traced != nil {
		w.client.tracer.attemptEnd(a.traced, TraceAttemptEnd{Outcome: outcome, Err: err, RetryAfter: after})
	}
	if outcome == AttemptCompleted && w.client.logCompleted {
		w.logger.Info("anchor: a task completed", attemptAttrs(a)...)
	}
}

// attemptAttrs are an attempt in the log, whose worker the logger has.
func attemptAttrs(a *attempt, more ...any) []any {
	return append([]any{
		slog.Int64("id", a.task.id), slog.String("task", a.task.name), slog.Int("attempt", int(a.task.attempt)), slog.Duration("duration", a.took),
	}, more...)
}

// finishes is told of attempts that are on record, unless their claim was lost.
func (w *worker) finishes(batch []finishedAttempt, lost []int64) {
	if w.client.metrics == nil {
		return
	}
	isLost := make(map[int64]bool, len(lost))
	for _, id := range lost {
		isLost[id] = true
	}
	for _, f := range batch {
		if !isLost[f.task.id] {
			w.client.tasks[f.task.name].metrics.settled(f.task, f.outcome)
		}
	}
}

// claimsLost is told of attempts whose end was not written because their claim was somebody else's.
func (w *worker) claimsLost(ids []int64) {
	w.client.metrics.lostClaims(len(ids))
	for _, id := range ids {
		w.logger.Warn("anchor: a task ended here although its claim was lost", "id", id)
	}
}

// trouble logs and counts a call to the store that failed.
func (w *worker) trouble(what string, err error, more ...any) {
	w.client.metrics.storeFailed()
	w.logger.Warn("anchor: "+what, append(more, errAttr(err))...)
}

// defaultSampleInterval is how old a sample of the queues' depths may be.
const defaultSampleInterval = 10 * time.Second

// sampleTimeout bounds a sample: it is not worth waiting for.
const sampleTimeout = 3 * time.Second

// sampleDepths brings the gauges of the queues up to date.
func (w *worker) sampleDepths(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	sample, err := w.session.sample(bounded, w.options.sampleInterval, w.client.metrics.queueNames())
	if err != nil {
		if ctx.Err() == nil {
			w.trouble("sampling the depth of the queues failed", err)
		}
		return
	}
	w.depth.Store(sample)
}
