package anchor

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// txCase is a handler and what becomes of its task. Cases have two attempts: an ordinary failure uses both, a
// fatal one the first only.
type txCase struct {
	name     string
	handler  func(ctx context.Context, tx pgx.Tx) error
	status   Status
	attempts int
	message  string   // in the last error
	effects  []string // that were applied
}

type caseParams struct {
	Case string `json:"case"`
}

// runTxCases runs each case as a task of one worker.
func runTxCases(t *testing.T, rig *pgRig, cases []txCase) {
	t.Helper()
	byName := map[string]txCase{}
	for _, c := range cases {
		byName[c.name] = c
	}
	task := Define("Case", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		return byName[p.Case].handler(ctx, tx)
	}, WithRetryPolicy("1ms", 2), WithTimeout(20*time.Second))
	client := rig.newClient(task)
	rig.startWork(client, WithConcurrency(4), WithPollInterval(20*time.Millisecond), withGrace(200*time.Millisecond))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			id := enqueue(rig, client, task, &caseParams{c.name})
			info := rig.ended(client, id)
			if info.Status != c.status || info.Attempts != c.attempts {
				t.Errorf("status %s after %d attempts, want %s after %d; errors: %v", info.Status, info.Attempts, c.status, c.attempts, info.Errors)
			}
			last := ""
			if n := len(info.Errors); n > 0 {
				last = info.Errors[n-1].Message
			}
			if !strings.Contains(last, c.message) || (c.message == "") != (last == "") {
				t.Errorf("error %q, want one with %q", last, c.message)
			}
			if diff := cmp.Diff(c.effects, rig.effectsOf(id), equateEmpty); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHandlersWritesCommitWithItsCompletionOrNotAtAll(t *testing.T) {
	t.Parallel()
	checkHandlersWrites(t, newPG(t))
}

func checkHandlersWrites(t *testing.T, rig *pgRig) {
	t.Helper()
	runTxCases(t, rig, []txCase{
		{"completes", func(ctx context.Context, tx pgx.Tx) error { return noteEffect(ctx, tx, "a") }, StatusCompleted, 1, "", []string{"a"}},
		{"never touches tx", func(context.Context, pgx.Tx) error { return nil }, StatusCompleted, 1, "", nil},
		{"error", func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(noteEffect(ctx, tx, "a"), errors.New("no luck"))
		}, StatusFailed, 2, "no luck", nil},
		{"error without a statement", func(context.Context, pgx.Tx) error { return errors.New("no luck") }, StatusFailed, 2, "no luck", nil},
		{"panic", func(ctx context.Context, tx pgx.Tx) error {
			_ = noteEffect(ctx, tx, "a")
			panic("oh dear")
		}, StatusFailed, 2, "panic: oh dear", nil},
		{"nil map", func(ctx context.Context, tx pgx.Tx) error {
			_ = noteEffect(ctx, tx, "a")
			var attempts map[string]int
			countIn(attempts, "a")
			return nil
		}, StatusFailed, 2, "assignment to entry in nil map", nil},
		{"goexit", func(ctx context.Context, tx pgx.Tx) error {
			_ = noteEffect(ctx, tx, "a")
			runtime.Goexit()
			return nil
		}, StatusFailed, 2, "Goexit", nil},
		{"Commit is refused", func(ctx context.Context, tx pgx.Tx) error {
			if err := noteEffect(ctx, tx, "a"); err != nil {
				return err
			}
			if err := tx.Commit(ctx); !errors.Is(err, errHandlerTx) {
				return errors.New("Commit was not refused")
			}
			if err := tx.Rollback(ctx); !errors.Is(err, errHandlerTx) {
				return errors.New("Rollback was not refused")
			}
			return nil
		}, StatusCompleted, 1, "", []string{"a"}},
		{"statement_timeout", func(ctx context.Context, tx pgx.Tx) error {
			if err := noteEffect(ctx, tx, "a"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "set local statement_timeout = 20; select pg_sleep(10)")
			return err
		}, StatusFailed, 2, "statement timeout", nil},
		{"deferred constraint", func(ctx context.Context, tx pgx.Tx) error {
			if err := noteEffect(ctx, tx, "a"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `create table parent (id int primary key); create table child (id int references parent deferrable initially deferred); insert into child values (1)`)
			return err
		}, StatusFailed, 2, "violates foreign key constraint", nil},
	})
	if got := readOne[int](rig, `select count(*) from effects e join anchor_tasks t on t.id = e.task_id where t.xmin::text = e.xid::text and t.status = 'completed'`); got != 2 {
		t.Errorf("%d effects were committed by the transaction that completed their task, want 2", got)
	}
}

func TestSwallowedErrorOfAStatementFailsTheAttempt(t *testing.T) {
	t.Parallel()
	checkSwallowedErrors(t, newPG(t))
}

func checkSwallowedErrors(t *testing.T, rig *pgRig) {
	t.Helper()
	write := func(ctx context.Context, tx pgx.Tx) { _ = noteEffect(ctx, tx, "a") }
	const message = "a statement of its transaction had failed"
	runTxCases(t, rig, []txCase{
		{"first statement, not even parsed", func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, "insert into nowhere values ($1)", 1)
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"first query, not even parsed", func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Query(ctx, "select from nowhere where id = $1", 1)
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"first statement, too late for a connection", func(ctx context.Context, tx pgx.Tx) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"first statement without arguments", func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, "insert into nowhere values (1)")
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"first statement, when it runs", func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, "select 1 / $1::int", 0)
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"first row, when it runs", func(ctx context.Context, tx pgx.Tx) error {
			var n int
			_ = tx.QueryRow(ctx, "select 1 / $1::int", 0).Scan(&n)
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"later statement", func(ctx context.Context, tx pgx.Tx) error {
			write(ctx, tx)
			_, _ = tx.Exec(ctx, "select 1 / $1::int", 0)
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"arguments that do not encode", func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, "select $1::int", "no number")
			write(ctx, tx)
			return nil
		}, StatusFailed, 2, message, nil},
		{"cut off by a context of its own", func(ctx context.Context, tx pgx.Tx) error {
			write(ctx, tx)
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, _ = tx.Exec(short, "select pg_sleep(10)")
			return nil
		}, StatusFailed, 2, "the connection of its transaction is closed", nil},
		{"in a savepoint", func(ctx context.Context, tx pgx.Tx) error {
			write(ctx, tx)
			point, err := tx.Begin(ctx)
			if err != nil {
				return err
			}
			_, _ = point.Exec(ctx, "select 1 / $1::int", 0)
			return point.Rollback(ctx)
		}, StatusCompleted, 1, "", []string{"a"}},
	})
}

func TestHandlerThatEndsItsTransactionFailsForGood(t *testing.T) {
	t.Parallel()
	checkEndedTransactions(t, newPG(t))
}

func checkEndedTransactions(t *testing.T, rig *pgRig) {
	t.Helper()
	const message = "ended its own transaction"
	then := func(sql string, rest ...func(ctx context.Context, tx pgx.Tx) error) func(context.Context, pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error {
			if err := noteEffect(ctx, tx, "before"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
			for _, next := range rest {
				if err := next(ctx, tx); err != nil {
					return err
				}
			}
			return nil
		}
	}
	more := func(ctx context.Context, tx pgx.Tx) error { _ = noteEffect(ctx, tx, "after"); return nil }
	failing := func(context.Context, pgx.Tx) error { return errors.New("and failed too") }
	runTxCases(t, rig, []txCase{
		{"commit", then("commit"), StatusFailed, 1, message, []string{"before"}},
		{"rollback", then("rollback"), StatusFailed, 1, message, nil},
		{"commit and begin", then("commit; begin"), StatusFailed, 1, message, []string{"before"}},
		{"rollback and begin", then("rollback; begin"), StatusFailed, 1, message, nil},
		{"writes after a commit", then("commit", more), StatusFailed, 1, message, []string{"before"}},
		{"writes after a rollback", then("rollback", more), StatusFailed, 1, message, nil},
		{"writes after commit and begin", then("commit; begin", more), StatusFailed, 1, message, []string{"before"}},
		{"fails after a commit", then("commit", failing), StatusFailed, 1, message, []string{"before"}},
		{"commit is all it sends", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "commit")
			return err
		}, StatusFailed, 1, message, nil},
	})
}

func TestRowsLeftOpenFailTheAttempt(t *testing.T) {
	t.Parallel()
	const message = "left the rows of a query open"
	runTxCases(t, newPG(t), []txCase{
		{"of the first statement", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, "select * from generate_series(1, $1)", 1000)
			return err
		}, StatusFailed, 2, message, nil},
		{"of the first statement, without arguments", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, "select * from generate_series(1, 1000)")
			return err
		}, StatusFailed, 2, message, nil},
		{"of a later statement", func(ctx context.Context, tx pgx.Tx) error {
			if err := noteEffect(ctx, tx, "a"); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, "select * from generate_series(1, $1)", 1000)
			rows.Next()
			return err
		}, StatusFailed, 2, message, nil},
		{"a row not scanned", func(ctx context.Context, tx pgx.Tx) error {
			tx.QueryRow(ctx, "select $1::int", 1)
			return nil
		}, StatusFailed, 2, message, nil},
		{"another statement meanwhile", func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "select * from generate_series(1, $1)", 1000)
			if err != nil {
				return err
			}
			defer rows.Close()
			return noteEffect(ctx, tx, "a")
		}, StatusFailed, 2, "conn busy", nil},
	})
}

func TestHandlerThatNeverTouchesItsTransactionTakesNoConnection(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("NoOp", func(context.Context, pgx.Tx, *noParams) error { return nil })
	using := Define("Using", func(ctx context.Context, tx pgx.Tx, _ *noParams) error { return noteEffect(ctx, tx, "a") })
	small := rig.newPool(1)
	rig.startWork(rig.clientOf(NewPGStore(small), task, using))
	client := rig.newClient(task, using)
	rig.ended(client, enqueue(rig, client, task, &noParams{}))

	held, err := small.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release := atomic.Bool{}
	defer func() {
		if !release.Load() {
			held.Release()
		}
	}()
	waits := enqueue(rig, client, using, &noParams{})
	rig.inStatus(client, waits, StatusRunning)
	for range 20 {
		if info := rig.ended(client, enqueue(rig, client, task, &noParams{})); info.Status != StatusCompleted {
			t.Errorf("status %s, errors %v", info.Status, info.Errors)
		}
	}
	if info, err := client.Task(t.Context(), waits); err != nil || info.Status != StatusRunning {
		t.Errorf("the task that needs a connection: %v, %v", info, err)
	}
	release.Store(true)
	held.Release()
	if info := rig.ended(client, waits); info.Status != StatusCompleted {
		t.Errorf("status %s, errors %v", info.Status, info.Errors)
	}
}

func countIn(attempts map[string]int, key string) { attempts[key]++ }
