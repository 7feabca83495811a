package anchor_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

func TestRunWithTxLivesAndDiesWithTheTransaction(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)

	for _, opts := range [][]anchor.RunOption{nil, {anchor.WithUniqueTag("t")}} {
		rolledBack := mustBegin(t, pool, pgx.TxOptions{})
		if _, err := task.RunWithTx(t.Context(), client, rolledBack, &letter{}, opts...); err != nil {
			t.Fatal(err)
		}
		if err := rolledBack.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantTasks(t, client, anchor.TaskQuery{})
	}

	committed := mustBegin(t, pool, pgx.TxOptions{})
	first, err := task.RunWithTx(t.Context(), client, committed, &letter{To: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := task.RunWithTx(t.Context(), client, committed, &letter{To: "Ada"}, anchor.WithUniqueTag("t"))
	if err != nil {
		t.Fatal(err)
	}
	many, err := task.RunManyWithTx(t.Context(), client, committed, []*letter{{}, {}})
	if err != nil || len(many) != 2 {
		t.Fatalf("ids %v, error %v", many, err)
	}
	if none, err := task.RunManyWithTx(t.Context(), client, committed, nil); len(none) != 0 || err != nil {
		t.Errorf("nothing gives %v, %v", none, err)
	}
	wantTasks(t, client, anchor.TaskQuery{})
	if err := committed.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTasks(t, client, anchor.TaskQuery{}, many[1], many[0], second, first)
}

// After each refusal the transaction goes on, and what it writes is there once it commits.
func TestRunWithTxLeavesTheTransactionUsable(t *testing.T) {
	t.Parallel()

	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			store, pool := postgresStore(t)
			client, task := newLetters(t, store)
			mustExec(t, pool, "create table notes (n integer)")
			holder := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("before"))

			tx := mustBegin(t, pool, pgx.TxOptions{IsoLevel: level})
			note := func() {
				t.Helper()
				if _, err := tx.Exec(t.Context(), "insert into notes values (1)"); err != nil {
					t.Fatalf("the transaction is not usable: %v", err)
				}
			}
			note() // takes the snapshot
			_, err := task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("before"))
			wantHolder(t, err, "before", holder)
			note()

			later := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("later"))
			visible := later
			if level != pgx.ReadCommitted {
				visible = 0
			}
			_, err = task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("later"))
			wantHolder(t, err, "later", visible)
			if visible == 0 {
				wantText(t, err, "held by a task that this transaction cannot see")
			}
			note()

			_, err = task.RunManyWithTx(t.Context(), client, tx, []*letter{{}}, anchor.WithUniqueTag("later"))
			wantHolder(t, err, "later", visible)
			note()

			for _, bad := range []*letter{nil, {To: "\x00"}, {Raw: []byte("1e400000")}, {Raw: []byte(`"\ud800"`)}} {
				_, err = task.RunWithTx(t.Context(), client, tx, bad)
				wantIs(t, err, anchor.ErrInvalidParams)
				note()
				_, err = task.RunManyWithTx(t.Context(), client, tx, []*letter{{}, bad})
				wantIs(t, err, anchor.ErrInvalidParams)
				note()
			}

			own, err := task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("own"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("own"))
			wantHolder(t, err, "own", own)
			note()
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantTasks(t, client, anchor.TaskQuery{}, own, later, holder)
			if n := queryOne[int](t, pool, "select count(*) from notes"); n != 13 {
				t.Errorf("%d notes, want 13", n)
			}
		})
	}
}

// A savepoint of the caller's takes the task with it, and its tag.
func TestRunWithTxInASavepoint(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)

	tx := mustBegin(t, pool, pgx.TxOptions{})
	savepoint, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := task.RunWithTx(t.Context(), client, savepoint, &letter{}, anchor.WithUniqueTag("t")); err != nil {
		t.Fatal(err)
	}
	if err := savepoint.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("t"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTasks(t, client, anchor.TaskQuery{}, id)
}

// Who wants a tag that an open transaction has taken waits for its end, and gets what that decided.
func TestRunWaitsForTheTransactionWithTheTag(t *testing.T) {
	t.Parallel()

	for _, commit := range []bool{true, false} {
		store, pool := postgresStore(t)
		client, task := newLetters(t, store)
		tx := mustBegin(t, pool, pgx.TxOptions{})
		first, err := task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("t"))
		if err != nil {
			t.Fatal(err)
		}
		type answer struct {
			id  int64
			err error
		}
		answers := make(chan answer, 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		go func() {
			id, err := task.Run(ctx, client, &letter{}, anchor.WithUniqueTag("t"))
			answers <- answer{id, err}
		}()
		waitFor(t, "the second enqueue to wait for a lock", func() bool {
			return queryOne[int](t, pool, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") == 1
		})
		if commit {
			err = tx.Commit(t.Context())
		} else {
			err = tx.Rollback(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		got := <-answers
		if commit {
			wantHolder(t, got.err, "t", first)
			wantTasks(t, client, anchor.TaskQuery{}, first)
			continue
		}
		if got.err != nil {
			t.Fatal(got.err)
		}
		wantTasks(t, client, anchor.TaskQuery{}, got.id)
	}
}
