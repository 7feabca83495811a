package anchortest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

func texts(statements []anchortest.Statement) []string {
	all := []string{}
	for _, s := range statements {
		all = append(all, s.String())
	}
	return all
}

func wantTexts(t *testing.T, what string, got []anchortest.Statement, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), texts(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// handled runs one attempt of a handler in a harness and lets check look at what is left.
func handled(t *testing.T, handle handler, prepare, check func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams])) {
	t.Helper()
	task := anchor.Define("task", handle)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		if prepare != nil {
			prepare(t, h, task)
		}
		run(t, h, task, stepParams{})
		h.Drain()
		check(t, h, task)
	}, task)
}

func TestStatementsOfAFailedAttemptAreRolledBack(t *testing.T) {
	t.Parallel()
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		if _, err := tx.Exec(ctx, "insert into a values ($1)", 1); err != nil {
			return err
		}
		return errors.New("broken")
	}, nil, func(t *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		anchortest.RequireNothingWritten(t, h)
		wantTexts(t, "rolled back", h.RolledBack(), "insert into a values ($1) [1]")
	})
}

func TestHookWritesWithoutTheAttempt(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, hookErr := range map[string]error{"committed": nil, "rolled back": errors.New("hook trouble")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := anchor.Define("task", func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
				_, err := tx.Exec(ctx, "insert into a")
				return anchor.Fatal(errors.Join(err, broken))
			}).OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, _ *stepParams) error {
				_, err := tx.Exec(ctx, "insert into b")
				return errors.Join(err, hookErr)
			})
			anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
				run(t, h, task, stepParams{})
				h.Drain()
				anchortest.RequireFailed(t, h, task, broken)
				if hookErr == nil {
					wantTexts(t, "executed", h.Executed(), "insert into b")
					wantTexts(t, "rolled back", h.RolledBack(), "insert into a")
				} else {
					wantTexts(t, "executed", h.Executed())
					wantTexts(t, "rolled back", h.RolledBack(), "insert into a", "insert into b")
				}
			}, task)
		})
	}
}

func TestSavepoints(t *testing.T) {
	t.Parallel()
	trouble := errors.New("unique violation")
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		if err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into kept")
			return err
		}); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "insert into undone"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "insert into failing")
			return err
		})
		if !errors.Is(err, trouble) {
			return errors.New("the savepoint did not answer its error")
		}
		_, err = tx.Exec(ctx, "insert into last")
		return err
	}, func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.FailStatement("insert into failing", trouble)
	}, func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		anchortest.RequireCompleted(t, h, task)
		wantTexts(t, "executed", h.Executed(), "insert into kept", "insert into last")
		wantTexts(t, "rolled back", h.RolledBack(), "insert into undone", "insert into failing")
	})
}

func TestSwallowedErrorFailsTheAttempt(t *testing.T) {
	t.Parallel()
	var second error
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		_, _ = tx.Exec(ctx, "insert into failing")
		_, second = tx.Exec(ctx, "insert into a")
		return nil
	}, func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.FailStatement("failing", nil)
	}, func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		var pgErr *pgconn.PgError
		if !errors.As(second, &pgErr) || pgErr.Code != "25P02" {
			t.Errorf("the second statement answered %v, want SQLSTATE 25P02", second)
		}
		info, err := h.Client.Task(t.Context(), 1)
		if err != nil || info.Status != anchor.StatusPending || len(info.Errors) != 1 {
			t.Fatalf("task %+v, error %v, want it to be tried again", info, err)
		}
		wantText(t, info.Errors[0].Message, "a statement of its transaction had failed")
		anchortest.RequireNothingWritten(t, h)
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	type user struct {
		ID   int64
		Name *string
	}
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		var count int64
		if err := tx.QueryRow(ctx, "select count(*) from users").Scan(&count); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "select id, name from users where id < $1", 10)
		if err != nil {
			return err
		}
		users, err := pgx.CollectRows(rows, pgx.RowToStructByPos[user])
		if err != nil {
			return err
		}
		if count != 2 || len(users) != 2 || users[0].ID != 1 || *users[0].Name != "one" || users[1].Name != nil {
			return errors.New("wrong answers")
		}
		if err := tx.QueryRow(ctx, "select nobody from users").Scan(&count); !errors.Is(err, pgx.ErrNoRows) {
			return errors.Join(errors.New("want ErrNoRows"), err)
		}
		tag, err := tx.Exec(ctx, "update users set name = null")
		if err != nil || tag.RowsAffected() != 3 || !tag.Update() {
			return errors.Join(errors.New("the command tag is "+tag.String()), err)
		}
		tag, err = tx.Exec(ctx, "insert into users values (1)")
		if err != nil || tag.RowsAffected() != 1 {
			return errors.Join(errors.New("the command tag is "+tag.String()), err)
		}
		return nil
	}, func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.Answer("count(*)", []any{2})
		h.Answer("select id, name", []any{1, "one"}, []any{2, nil})
		h.Answer("select nobody")
		h.Answer("update users", nil, nil, nil)
	}, func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		anchortest.RequireCompleted(t, h, task)
	})
}

func TestQueryWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	var queried error
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		var n int
		queried = tx.QueryRow(ctx, "select 1").Scan(&n)
		return queried
	}, nil, func(t *testing.T, _ *anchortest.Harness, _ *anchor.Task[stepParams]) {
		wantText(t, queried.Error(), `no answer is known for the query "select 1"`, "Harness.Answer", "RunPostgres")
	})
}

func TestBatchAndCopy(t *testing.T) {
	t.Parallel()
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		batch := &pgx.Batch{}
		batch.Queue("insert into a values ($1)", 1)
		var n int
		batch.Queue("select n").QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if n != 5 {
			return errors.New("the batch has not answered")
		}
		copied, err := tx.CopyFrom(ctx, pgx.Identifier{"a"}, []string{"n"}, pgx.CopyFromRows([][]any{{2}, {3}}))
		if copied != 2 {
			return errors.Join(errors.New("not all was copied"), err)
		}
		return err
	}, func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.Answer("select n", []any{5})
	}, func(t *testing.T, h *anchortest.Harness, task *anchor.Task[stepParams]) {
		anchortest.RequireCompleted(t, h, task)
		wantTexts(t, "executed", h.Executed(), "insert into a values ($1) [1]", "select n", `copy "a" ("n") from stdin [[2] [3]]`)
	})
}

func TestTransactionOfTheTest(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		write := func(end func(tx pgx.Tx) error) {
			t.Helper()
			tx := h.Begin()
			if _, err := tx.Exec(t.Context(), "insert into users"); err != nil {
				t.Fatal(err)
			}
			if _, err := task.RunWithTx(t.Context(), h.Client, tx, &stepParams{N: 1}); err != nil {
				t.Fatal(err)
			}
			if err := end(tx); err != nil {
				t.Fatal(err)
			}
		}
		write(func(tx pgx.Tx) error { return tx.Rollback(t.Context()) })
		anchortest.RequireNothingWritten(t, h)
		anchortest.RequireNotEnqueued(t, h, task)
		write(func(tx pgx.Tx) error { return tx.Commit(t.Context()) })
		wantTexts(t, "executed", h.Executed(), "insert into users")
		anchortest.RequireEnqueued(t, h, task, &stepParams{N: 1})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 1})
	}, task)
}

func TestAbortedTransactionOfTheTestDoesNotCommit(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		h.FailStatement("users", nil)
		tx := h.Begin()
		if _, err := task.RunWithTx(t.Context(), h.Client, tx, &stepParams{}); err != nil {
			t.Fatal(err)
		}
		_, _ = tx.Exec(t.Context(), "insert into users")
		var pgErr *pgconn.PgError
		if _, err := task.RunWithTx(t.Context(), h.Client, tx, &stepParams{}); !errors.As(err, &pgErr) || pgErr.Code != "25P02" {
			t.Errorf("RunWithTx: %v, want SQLSTATE 25P02", err)
		}
		if err := tx.Commit(t.Context()); !errors.Is(err, pgx.ErrTxCommitRollback) {
			t.Errorf("Commit: %v, want ErrTxCommitRollback", err)
		}
		anchortest.RequireNotEnqueued(t, h, task)
		anchortest.RequireNothingWritten(t, h)
	}, task)
}

func TestScansByName(t *testing.T) {
	t.Parallel()
	type user struct {
		ID   int64
		Name string
	}
	errs := map[string]error{}
	var byName user
	var byMap map[string]any
	handled(t, func(ctx context.Context, tx pgx.Tx, _ *stepParams) error {
		query := func(sql string, collect func(rows pgx.Rows) error) {
			rows, err := tx.Query(ctx, sql)
			if err == nil {
				err = collect(rows)
			}
			errs[sql] = err
		}
		named := func(rows pgx.Rows) (err error) {
			byName, err = pgx.CollectOneRow(rows, pgx.RowToStructByName[user])
			return err
		}
		mapped := func(rows pgx.Rows) (err error) {
			byMap, err = pgx.CollectOneRow(rows, pgx.RowToMap)
			return err
		}
		query("select nameless struct", named)
		query("select nameless map", mapped)
		query("select named struct", named)
		query("select named map", mapped)
		query("select named nothing", named)
		return nil
	}, func(_ *testing.T, h *anchortest.Harness, _ *anchor.Task[stepParams]) {
		h.Answer("nameless", []any{1, "one"})
		h.Answer("named ", anchortest.Columns("name", "id"), []any{"one", 1})
		h.Answer("named nothing", anchortest.Columns("name", "id"))
	}, func(t *testing.T, _ *anchortest.Harness, _ *anchor.Task[stepParams]) {
		for _, sql := range []string{"select nameless struct", "select nameless map"} {
			if errs[sql] == nil {
				t.Errorf("%s: no error", sql)
				continue
			}
			wantText(t, errs[sql].Error(), "no names of columns", "Columns", "RunPostgres")
		}
		if err := errors.Join(errs["select named struct"], errs["select named map"]); err != nil {
			t.Error(err)
		}
		if !errors.Is(errs["select named nothing"], pgx.ErrNoRows) {
			t.Errorf("no row: %v, want ErrNoRows", errs["select named nothing"])
		}
		if want := (user{ID: 1, Name: "one"}); errs["select named struct"] == nil && byName != want && byName != (user{}) {
			t.Errorf("by name: %+v, want %+v", byName, want)
		}
		if diff := cmp.Diff(map[string]any{"name": "one", "id": 1}, byMap); diff != "" {
			t.Errorf("as a map (-want +got):\n%s", diff)
		}
	})
}
