package anchor

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// batchRows are the rows of the statement that went out with BEGIN: the batch ends with them.
type batchRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
	closed  bool
}

func (r *batchRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *batchRows) Close() {
	r.Rows.Close()
	if r.closed {
		return
	}
	r.closed = true
	r.err = closeBatch(r.results, r.Rows.Err())
}

func (r *batchRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// queryRow is the first of rows as a pgx.Row.
type queryRow struct {
	rows pgx.Rows
	err  error
}

func (r queryRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// errorRows are the rows of a query that could not be made.
type errorRows struct{ err error }

func (r errorRows) Close()                                       {}
func (r errorRows) Err() error                                   { return r.err }
func (r errorRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r errorRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r errorRows) Next() bool                                   { return false }
func (r errorRows) Scan(...any) error                            { return r.err }
func (r errorRows) Values() ([]any, error)                       { return nil, r.err }
func (r errorRows) RawValues() [][]byte                          { return nil }
func (r errorRows) Conn() *pgx.Conn                              { return nil }
func (r errorRows) TypeMap() *pgtype.Map                         { return pgtype.NewMap() }

// errorBatch are the results of a batch that could not be sent.
type errorBatch struct{ err error }

func (b errorBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, b.err }
func (b errorBatch) Query() (pgx.Rows, error)         { return errorRows(b), b.err }
func (b errorBatch) QueryRow() pgx.Row                { return queryRow{err: b.err} }
func (b errorBatch) Close() error                     { return b.err }
func (b errorBatch) Tx() pgx.Tx                       { return nil }
