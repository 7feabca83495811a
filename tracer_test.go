package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

type traceKey struct{}

// recordingTracer notes what it is told, and passes on a number as the trace.
type recordingTracer struct {
	carrier func(ctx context.Context) map[string]string
	mu      sync.Mutex
	lines   []string
}

func (r *recordingTracer) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recordingTracer) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

func (r *recordingTracer) TraceEnqueueStart(ctx context.Context, data TraceEnqueueStart) (context.Context, map[string]string) {
	r.note("enqueue %s in %s, %d, tx %v, within %v", data.Name, data.Queue, data.Count, data.InTx, ctx.Value(traceKey{}))
	return context.WithValue(ctx, traceKey{}, "enqueue "+data.Name), r.carrier(ctx)
}

func (r *recordingTracer) TraceEnqueueEnd(ctx context.Context, data TraceEnqueueEnd) {
	r.note("enqueued %v, error %v, within %v", data.IDs, data.Err != nil, ctx.Value(traceKey{}))
}

func (r *recordingTracer) TraceAttemptStart(ctx context.Context, data TraceAttemptStart) context.Context {
	r.note("attempt %d/%d of %s %d in %s, carrier %v", data.Attempt, data.MaxAttempts, data.Name, data.TaskID, data.Queue, data.Carrier)
	return context.WithValue(ctx, traceKey{}, fmt.Sprintf("attempt of %s", data.Name))
}

func (r *recordingTracer) TraceAttemptEnd(ctx context.Context, data TraceAttemptEnd) {
	r.note("ended %s, error %v, retry %v, within %v", data.Outcome, data.Err, data.RetryAfter, ctx.Value(traceKey{}))
}

func TestTracerSeesEnqueuesAndAttempts(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	for name, store := range map[string]Store{"postgres": rig.store, "memory": NewMemoryStore()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tracer := &recordingTracer{carrier: func(ctx context.Context) map[string]string {
				return map[string]string{"parent": fmt.Sprint(ctx.Value(traceKey{}))}
			}}
			var client *Client
			follow := Define("Follow", func(context.Context, pgx.Tx, *noParams) error { return nil }, WithQueue("later"))
			flaky := Define("Flaky", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
				if task, ok := TaskFromContext(ctx); !ok || task.Attempts == 1 {
					return RetryAfter(0, errors.New("no"))
				}
				_, err := follow.RunWithTx(ctx, client, tx, &noParams{})
				return err
			}, WithRetryPolicy("1ms", 3))
			var err error
			client, err = New(store, WithTasks(follow, flaky), WithTracer(tracer), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := flaky.RunMany(t.Context(), client, []*noParams{nil, {}}); err == nil {
				t.Fatal("no error")
			}
			ids, err := flaky.RunMany(context.WithValue(t.Context(), traceKey{}, "request"), client, []*noParams{{}})
			if err != nil {
				t.Fatal(err)
			}
			stop := rig.startWork(client, WithConcurrency(1))
			var followID int64
			eventually(t, "the follow-up", func() bool {
				tasks, err := client.Tasks(t.Context(), TaskQuery{Name: "Follow", Status: []Status{StatusCompleted}})
				if err != nil {
					t.Fatal(err)
				}
				if len(tasks) == 0 {
					return false
				}
				followID = tasks[0].ID
				return true
			})
			stop()
			id := ids[0]
			want := []string{
				"enqueue Flaky in default, 2, tx false, within <nil>",
				"enqueued [], error true, within enqueue Flaky",
				"enqueue Flaky in default, 1, tx false, within request",
				fmt.Sprintf("enqueued [%d], error false, within enqueue Flaky", id),
				fmt.Sprintf("attempt 1/3 of Flaky %d in default, carrier map[parent:request]", id),
				"ended retried, error no, retry 0s, within attempt of Flaky",
				fmt.Sprintf("attempt 2/3 of Flaky %d in default, carrier map[parent:request]", id),
				"enqueue Follow in later, 1, tx true, within attempt of Flaky",
				fmt.Sprintf("enqueued [%d], error false, within enqueue Follow", followID),
				"ended completed, error <nil>, retry 0s, within attempt of Flaky",
				fmt.Sprintf("attempt 1/10 of Follow %d in later, carrier map[parent:attempt of Flaky]", followID),
				"ended completed, error <nil>, retry 0s, within attempt of Follow",
			}
			if diff := cmp.Diff(want, tracer.taken()); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
		})
	}
}

// brokenTracer panics wherever it can.
type brokenTracer struct{}

func (brokenTracer) TraceEnqueueStart(context.Context, TraceEnqueueStart) (context.Context, map[string]string) {
	panic(canary)
}

func (brokenTracer) TraceEnqueueEnd(context.Context, TraceEnqueueEnd) { panic(canary) }

func (brokenTracer) TraceAttemptStart(context.Context, TraceAttemptStart) context.Context {
	panic(canary)
}

func (brokenTracer) TraceAttemptEnd(context.Context, TraceAttemptEnd) { panic(canary) }

func TestTracerThatPanicsHarmsNoTask(t *testing.T) {
	t.Parallel()
	rig := &pgRig{t: t, logs: &testLog{}}
	task := Define("Traced", func(context.Context, pgx.Tx, *noParams) error { return nil })
	client, err := New(NewMemoryStore(), WithTasks(task), WithTracer(brokenTracer{}), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
	if err != nil {
		t.Fatal(err)
	}
	stop := rig.startWork(client)
	if info := rig.ended(client, enqueue(rig, client, task, &noParams{})); info.Status != StatusCompleted || info.Attempts != 1 {
		t.Errorf("status %s after %d attempts", info.Status, info.Attempts)
	}
	stop()
	if n := strings.Count(rig.logs.String(), "the tracer panicked"); n != 4 {
		t.Errorf("%d panics are logged, want 4", n)
	}
	if strings.Contains(rig.logs.String(), canary) {
		t.Error("the log has what the tracer panicked with")
	}
}

func TestTracerCarrierThatCannotBeStoredIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, carrier := range map[string]map[string]string{
		"too long":      {"a": strings.Repeat("x", maxCarrier)},
		"NUL":           {"a": "\x00"},
		"invalid UTF-8": {"\xff": "a"},
	} {
		if got := cleanCarrier(carrier); got != nil {
			t.Errorf("%s: a carrier of %d entries is kept", name, len(got))
		}
	}
	fits := map[string]string{"a": strings.Repeat("x", maxCarrier-1)}
	if diff := cmp.Diff(fits, cleanCarrier(fits)); diff != "" {
		t.Errorf("carrier (-want +got):\n%s", diff)
	}
}
