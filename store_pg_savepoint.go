package anchor

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// savepoint is what Begin gives inside a handler's transaction: Commit releases it, Rollback returns to it,
// and both answer pgx.ErrTxClosed the second time, as pgx's own do.
type savepoint struct {
	tx     *lazyTx
	name   string
	closed bool
}

var _ pgx.Tx = (*savepoint)(nil)

func (s *savepoint) Commit(ctx context.Context) error {
	return s.end(ctx, "release savepoint "+s.name)
}

func (s *savepoint) Rollback(ctx context.Context) error {
	return s.end(ctx, "rollback to savepoint "+s.name+"; release savepoint "+s.name)
}

func (s *savepoint) end(ctx context.Context, sql string) error {
	if s.closed {
		return pgx.ErrTxClosed
	}
	s.closed = true
	_, err := s.tx.Exec(ctx, sql)
	return err
}

func (s *savepoint) Begin(ctx context.Context) (pgx.Tx, error) {
	if s.closed {
		return nil, pgx.ErrTxClosed
	}
	return s.tx.Begin(ctx)
}

func (s *savepoint) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if s.closed {
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	}
	return s.tx.Exec(ctx, sql, args...)
}

func (s *savepoint) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if s.closed {
		return errorRows{pgx.ErrTxClosed}, pgx.ErrTxClosed
	}
	return s.tx.Query(ctx, sql, args...)
}

func (s *savepoint) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := s.Query(ctx, sql, args...)
	return queryRow{rows, err}
}

func (s *savepoint) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if s.closed {
		return errorBatch{pgx.ErrTxClosed}
	}
	return s.tx.SendBatch(ctx, b)
}

func (s *savepoint) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if s.closed {
		return 0, pgx.ErrTxClosed
	}
	return s.tx.CopyFrom(ctx, table, columns, source)
}

func (s *savepoint) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if s.closed {
		return nil, pgx.ErrTxClosed
	}
	return s.tx.Prepare(ctx, name, sql)
}

func (s *savepoint) LargeObjects() pgx.LargeObjects { return s.tx.LargeObjects() }
func (s *savepoint) Conn() *pgx.Conn                { return s.tx.Conn() }
