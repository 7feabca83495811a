package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// canary is what must be found in no log line and no metric.
const canary = "canary-4711"

type canaryParams struct {
	How string `json:"how"`
}

// Whatever way a handler or a hook has of letting a secret out.
func TestSecretsReachNeitherLogNorMetrics(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	over := make(chan struct{})
	defer close(over)
	task := Define("Leak", func(ctx context.Context, tx pgx.Tx, p *canaryParams) error {
		switch how := strings.TrimSuffix(p.How, canary); how {
		case "error":
			return fmt.Errorf("cannot log in with %s", canary)
		case "joined":
			return errors.Join(errors.New(canary), RetryAfter(0, errors.New(canary)))
		case "panic":
			panic(canary)
		case "panic with an error":
			panic(errors.New(canary))
		case "sql":
			_, err := tx.Exec(ctx, "select $1::text::integer", canary)
			return err
		case "swallowed sql":
			_, _ = tx.Exec(ctx, "select $1::text::integer", canary)
		case "timeout":
			<-ctx.Done()
			return fmt.Errorf("%s: %w", canary, ctx.Err())
		case "deaf":
			<-over
		}
		return nil
	}, WithRetryPolicy("1ms", 2), WithTimeout("1s")).OnFailed(func(_ context.Context, _ pgx.Tx, failure Failure, p *canaryParams) error {
		if strings.HasPrefix(p.How, "panic") {
			panic(failure.Err)
		}
		return failure.Err
	})
	client, err := New(rig.store, WithTasks(task), WithRegisterer(registry), WithLogCompleted(),
		WithLogger(slog.New(slog.NewJSONHandler(rig.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	if err != nil {
		t.Fatal(err)
	}
	rig.startWork(client, withGrace(100*time.Millisecond))
	ways := []string{"none", "error", "joined", "panic", "panic with an error", "sql", "swallowed sql", "timeout", "deaf"}
	var ids []int64
	for _, how := range ways {
		ids = append(ids, enqueue(rig, client, task, &canaryParams{how + canary}, WithUniqueTag(how+canary)))
	}
	rig.exec(`insert into anchor_tasks (name, spec) values ('Leak', '{"unknown": "` + canary + `"}')`)
	for i, id := range ids {
		want := StatusFailed
		if ways[i] == "none" {
			want = StatusCompleted
		}
		info := rig.ended(client, id)
		if info.Status != want {
			t.Errorf("%s: %s, want %s", ways[i], info.Status, want)
		}
		// They are on record with the task: each way but these has let the secret out.
		stored := fmt.Sprint(info.Errors)
		if quiet := []string{"none", "swallowed sql", "deaf"}; !slices.Contains(quiet, ways[i]) && !strings.Contains(stored, canary) {
			t.Errorf("%s: the errors on record do not have the secret: %s", ways[i], stored)
		}
	}
	rig.ended(client, ids[len(ids)-1]+1)
	logged := rig.logs.String()
	if strings.Contains(logged, canary) {
		t.Errorf("the log has the secret:\n%s", logged)
	}
	if n := strings.Count(logged, `"msg":"anchor: a task failed for good"`); n != len(ways) {
		t.Errorf("%d lines of final failures, want %d", n, len(ways))
	}
	for key := range readMetrics(t, registry) {
		if strings.Contains(key, canary) {
			t.Errorf("a metric has the secret: %s", key)
		}
	}
}

func TestLogOfAttempts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options []ClientOption
		want    string
	}{
		"by default": {nil, `level=WARN msg="anchor: an attempt failed" worker=W id=1 task=Once attempt=1 duration=D error=*errors.errorString
level=ERROR msg="anchor: a task failed for good" worker=W id=1 task=Once attempt=2 duration=D error=panic
`},
		"with completed tasks": {[]ClientOption{WithLogCompleted()}, `level=WARN msg="anchor: an attempt failed" worker=W id=1 task=Once attempt=1 duration=D error=*errors.errorString
level=ERROR msg="anchor: a task failed for good" worker=W id=1 task=Once attempt=2 duration=D error=panic
level=INFO msg="anchor: a task completed" worker=W id=2 task=Good attempt=1 duration=D
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := &pgRig{t: t, logs: &testLog{}}
			once := Define("Once", func(ctx context.Context, _ pgx.Tx, _ *noParams) error {
				if task, _ := TaskFromContext(ctx); task.Attempts == 2 {
					panic("no")
				}
				return errors.New("no")
			}, WithRetryPolicy("1ms", 2))
			good := Define("Good", func(context.Context, pgx.Tx, *noParams) error { return nil })
			options := append(test.options, WithTasks(once, good), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
			client, err := New(NewMemoryStore(), options...)
			if err != nil {
				t.Fatal(err)
			}
			stop := rig.startWork(client)
			rig.ended(client, enqueue(rig, client, once, &noParams{}))
			rig.ended(client, enqueue(rig, client, good, &noParams{}))
			stop()
			got := regexp.MustCompile(`time=\S+ `).ReplaceAllString(rig.logs.String(), "")
			got = regexp.MustCompile(`worker=[0-9a-f-]{36}`).ReplaceAllString(got, "worker=W")
			got = regexp.MustCompile(`duration=[0-9.]+(ns|µs|ms|s)`).ReplaceAllString(got, "duration=D")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

// A task whose last attempt went down with its worker has its line, too, from the worker that found it.
func TestLogOfATaskWhoseWorkerDiedInItsLastAttempt(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	task := Define("Held", func(context.Context, pgx.Tx, *noParams) error { close(started); <-goOn; return nil }, WithRetryPolicy("1ms", 1))
	client := rig.newClient(task)
	rig.startWork(client, WithLease(30*time.Second))
	defer close(goOn)
	id := enqueue(rig, client, task, &noParams{})
	receive(t, "the attempt", started)
	rig.exec("update anchor_workers set lease_until = clock_timestamp() - interval '1 second'")
	rig.startWork(client, WithPollInterval(20*time.Millisecond), WithLease(time.Second))
	if info := rig.ended(client, id); info.Status != StatusFailed {
		t.Errorf("status %s, want failed", info.Status)
	}
	want := regexp.MustCompile(fmt.Sprintf(`level=ERROR msg="anchor: a task failed for good" worker=\S+ id=%d task=Held attempt=1 duration=0s error="lost worker"\n`, id))
	if n := len(want.FindAllString(rig.logs.String(), -1)); n != 1 {
		t.Errorf("%d lines that match %v, want 1", n, want)
	}
}
