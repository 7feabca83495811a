package anchor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestTimeoutEndsAHandlerAndCountsAsAnAttempt(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	var causes atomic.Int64
	task := Define("Slow", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		_ = noteEffect(ctx, tx, "a") // on a slow machine, the timeout comes first
		<-ctx.Done()
		if errors.Is(context.Cause(ctx), ErrTimeout) {
			causes.Add(1)
		}
		return ctx.Err()
	}, WithTimeout(100*time.Millisecond), WithRetryPolicy("1ms", 2))
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(20*time.Millisecond))
	info := rig.ended(client, enqueue(rig, client, task, &noParams{}))
	if info.Status != StatusFailed || info.Attempts != 2 || len(info.Errors) != 2 || causes.Load() != 2 {
		t.Fatalf("status %s after %d attempts (%d by the timeout), errors %v", info.Status, info.Attempts, causes.Load(), info.Errors)
	}
	if message := info.Errors[0].Message; !strings.Contains(message, "timeout is over after 100ms") {
		t.Errorf("error %q does not tell of the timeout", message)
	}
	if got := rig.effectsOf(info.ID); len(got) > 0 {
		t.Errorf("effects %q, want none", got)
	}
	override := enqueue(rig, client, task, &noParams{}, WithTimeout(20*time.Millisecond), WithRetryPolicy("1ms", 1))
	if info := rig.ended(client, override); info.Attempts != 1 || !strings.Contains(info.Errors[0].Message, "after 20ms") {
		t.Errorf("%d attempts, errors %v, want the timeout and attempts of the enqueue", info.Attempts, info.Errors)
	}
}

func TestTaskIsTakenAwayFromAHandlerThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	release, ended := make(chan struct{}), make(chan error, 2)
	task := Define("Deaf", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		_ = noteEffect(context.WithoutCancel(ctx), tx, "a") // a slow machine may take the task away meanwhile
		<-release
		_, err := tx.Exec(context.WithoutCancel(ctx), insertEffect, "late", 0)
		ended <- err
		return nil
	}, WithTimeout(20*time.Millisecond), WithRetryPolicy("1ms", 2))
	quick := Define("Quick", func(context.Context, pgx.Tx, *noParams) error { return nil })
	client := rig.newClient(task, quick)
	rig.startWork(client, WithConcurrency(1), WithPollInterval(20*time.Millisecond), withGrace(100*time.Millisecond))
	info := rig.ended(client, enqueue(rig, client, task, &noParams{}))
	if info.Status != StatusFailed || info.Attempts != 2 || !strings.Contains(info.Errors[0].Message, "did not return within 100ms") {
		t.Errorf("status %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
	}
	// Both handlers still run, and yet the only slot is free.
	for range 3 {
		rig.ended(client, enqueue(rig, client, quick, &noParams{}))
	}
	close(release)
	for range 2 {
		if err := receive(t, "end of the handler", ended); !errors.Is(err, errHandlerTxOver) {
			t.Errorf("a statement after the task was taken away: %v", err)
		}
	}
	rig.ended(client, enqueue(rig, client, quick, &noParams{}))
	if got := readAll[string](rig, "select label from effects"); len(got) > 0 {
		t.Errorf("effects %q, want none", got)
	}
}

func TestFailedAttemptIsDueAgainAfterItsIntervalAndJitter(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("Fails", func(_ context.Context, _ pgx.Tx, p *caseParams) error {
		switch p.Case {
		case "RetryAfter":
			return fmt.Errorf("wrapped: %w", RetryAfter(20*time.Minute, errNoLuck))
		case "Fatal":
			return fmt.Errorf("wrapped: %w", Fatal(errNoLuck))
		}
		return errNoLuck
	}, WithRetryPolicy("1h,3h", 3))
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(20*time.Millisecond))
	// distance is how far from the record of the newest failure the next attempt is.
	distance := func(id int64) time.Duration {
		return readOne[time.Duration](rig, `select t.next_run - (select max(e.at) from anchor_task_errors e where e.task_id = t.id) from anchor_tasks t where t.id = $1`, id)
	}
	retried := func(id int64, attempts int) {
		eventually(t, fmt.Sprintf("attempt %d of task %d", attempts, id), func() bool {
			info, err := client.Task(t.Context(), id)
			return err == nil && info.Status == StatusPending && info.Attempts == attempts
		})
	}
	bounds := func(what string, got, least, most time.Duration) {
		if got < least || got > most {
			t.Errorf("%s: the next attempt is due after %v, want %v to %v", what, got, least, most)
		}
	}
	different := map[time.Duration]bool{}
	for range 5 {
		id := enqueue(rig, client, task, &caseParams{"plain"})
		retried(id, 1)
		first := distance(id)
		different[first] = true
		bounds("first interval", first, time.Hour, 72*time.Minute)
		rig.exec("update anchor_tasks set next_run = now() where id = $1", id)
		retried(id, 2)
		bounds("second interval", distance(id), 3*time.Hour, 216*time.Minute)
		rig.exec("update anchor_tasks set next_run = now() where id = $1", id)
		if info := rig.ended(client, id); info.Status != StatusFailed || info.Attempts != 3 || len(info.Errors) != 3 {
			t.Errorf("status %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
		}
	}
	if len(different) < 2 {
		t.Errorf("5 tasks have the same distance %v: there is no jitter", different)
	}
	asked := enqueue(rig, client, task, &caseParams{"RetryAfter"})
	retried(asked, 1)
	bounds("RetryAfter", distance(asked), 20*time.Minute, 20*time.Minute)
	info := rig.ended(client, enqueue(rig, client, task, &caseParams{"Fatal"}))
	if info.Status != StatusFailed || info.Attempts != 1 || info.Errors[0].Message != "wrapped: no luck" {
		t.Errorf("Fatal: status %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
	}
}

func TestHandlerFindsItsTaskInItsContext(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	got := make(chan *TaskInfo, 1)
	task := Define("Seen", func(ctx context.Context, _ pgx.Tx, _ *caseParams) error {
		info, _ := TaskFromContext(ctx)
		got <- info
		return nil
	})
	client := rig.newClient(task)
	rig.startWork(client)
	id := enqueue(rig, client, task, &caseParams{"x"}, WithQueue("q"), WithPriority(-3), WithUniqueTag("tag"), WithRetryPolicy("1s", 4))
	info := receive(t, "start of the handler", got)
	stored := rig.ended(client, id)
	want := *stored
	want.Status, want.FinishedAt = StatusRunning, time.Time{}
	if diff := cmp.Diff(&want, info); diff != "" {
		t.Errorf("TaskFromContext (-want +got):\n%s", diff)
	}
	if string(info.Params) != `{"case": "x"}` || info.Attempts != 1 || info.MaxAttempts != 4 || info.Priority != -3 || info.UniqueTag != "tag" {
		t.Errorf("%+v", info)
	}
	if _, ok := TaskFromContext(t.Context()); ok {
		t.Error("a task in a context that is no handler's")
	}
}
