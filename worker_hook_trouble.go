package anchor

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// hookTrouble is an error of a hook that the hook is not to blame for. A failure is not recorded with it: what the hook
// wrote is rolled back, and it is called again.
type hookTrouble struct {
	text   string // of the hook's error
	state  string // what the server has answered
	server bool   // serverTrouble, which is nobody's fault however often it comes; else others were in the way
}

func (e *hookTrouble) Error() string { return e.text }

// hookTroubleOf is nil for an error that is the hook's own. err may be one of its author's, and panic when it is examined.
func hookTroubleOf(err error) (trouble *hookTrouble) {
	_ = guarded(func() {
		state := sqlState(err)
		if errors.Is(err, errMemoryDeadlock) {
			state = stateDeadlockDetected
		}
		switch answer := (&pgconn.PgError{Code: state}); {
		case serverTrouble(answer):
			trouble = &hookTrouble{text: errorText(err), state: state, server: true}
		case isConflict(answer), serverEnds(answer):
			trouble = &hookTrouble{text: errorText(err), state: state}
		}
	})
	return trouble
}

// serverEnds tells the answers of a server that stops or starts, or ends a connection. A hook may have its own
// connection ended itself, so that they are no reason to call it without end.
func serverEnds(err error) bool {
	switch sqlState(err) {
	case "57P01", "57P02", "57P03":
		return true
	}
	return false
}

// notedTx notes the newest error that the server has answered in a hook's transaction, but for that of what came
// behind it: when the transaction is aborted, this is why.
type notedTx struct {
	pgx.Tx
	newest *error
}

const stateAborted = "25P02"

func (t notedTx) note(err error) {
	if state := sqlState(err); state != "" && state != stateAborted {
		*t.newest = err
	}
}

func (t notedTx) Begin(ctx context.Context) (pgx.Tx, error) {
	point, err := t.Tx.Begin(ctx)
	t.note(err)
	if err != nil {
		return nil, err
	}
	return notedTx{point, t.newest}, nil
}

func (t notedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := t.Tx.Exec(ctx, sql, args...)
	t.note(err)
	return tag, err
}

func (t notedTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := t.Tx.Query(ctx, sql, args...)
	t.note(err)
	return &notedRows{rows, t}, err
}

func (t notedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, sql, args...)
	return queryRow{rows, err}
}

func (t notedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return notedBatch{t.Tx.SendBatch(ctx, b), t}
}

func (t notedTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	n, err := t.Tx.CopyFrom(ctx, table, columns, source)
	t.note(err)
	return n, err
}

func (t notedTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	description, err := t.Tx.Prepare(ctx, name, sql)
	t.note(err)
	return description, err
}

type notedRows struct {
	pgx.Rows
	tx notedTx
}

func (r *notedRows) Next() bool {
	next := r.Rows.Next()
	if !next {
		r.tx.note(r.Rows.Err())
	}
	return next
}

func (r *notedRows) Close() {
	r.Rows.Close()
	r.tx.note(r.Rows.Err())
}

type notedBatch struct {
	pgx.BatchResults
	tx notedTx
}

func (b notedBatch) Exec() (pgconn.CommandTag, error) {
	tag, err := b.BatchResults.Exec()
	b.tx.note(err)
	return tag, err
}

func (b notedBatch) Query() (pgx.Rows, error) {
	rows, err := b.BatchResults.Query()
	b.tx.note(err)
	return &notedRows{rows, b.tx}, err
}

func (b notedBatch) QueryRow() pgx.Row {
	rows, err := b.Query()
	return queryRow{rows, err}
}

func (b notedBatch) Close() error {
	err := b.BatchResults.Close()
	b.tx.note(err)
	return err
}
