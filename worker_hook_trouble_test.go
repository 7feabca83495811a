package anchor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// raise makes the server answer a SQLSTATE.
func raise(state string) string {
	return "do $$ begin raise exception 'as asked' using errcode = '" + state + "'; end $$"
}

// raiseLate violates nothing but a deferred trigger, which answers 53100.
const raiseLate = `create function no_room() returns trigger language plpgsql as $$ begin raise exception 'as asked' using errcode = '53100'; end $$;
create table late (id int);
create constraint trigger late after insert on late deferrable initially deferred for each row execute function no_room()`

func TestHookIsCalledAgainAfterTroubleThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.exec(raiseLate)
	rig.exec(`create function raise(state text) returns int language plpgsql as $$ begin raise exception 'as asked' using errcode = state; end $$`)
	type trouble func(ctx context.Context, tx pgx.Tx) error
	exec := func(sql string) trouble {
		return func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql); return err }
	}
	swallowed := func(f trouble) trouble {
		return func(ctx context.Context, tx pgx.Tx) error { _ = f(ctx, tx); return nil }
	}
	const raising = "select raise($1) from generate_series(1, 2)"
	cases := map[string]trouble{
		"disk full":     exec(raise("53100")),
		"out of memory": exec(raise("53200")),
		"I/O":           exec(raise("58030")),
		"serialization": exec(raise("40001")),
		"deadlock":      exec(raise("40P01")),
		"shutting down": exec(raise("57P01")),
		"wrapped": func(ctx context.Context, tx pgx.Tx) error {
			return fmt.Errorf("hook: %w", exec(raise("53100"))(ctx, tx))
		},
		"only its text":  func(ctx context.Context, tx pgx.Tx) error { return errors.New(exec(raise("53100"))(ctx, tx).Error()) },
		"panic":          func(ctx context.Context, tx pgx.Tx) error { panic(exec(raise("53100"))(ctx, tx)) },
		"elsewhere":      func(ctx context.Context, _ pgx.Tx) error { _, err := rig.pool.Exec(ctx, raise("53100")); return err },
		"at the end":     exec("insert into late values (1)"),
		"swallowed Exec": swallowed(exec(raise("53100"))),
		"swallowed by text": func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, raise("53100"))
			_, _ = tx.Exec(ctx, "select 1")
			return nil
		},
		"swallowed Query": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, raising, "53100")
			if err == nil {
				rows.Close()
			}
			return nil
		},
		"swallowed rows": func(ctx context.Context, tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, raising, "40001")
			_, _ = pgx.CollectRows(rows, pgx.RowTo[int])
			return nil
		},
		"swallowed QueryRow": func(ctx context.Context, tx pgx.Tx) error {
			var n int
			_ = tx.QueryRow(ctx, raising, "53100").Scan(&n)
			return nil
		},
		"swallowed batch": func(ctx context.Context, tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue("select 1")
			batch.Queue(raising, "53100")
			_ = tx.SendBatch(ctx, batch).Close()
			return nil
		},
		"swallowed row of a batch": func(ctx context.Context, tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue(raising, "53100")
			results := tx.SendBatch(ctx, batch)
			var n int
			_ = results.QueryRow().Scan(&n)
			_ = results.Close()
			return nil
		},
		"swallowed copy": func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "set constraints all immediate"); err != nil {
				return err
			}
			_, _ = tx.CopyFrom(ctx, pgx.Identifier{"late"}, []string{"id"}, pgx.CopyFromRows([][]any{{1}}))
			return nil
		},
		"swallowed in a savepoint": func(ctx context.Context, tx pgx.Tx) error {
			point, err := tx.Begin(ctx)
			if err != nil {
				return err
			}
			_, _ = point.Exec(ctx, raise("53100"))
			_ = point.Commit(ctx)
			return nil
		},
	}
	calls := map[string]*atomic.Int64{}
	for name := range cases {
		calls[name] = &atomic.Int64{}
	}
	task := Define("Fails", func(context.Context, pgx.Tx, *caseParams) error { return errNoLuck }, WithRetryPolicy("1ms", 1)).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, p *caseParams) error {
			if err := noteEffect(ctx, tx, "hook"); err != nil {
				return err
			}
			if calls[p.Case].Add(1) > 2 {
				return nil
			}
			return cases[p.Case](ctx, tx)
		})
	client := rig.newClient(task)
	rig.startWork(client)
	ids := map[string]int64{}
	for name := range cases {
		ids[name] = enqueue(rig, client, task, &caseParams{name})
	}
	for name := range cases {
		t.Run(name, func(t *testing.T) {
			info := rig.ended(client, ids[name])
			if info.Status != StatusFailed || len(info.Errors) != 1 {
				t.Errorf("status %s with the errors %v, want failed with that of the handler alone", info.Status, info.Errors)
			}
			if n := calls[name].Load(); n != 3 {
				t.Errorf("%d calls of the hook, want 3", n)
			}
			if diff := cmp.Diff([]string{"hook"}, rig.effectsOf(info.ID), equateEmpty); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
	if text := rig.logs.String(); !strings.Contains(text, "SQLSTATE 53100") || strings.Contains(text, "as asked") {
		t.Errorf("the log does not tell the state, or tells a hook's error:\n%s", text)
	}
}

func TestServersTroubleIsNoFailureOfTheHookHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	room, calls := make(chan struct{}), make(chan int, 100)
	n := 0
	task := Define("Fails", func(context.Context, pgx.Tx, *noParams) error { return errNoLuck }, WithRetryPolicy("1ms", 1)).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *noParams) error {
			n++
			calls <- n
			select {
			case <-room:
				return noteEffect(ctx, tx, "hook")
			default:
			}
			_, err := tx.Exec(ctx, raise("53100"))
			return err
		})
	client := rig.newClient(task)
	rig.startWork(client)
	id := enqueue(rig, client, task, &noParams{})
	for receive(t, "a call of the hook", calls) <= maxHookCalls {
	}
	if info, err := client.Task(t.Context(), id); err != nil || info.Status != StatusRunning {
		t.Errorf("%v, %v after more than %d calls, want running", info, err, maxHookCalls)
	}
	close(room)
	if info := rig.ended(client, id); info.Status != StatusFailed || len(info.Errors) != 1 {
		t.Errorf("status %s with the errors %v, want failed with that of the handler alone", info.Status, info.Errors)
	}
	if diff := cmp.Diff([]string{"hook"}, rig.effectsOf(id)); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// troubleInDisguise says to be the server's, and panics when it is asked for more.
type troubleInDisguise struct{ *pgconn.PgError }

func (troubleInDisguise) Error() string { return "in disguise" }
func (troubleInDisguise) As(any) bool   { panic("no type") }
func (troubleInDisguise) Is(error) bool { panic("no likeness") }
func (troubleInDisguise) Unwrap() error { panic("no cause") }

func TestHookFailsOfWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	cases := map[string]struct {
		hook    func(ctx context.Context, tx pgx.Tx) error
		calls   int64
		message string
	}{
		"conflicts without end":            {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, raise("40001")); return err }, maxHookCalls, "SQLSTATE 40001"},
		"swallowed conflicts":              {func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, raise("40001")); return nil }, maxHookCalls, "SQLSTATE 40001"},
		"temporary files beyond the limit": {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, raise("53400")); return err }, 1, "SQLSTATE 53400"},
		"no such file": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "copy effects from '/nothing/there'")
			return err
		}, 1, "/nothing/there"},
		"an error that panics": {func(context.Context, pgx.Tx) error { return troubleInDisguise{} }, 1, "in disguise"},
		"ended before": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "rollback; begin")
			return errors.Join(err, &pgconn.PgError{Code: "53100"})
		}, 1, "ended its own transaction"},
		"trouble that it went around": {func(ctx context.Context, tx pgx.Tx) error {
			_ = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, raise("53100")); return err })
			_, _ = tx.Exec(ctx, "select 1/0")
			return nil
		}, 1, "had failed"},
	}
	calls := map[string]*atomic.Int64{}
	for name := range cases {
		calls[name] = &atomic.Int64{}
	}
	task := Define("Fails", func(context.Context, pgx.Tx, *caseParams) error { return errNoLuck }, WithRetryPolicy("1ms", 1)).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, p *caseParams) error {
			calls[p.Case].Add(1)
			return errors.Join(noteEffect(ctx, tx, "hook"), cases[p.Case].hook(ctx, tx))
		})
	client := rig.newClient(task)
	rig.startWork(client)
	ids := map[string]int64{}
	for name := range cases {
		ids[name] = enqueue(rig, client, task, &caseParams{name})
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			info := rig.ended(client, ids[name])
			all := ""
			for _, e := range info.Errors {
				all += e.Message + "\n"
			}
			if info.Status != StatusFailed || !strings.Contains(all, "failure hook: ") || !strings.Contains(all, c.message) {
				t.Errorf("status %s with the errors %q, want failed with %q", info.Status, all, c.message)
			}
			if n := calls[name].Load(); n != c.calls {
				t.Errorf("%d calls of the hook, want %d", n, c.calls)
			}
			if diff := cmp.Diff([]string(nil), rig.effectsOf(info.ID), equateEmpty); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
}
