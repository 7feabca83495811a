// Program otel runs a task that fails once and then enqueues another, and sends one trace of all that to an
// OpenTelemetry collector.
package main

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/anchor-go/anchor"
)

// tracer makes spans of enqueues and attempts. The context of an enqueue's span travels with the task, so that its
// attempts, in whatever process they run, belong to the same trace.
type tracer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

var _ anchor.Tracer = (*tracer)(nil)

func newTracer(provider trace.TracerProvider) *tracer {
	return &tracer{provider.Tracer("github.com/anchor-go/anchor"), propagation.TraceContext{}}
}

func (t *tracer) TraceEnqueueStart(ctx context.Context, data anchor.TraceEnqueueStart) (context.Context, map[string]string) {
	ctx, _ = t.tracer.Start(ctx, "enqueue "+data.Name, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "anchor"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", data.Queue),
		attribute.String("anchor.task", data.Name),
		attribute.Int("messaging.batch.message_count", data.Count),
		attribute.Bool("anchor.in_transaction", data.InTx),
	))
	carrier := propagation.MapCarrier{}
	t.propagator.Inject(ctx, carrier)
	return ctx, carrier
}

func (t *tracer) TraceEnqueueEnd(ctx context.Context, data anchor.TraceEnqueueEnd) {
	span := trace.SpanFromContext(ctx)
	defer span.End()
	if data.Err != nil {
		span.SetStatus(codes.Error, fmt.Sprintf("%T", data.Err))
		return
	}
	span.SetAttributes(attribute.Int64Slice("anchor.task_ids", data.IDs))
}

func (t *tracer) TraceAttemptStart(ctx context.Context, data anchor.TraceAttemptStart) context.Context {
	ctx = t.propagator.Extract(ctx, propagation.MapCarrier(data.Carrier))
	ctx, _ = t.tracer.Start(ctx, "run "+data.Name, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.system", "anchor"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", data.Queue),
		attribute.String("anchor.task", data.Name),
		attribute.Int64("anchor.task_id", data.TaskID),
		attribute.Int("anchor.attempt", data.Attempt),
		attribute.String("anchor.worker", data.WorkerID),
	))
	return ctx
}

// TraceAttemptEnd tells the kind of an error, not its text, which may hold what the task's parameters held.
func (t *tracer) TraceAttemptEnd(ctx context.Context, data anchor.TraceAttemptEnd) {
	span := trace.SpanFromContext(ctx)
	defer span.End()
	span.SetAttributes(attribute.String("anchor.outcome", string(data.Outcome)))
	switch data.Outcome {
	case anchor.AttemptRetried, anchor.AttemptFailed, anchor.AttemptLost:
		span.SetStatus(codes.Error, fmt.Sprintf("%T", data.Err))
	}
}
