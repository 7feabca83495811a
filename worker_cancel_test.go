package anchor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// newWaiting is a task that tells of its start and then waits for the end of its context, whose cause it tells.
func newWaiting(answer func(ctx context.Context) error) (task *Task[noParams], started chan int64, causes chan error) {
	started, causes = make(chan int64, 100), make(chan error, 100)
	task = Define("Waiting", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		info, _ := TaskFromContext(ctx)
		err := noteEffect(ctx, tx, "a")
		started <- info.ID
		if err != nil {
			return err
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return answer(ctx)
	}, WithRetryPolicy("1ms", 3))
	return task, started, causes
}

func TestCancelOfARunningTaskEndsItsContext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer  func(ctx context.Context) error
		status  Status
		effects int
		opts    []PGOption
	}{
		"error":             {func(ctx context.Context) error { return ctx.Err() }, StatusCancelled, 0, nil},
		"error of its own":  {func(context.Context) error { return errNoLuck }, StatusCancelled, 0, nil},
		"nil":               {func(context.Context) error { return nil }, StatusCompleted, 1, nil},
		"without listening": {func(ctx context.Context) error { return ctx.Err() }, StatusCancelled, 0, []PGOption{WithPollingOnly()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newPG(t, c.opts...)
			task, started, causes := newWaiting(c.answer)
			client := rig.newClient(task)
			rig.startWork(client, WithLease(3*time.Second), WithPollInterval(20*time.Millisecond))
			id := enqueue(rig, client, task, &noParams{})
			receive(t, "start", started)
			if err := client.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if cause := receive(t, "end of the context", causes); !errors.Is(cause, ErrCancelled) {
				t.Errorf("cause %v, want ErrCancelled", cause)
			}
			info := rig.ended(client, id)
			if info.Status != c.status || info.Attempts != 1 || len(rig.effectsOf(id)) != c.effects {
				t.Errorf("status %s after %d attempts, effects %q", info.Status, info.Attempts, rig.effectsOf(id))
			}
			if name == "error" && (len(info.Errors) != 1 || !strings.HasPrefix(info.Errors[0].Message, ErrCancelled.Error()+": ")) {
				t.Errorf("the errors on record are %+v, without what ended the context", info.Errors)
			}
			if err := client.Cancel(t.Context(), id); !errors.Is(err, ErrTaskNotCancellable) {
				t.Errorf("Cancel of an ended task: %v", err)
			}
		})
	}
}

func TestCancelWithTxHappensWhenItCommits(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, started, causes := newWaiting(func(ctx context.Context) error { return ctx.Err() })
	client := rig.newClient(task)
	rig.startWork(client, WithLease(3*time.Second))
	running := enqueue(rig, client, task, &noParams{})
	receive(t, "start", started)
	pending := enqueue(rig, client, task, &noParams{}, WithDelay(time.Hour))

	cancelBoth := func(commit bool) {
		tx, err := rig.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.Background()) }()
		for _, id := range []int64{running, pending} {
			if err := client.CancelWithTx(t.Context(), tx, id); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.CancelWithTx(t.Context(), tx, 1<<40); !errors.Is(err, ErrTaskNotFound) {
			t.Errorf("CancelWithTx of no task: %v", err)
		}
		if commit {
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancelBoth(false)
	for id, status := range map[int64]Status{running: StatusRunning, pending: StatusPending} {
		if info, err := client.Task(t.Context(), id); err != nil || info.Status != status {
			t.Errorf("after a rollback: %+v, %v, want %s", info, err, status)
		}
	}
	cancelBoth(true)
	if info, err := client.Task(t.Context(), pending); err != nil || info.Status != StatusCancelled {
		t.Errorf("after a commit: %+v, %v, want cancelled", info, err)
	}
	if cause := receive(t, "end of the context", causes); !errors.Is(cause, ErrCancelled) {
		t.Errorf("cause %v, want ErrCancelled", cause)
	}
	if info := rig.ended(client, running); info.Status != StatusCancelled {
		t.Errorf("status %s, want cancelled", info.Status)
	}
}
