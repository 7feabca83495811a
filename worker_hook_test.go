package anchor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

var errNoLuck = errors.New("no luck")

func TestHookRunsOnceInTheTransactionOfTheFinalStatus(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	type params struct {
		UserID int `json:"userId"`
	}
	child := Define[noParams]("Child", nil)
	var client *Client
	task := Define("Fails", func(ctx context.Context, tx pgx.Tx, p *params) error {
		return errors.Join(noteEffect(ctx, tx, "handler"), fmt.Errorf("wrapped: %w", errNoLuck))
	}, WithRetryPolicy("1ms", 3), WithQueue("q")).OnFailed(func(ctx context.Context, tx pgx.Tx, f Failure, p *params) error {
		info, ok := TaskFromContext(ctx)
		if !ok || info.ID != f.TaskID || f.Name != "Fails" || f.Queue != "q" || f.Attempt != 3 || !errors.Is(f.Err, errNoLuck) || f.At.IsZero() {
			return fmt.Errorf("failure %+v", f)
		}
		if _, err := child.RunWithTx(ctx, client, tx, &noParams{}); err != nil {
			return err
		}
		return noteEffect(ctx, tx, fmt.Sprintf("hook %d", p.UserID))
	})
	client = rig.newClient(child, task)
	rig.startWork(client, WithPollInterval(20*time.Millisecond))
	var want []string
	for n := range 10 {
		want = append(want, fmt.Sprintf("hook %d", n))
		id := enqueue(rig, client, task, &params{n})
		if info := rig.ended(client, id); info.Status != StatusFailed || info.Attempts != 3 || len(info.Errors) != 3 {
			t.Errorf("status %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
		}
	}
	got := readAll[string](rig, `select label from effects e join anchor_tasks t on t.id = e.task_id
		where t.status = 'failed' and t.xmin::text = e.xid::text order by label`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effects of the transactions that failed their task (-want +got):\n%s", diff)
	}
	if n := readOne[int](rig, "select count(*) from effects"); n != 10 {
		t.Errorf("%d effects, want the 10 of the hooks", n)
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks where name = 'Child'"); n != 10 {
		t.Errorf("%d tasks enqueued by the hooks, want 10", n)
	}
}

func TestTroubleOfAHookIsRecordedAndChangesNothingElse(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.exec(`create table parent (id int primary key); create table child (id int references parent deferrable initially deferred)`)
	type hook func(ctx context.Context, tx pgx.Tx) error
	cases := map[string]struct {
		hook    hook
		message string
		effects []string
	}{
		"error":           {func(context.Context, pgx.Tx) error { return errors.New("hook's own") }, "hook's own", nil},
		"panic":           {func(context.Context, pgx.Tx) error { panic("hook's panic") }, "panic: hook's panic", nil},
		"goexit":          {func(context.Context, pgx.Tx) error { runtime.Goexit(); return nil }, "Goexit", nil},
		"SQL error":       {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "select 1/0"); return err }, "division by zero", nil},
		"swallowed error": {func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, "select 1/0"); return nil }, "had failed", nil},
		"deferred violated": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into child values (1)")
			return err
		}, "violates foreign key", nil},
		"commit":           {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "commit"); return err }, "ended its own transaction", []string{"a"}},
		"rollback":         {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "rollback"); return err }, "ended its own transaction", nil},
		"commit and begin": {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "commit; begin"); return err }, "ended its own transaction", []string{"a"}},
		"commit, begin and error": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "commit; begin")
			return errors.Join(err, errNoLuck)
		}, "ended its own transaction", []string{"a"}},
		"rows left open": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, "select * from generate_series(1, 1000)")
			return err
		}, "left the rows of a query open", nil},
		"refused commit": {func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, "committed or rolled back by its worker", nil},
		"own connection": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			return err
		}, "terminating connection", nil},
		"ignores its end": {func(ctx context.Context, tx pgx.Tx) error { <-t.Context().Done(); return nil }, "did not return after its timeout", nil},
	}
	task := Define("Fails", func(context.Context, pgx.Tx, *caseParams) error { return errNoLuck }, WithRetryPolicy("1ms", 1), WithTimeout(2*time.Second)).
		OnFailed(func(ctx context.Context, tx pgx.Tx, f Failure, p *caseParams) error {
			if err := noteEffect(ctx, tx, "a"); err != nil {
				return err
			}
			return cases[p.Case].hook(ctx, tx)
		})
	client := rig.newClient(task)
	rig.startWork(client, withGrace(100*time.Millisecond))
	ids := map[string]int64{}
	for name := range cases {
		ids[name] = enqueue(rig, client, task, &caseParams{name})
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			info := rig.ended(client, ids[name])
			if info.Status != StatusFailed || info.Attempts != 1 {
				t.Errorf("status %s after %d attempts, want failed after 1", info.Status, info.Attempts)
			}
			var messages []string
			for _, e := range info.Errors {
				messages = append(messages, e.Message)
			}
			all := strings.Join(messages, "\n")
			for _, part := range []string{errNoLuck.Error(), "failure hook: ", c.message} {
				if !strings.Contains(all, part) {
					t.Errorf("errors on record %q, want %q among them", all, part)
				}
			}
			if diff := cmp.Diff(c.effects, rig.effectsOf(info.ID), equateEmpty); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHookIsNotCalledForACancelledTask(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	running := make(chan struct{})
	task := Define("Cancelled", func(ctx context.Context, _ pgx.Tx, _ *noParams) error {
		close(running)
		<-ctx.Done()
		return ctx.Err()
	}, WithRetryPolicy("1ms", 1)).OnFailed(func(ctx context.Context, tx pgx.Tx, f Failure, _ *noParams) error { return noteEffect(ctx, tx, "hook") })
	client := rig.newClient(task)
	rig.startWork(client)
	id := enqueue(rig, client, task, &noParams{})
	receive(t, "start of the handler", running)
	if err := client.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if info := rig.ended(client, id); info.Status != StatusCancelled {
		t.Errorf("status %s, want cancelled", info.Status)
	}
	if got := rig.effectsOf(id); len(got) > 0 {
		t.Errorf("effects %q, want none", got)
	}
}

func TestSlowHookDoesNotKeepTheWatchFromOtherHandlers(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	release := make(chan struct{})
	task := Define("Stuck", func(_ context.Context, _ pgx.Tx, p *caseParams) error { <-release; return nil },
		WithRetryPolicy("1ms", 1), WithTimeout(50*time.Millisecond)).
		OnFailed(func(_ context.Context, _ pgx.Tx, _ Failure, p *caseParams) error {
			if p.Case == "slow" {
				<-release
			}
			return nil
		})
	client := rig.newClient(task)
	rig.startWork(client, withGrace(2*time.Second), WithShutdownTimeout(0))
	t.Cleanup(func() { close(release) })
	slow := enqueue(rig, client, task, &caseParams{"slow"})
	rig.inStatus(client, slow, StatusRunning)
	quick := enqueue(rig, client, task, &caseParams{"quick"})
	rig.ended(client, quick)
	if info, err := client.Task(t.Context(), slow); err != nil || info.Status != StatusRunning {
		t.Errorf("%v, %v: the slow hook has ended before the other task did, this test shows nothing", info, err)
	}
}
