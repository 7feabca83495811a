package anchor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
)

// txStatements are the ways to send a statement. Each writes the label "it".
var txStatements = map[string]func(ctx context.Context, tx pgx.Tx, id int64) error{
	"Exec": func(ctx context.Context, tx pgx.Tx, id int64) error {
		tag, err := tx.Exec(ctx, insertEffect, "it", id)
		return expectTrue(tag.RowsAffected() == 1, err)
	},
	"Exec without arguments": func(ctx context.Context, tx pgx.Tx, id int64) error {
		tag, err := tx.Exec(ctx, fmt.Sprintf("insert into effects values ('it', %d)", id))
		return expectTrue(tag.RowsAffected() == 1, err)
	},
	"Exec of several statements": func(ctx context.Context, tx pgx.Tx, id int64) error {
		_, err := tx.Exec(ctx, fmt.Sprintf("select 1; insert into effects values ('it', %d); select 2", id))
		return err
	},
	"Exec with a mode": func(ctx context.Context, tx pgx.Tx, id int64) error {
		_, err := tx.Exec(ctx, insertEffect, pgx.QueryExecModeSimpleProtocol, "it", id)
		return err
	},
	"Exec with named arguments": func(ctx context.Context, tx pgx.Tx, id int64) error {
		_, err := tx.Exec(ctx, "insert into effects values (@label, @id)", pgx.NamedArgs{"label": "it", "id": id})
		return err
	},
	"Query": func(ctx context.Context, tx pgx.Tx, id int64) error {
		rows, err := tx.Query(ctx, insertEffect+" returning label", "it", id)
		if err != nil {
			return err
		}
		labels, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return expectTrue(len(labels) == 1 && labels[0] == "it" && rows.CommandTag().String() == "INSERT 0 1", err)
	},
	"Query without arguments": func(ctx context.Context, tx pgx.Tx, id int64) error {
		rows, err := tx.Query(ctx, fmt.Sprintf("insert into effects values ('it', %d) returning label", id))
		if err != nil {
			return err
		}
		labels, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return expectTrue(len(labels) == 1 && labels[0] == "it", err)
	},
	"Query with result formats": func(ctx context.Context, tx pgx.Tx, id int64) error {
		rows, err := tx.Query(ctx, insertEffect+" returning label", pgx.QueryResultFormats{pgx.TextFormatCode}, "it", id)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	},
	"Query closed early": func(ctx context.Context, tx pgx.Tx, id int64) error {
		rows, err := tx.Query(ctx, "insert into effects select 'it', $1 from generate_series(1, 1) returning label", id)
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	},
	"QueryRow": func(ctx context.Context, tx pgx.Tx, id int64) error {
		var label string
		err := tx.QueryRow(ctx, insertEffect+" returning label", "it", id).Scan(&label)
		return expectTrue(label == "it", err)
	},
	"QueryRow without arguments": func(ctx context.Context, tx pgx.Tx, id int64) error {
		var label string
		err := tx.QueryRow(ctx, fmt.Sprintf("insert into effects values ('it', %d) returning label", id)).Scan(&label)
		return expectTrue(label == "it", err)
	},
	"QueryRow without a row": func(ctx context.Context, tx pgx.Tx, id int64) error {
		var label string
		err := tx.QueryRow(ctx, "select label from effects where task_id = $1 and label = 'nothing'", id).Scan(&label)
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("got %w, want ErrNoRows", err)
		}
		_, err = tx.Exec(ctx, insertEffect, "it", id)
		return err
	},
	"SendBatch": func(ctx context.Context, tx pgx.Tx, id int64) error {
		batch := &pgx.Batch{}
		batch.Queue("select $1::int", 5)
		batch.Queue(insertEffect, "it", id)
		results := tx.SendBatch(ctx, batch)
		var n int
		if err := results.QueryRow().Scan(&n); err != nil {
			return err
		}
		_, err := results.Exec()
		return errors.Join(expectTrue(n == 5, err), results.Close())
	},
	"CopyFrom": func(ctx context.Context, tx pgx.Tx, id int64) error {
		n, err := tx.CopyFrom(ctx, pgx.Identifier{"effects"}, []string{"label", "task_id"}, pgx.CopyFromRows([][]any{{"it", id}}))
		return expectTrue(n == 1, err)
	},
	"Prepare": func(ctx context.Context, tx pgx.Tx, id int64) error {
		if _, err := tx.Prepare(ctx, "note_it", insertEffect); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "note_it", "it", id)
		return err
	},
	"Begin and Commit": func(ctx context.Context, tx pgx.Tx, id int64) error {
		point, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := point.Exec(ctx, insertEffect, "it", id); err != nil {
			return err
		}
		if err := point.Commit(ctx); err != nil {
			return err
		}
		return expectTrue(errors.Is(point.Commit(ctx), pgx.ErrTxClosed) && errors.Is(point.Rollback(ctx), pgx.ErrTxClosed), nil)
	},
	"Begin and Rollback": func(ctx context.Context, tx pgx.Tx, id int64) error {
		point, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := point.Exec(ctx, insertEffect, "dropped", id); err != nil {
			return err
		}
		if err := point.Rollback(ctx); err != nil {
			return err
		}
		if _, err := point.Exec(ctx, "select 1"); !errors.Is(err, pgx.ErrTxClosed) {
			return fmt.Errorf("a statement in a savepoint that has ended: %w", err)
		}
		_, err = tx.Exec(ctx, insertEffect, "it", id)
		return err
	},
	"nested savepoints": func(ctx context.Context, tx pgx.Tx, id int64) error {
		return pgx.BeginFunc(ctx, tx, func(outer pgx.Tx) error {
			err := pgx.BeginFunc(ctx, outer, func(inner pgx.Tx) error {
				_, err := inner.Exec(ctx, "insert into nowhere values ($1)", id)
				return err
			})
			if err == nil {
				return errors.New("a table that does not exist was written to")
			}
			return pgx.BeginFunc(ctx, outer, func(inner pgx.Tx) error {
				_, err := inner.Exec(ctx, insertEffect, "it", id)
				return err
			})
		})
	},
	"LargeObjects": func(ctx context.Context, tx pgx.Tx, id int64) error {
		objects := tx.LargeObjects()
		oid, err := objects.Create(ctx, 0)
		if err != nil {
			return err
		}
		object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(object, "text"); err != nil {
			return err
		}
		if err := object.Close(); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "insert into effects select convert_from(lo_get($1), 'UTF8'), $2", oid, id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "update effects set label = 'it' where label = 'text' and task_id = $1", id)
		return err
	},
	"Conn": func(ctx context.Context, tx pgx.Tx, id int64) error {
		if _, err := tx.Exec(ctx, "select $1::int", 1); err != nil {
			return err
		}
		_, err := tx.Conn().Exec(ctx, insertEffect, "it", id)
		return err
	},
}

func expectTrue(ok bool, err error) error {
	if err == nil && !ok {
		return errors.New("not the result that was expected")
	}
	return err
}

func TestHandlerMaySendItsStatementsInEveryWay(t *testing.T) {
	t.Parallel()
	checkStatements(t, newPG(t), txStatements)
}

func checkStatements(t *testing.T, rig *pgRig, statements map[string]func(ctx context.Context, tx pgx.Tx, id int64) error) {
	t.Helper()
	var cases []txCase
	for name, send := range statements {
		it := func(ctx context.Context, tx pgx.Tx) error {
			task, _ := TaskFromContext(ctx)
			return send(ctx, tx, task.ID)
		}
		cases = append(
			cases,
			txCase{name + " first", it, StatusCompleted, 1, "", []string{"it"}},
			txCase{name + " later", func(ctx context.Context, tx pgx.Tx) error {
				return errors.Join(noteEffect(ctx, tx, "before"), it(ctx, tx), noteEffect(ctx, tx, "behind"))
			}, StatusCompleted, 1, "", []string{"before", "behind", "it"}},
			txCase{name + " in a savepoint", func(ctx context.Context, tx pgx.Tx) error {
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return it(ctx, tx) })
			}, StatusCompleted, 1, "", []string{"it"}},
			txCase{name + " before an error", func(ctx context.Context, tx pgx.Tx) error {
				return errors.Join(it(ctx, tx), errors.New("on purpose"))
			}, StatusFailed, 2, "on purpose", nil},
		)
	}
	runTxCases(t, rig, cases)
	if n := readOne[int](rig, "select count(*) from pg_largeobject_metadata"); n != 3 {
		t.Errorf("%d large objects are left, want those of the 3 tasks that completed", n)
	}
}

func TestTaskEnqueuedThroughTheHandlersTransactionCommitsWithIt(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	child := Define[noParams]("Child", nil)
	var client *Client
	parent := Define("Parent", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		if _, err := child.RunWithTx(ctx, client, tx, &noParams{}, WithQueue(p.Case)); err != nil {
			return err
		}
		if p.Case == "fails" {
			return errors.New("on purpose")
		}
		return nil
	}, WithRetryPolicy("1ms", 2))
	client = rig.newClient(child, parent)
	rig.startWork(client)
	rig.ended(client, enqueue(rig, client, parent, &caseParams{"completes"}))
	rig.ended(client, enqueue(rig, client, parent, &caseParams{"fails"}))
	got := readAll[string](rig, "select queue from anchor_tasks where name = 'Child'")
	if len(got) != 1 || got[0] != "completes" {
		t.Errorf("children in queues %q, want one in the queue of the parent that completed", got)
	}
}
