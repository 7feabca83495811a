package anchortest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// Statement is what was executed in a transaction.
type Statement struct {
	// TaskID is the task whose handler or hook did it, 0 for the test's own.
	TaskID int64
	SQL    string
	// Args are the arguments; of a CopyFrom, the rows, each a []any.
	Args []any
}

// String returns the statement with its arguments.
func (s Statement) String() string {
	if len(s.Args) == 0 {
		return s.SQL
	}
	return fmt.Sprintf("%s %v", s.SQL, s.Args)
}

// statements are what the harness's transactions did.
type statements struct {
	open       map[int64]*txLog // of attempts, by token
	committed  []Statement
	rolledBack []Statement
	answers    []answer
}

type answer struct {
	part    string
	columns []any // of type column, or none
	rows    [][]any
	err     error
	given   bool // at least once
}

func (s *statements) init() { s.open = map[int64]*txLog{} }

// txLog is what was done in a transaction, or in a savepoint that is open.
type txLog struct {
	parent     *txLog
	statements []Statement
	tasks      []seam.Task
	cancelled  []int64
	over       bool
	hook       bool // of a failure hook
}

func (l *txLog) used() bool { return l != nil && len(l.statements) > 0 }

// commit makes what a transaction did count. The caller holds mu.
func (w *watch) commit(l *txLog) {
	if l == nil || l.over {
		return
	}
	l.over = true
	w.sql.committed = append(w.sql.committed, l.statements...)
	if len(l.tasks) > 0 {
		w.nothing = false
		w.noteEnqueued(l.tasks)
	}
	for _, id := range l.cancelled {
		w.noteCancelled(id)
	}
}

// rollback makes it count for nothing. The caller holds mu.
func (w *watch) rollback(l *txLog) {
	if l == nil || l.over {
		return
	}
	l.over = true
	w.sql.rolledBack = append(w.sql.rolledBack, l.statements...)
}

// Executed lists the statements of all transactions that have committed, in order. It is empty with [RunPostgres],
// where the database tells.
func (h *Harness) Executed() []Statement {
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	return append([]Statement(nil), h.watch.sql.committed...)
}

// RolledBack lists the statements of all transactions and savepoints that were rolled back, in order.
func (h *Harness) RolledBack() []Statement {
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	return append([]Statement(nil), h.watch.sql.rolledBack...)
}

// Answer gives every statement whose text contains part its result from now on: rows for a query, their number for
// one that is executed. What was said last counts first. A query that nothing answers fails; a statement that is
// executed affects one row. Values are assigned or converted to what is scanned into. By-name scans need the names of the
// columns before the rows, see [Columns]. An answer that nothing asks for is
// no mistake, unlike a fault that never happens.
func (h *Harness) Answer(part string, rows ...[]any) {
	h.t.Helper()
	a := answer{part: part, rows: rows}
	if len(rows) > 0 && isColumns(rows[0]) {
		a.columns, a.rows = rows[0], rows[1:]
	}
	for i, row := range a.rows {
		if a.columns != nil && len(row) != len(a.columns) {
			h.t.Errorf("anchortest: Answer(%q): row %d has %d values of %d columns", part, i+1, len(row), len(a.columns))
		}
	}
	h.answer(a)
}

// FailStatement makes every statement whose text contains part fail with err from now on, and abort its transaction,
// as it does in PostgreSQL.
func (h *Harness) FailStatement(part string, err error) {
	if err == nil {
		err = errors.New("anchortest: the statement has failed, as FailStatement asked for")
	}
	h.answer(answer{part: part, err: err})
}

func (h *Harness) answer(a answer) {
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	h.watch.sql.answers = append(h.watch.sql.answers, a)
}

// recordedTx stands in front of a transaction in memory, which has no SQL, and records it.
type recordedTx struct {
	pgx.Tx
	watch *watch
	task  int64
	log   *txLog
}

var _ seam.Tx = (*recordedTx)(nil)

func newRecordedTx(w *watch, tx pgx.Tx, task int64) *recordedTx {
	return &recordedTx{Tx: tx, watch: w, task: task, log: &txLog{}}
}

// Inner implements [seam.Tx].
func (t *recordedTx) Inner() pgx.Tx { return t.Tx }

func (t *recordedTx) Begin(ctx context.Context) (pgx.Tx, error) {
	inner, err := t.Tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &recordedTx{Tx: inner, watch: t.watch, task: t.task, log: &txLog{parent: t.log}}, nil
}

func (t *recordedTx) Commit(ctx context.Context) error {
	err := t.Tx.Commit(ctx)
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	var aborted *pgconn.PgError
	switch outer := t.log.parent; {
	case outer != nil && (err == nil || errors.As(err, &aborted)): // what was done in it ends as the outer one does
		t.log.over = true
		outer.statements = append(outer.statements, t.log.statements...)
		outer.tasks = append(outer.tasks, t.log.tasks...)
		outer.cancelled = append(outer.cancelled, t.log.cancelled...)
	case err == nil:
		t.watch.commit(t.log)
	case errors.Is(err, pgx.ErrTxCommitRollback):
		t.watch.rollback(t.log)
	}
	return err
}

func (t *recordedTx) Rollback(ctx context.Context) error {
	if err := t.Tx.Rollback(ctx); err != nil {
		return err
	}
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.watch.rollback(t.log)
	return nil
}

// send records a statement and finds its result.
func (t *recordedTx) send(ctx context.Context, sql string, args []any, query bool) (answer, error) {
	// The transaction in memory knows whether it is over, or aborted.
	if _, err := t.Tx.Exec(ctx, sql); !errors.Is(err, anchor.ErrNoTransaction) {
		return answer{}, err
	}
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	fail := func(err error) (answer, error) {
		seam.Anchor.Abort(t.Tx, err)
		return answer{}, err
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	t.log.statements = append(t.log.statements, Statement{TaskID: t.task, SQL: sql, Args: args})
	for i := len(t.watch.sql.answers) - 1; i >= 0; i-- {
		if a := &t.watch.sql.answers[i]; strings.Contains(sql, a.part) {
			a.given = true
			if a.err != nil {
				return fail(a.err)
			}
			return *a, nil
		}
	}
	if query {
		return fail(fmt.Errorf("anchortest: no answer is known for the query %q: give one with Harness.Answer, or test over a database with RunPostgres", sql))
	}
	return answer{rows: [][]any{nil}}, nil
}

func (t *recordedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	a, err := t.send(ctx, sql, args, false)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return commandTag(sql, len(a.rows)), nil
}

// commandTag is how PostgreSQL reports a statement that affected so many rows.
func commandTag(sql string, rows int) pgconn.CommandTag {
	verb := ""
	if words := strings.Fields(sql); len(words) > 0 {
		verb = strings.ToUpper(words[0])
	}
	if verb == "INSERT" {
		verb = "INSERT 0"
	}
	return pgconn.NewCommandTag(fmt.Sprintf("%s %d", verb, rows))
}

func (t *recordedTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	a, err := t.send(ctx, sql, args, true)
	return &rows{sql: sql, columns: a.columns, values: a.rows, err: err}, err
}

func (t *recordedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	a, err := t.send(ctx, sql, args, true)
	return row{&rows{sql: sql, columns: a.columns, values: a.rows, err: err}}
}

func (t *recordedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return &batchResults{tx: t, ctx: ctx, queries: b.QueuedQueries}
}

func (t *recordedTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	var copied []any
	for source.Next() {
		values, err := source.Values()
		if err != nil {
			return 0, err
		}
		copied = append(copied, values)
	}
	if err := source.Err(); err != nil {
		return 0, err
	}
	quoted := make([]string, len(columns))
	for i, column := range columns {
		quoted[i] = pgx.Identifier{column}.Sanitize()
	}
	sql := fmt.Sprintf("copy %s (%s) from stdin", table.Sanitize(), strings.Join(quoted, ", "))
	if _, err := t.send(ctx, sql, copied, false); err != nil {
		return 0, err
	}
	return int64(len(copied)), nil
}

func (t *recordedTx) Prepare(_ context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return &pgconn.StatementDescription{Name: name, SQL: sql}, nil
}
