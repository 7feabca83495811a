package anchortest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// column is the name of one.
type column string

// Columns are the names of an answer's columns, to be given to [Harness.Answer] before the rows. Scans by name, such as
// that of [pgx.RowToStructByName], need them.
func Columns(names ...string) []any {
	columns := make([]any, len(names))
	for i, name := range names {
		columns[i] = column(name)
	}
	return columns
}

func isColumns(row []any) bool {
	for _, value := range row {
		if _, ok := value.(column); !ok {
			return false
		}
	}
	return len(row) > 0
}

var errNoColumns = errors.New("anchortest: this answer has no names of columns: give them to Answer by Columns, or test over a database with RunPostgres")

// rows are the answer to a query.
type rows struct {
	sql     string
	columns []any // of type column, or none
	values  [][]any
	current []any
	read    int
	err     error
	closed  bool
}

var _ pgx.Rows = (*rows)(nil)

func (r *rows) Close()               { r.closed = true }
func (r *rows) Err() error           { return r.err }
func (r *rows) Conn() *pgx.Conn      { return nil }
func (r *rows) RawValues() [][]byte  { return nil }
func (r *rows) TypeMap() *pgtype.Map { return pgtype.NewMap() }

func (r *rows) CommandTag() pgconn.CommandTag { return commandTag(r.sql, len(r.values)) }

// FieldDescriptions is asked for by who scans by name. Where there are no names they say so, as does the error.
func (r *rows) FieldDescriptions() []pgconn.FieldDescription {
	fields := make([]pgconn.FieldDescription, len(r.columns))
	for i, name := range r.columns {
		fields[i].Name = string(name.(column))
	}
	if len(r.columns) > 0 || len(r.values) == 0 {
		return fields
	}
	if r.err == nil {
		r.err = errNoColumns
	}
	for range r.values[0] {
		fields = append(fields, pgconn.FieldDescription{Name: errNoColumns.Error()})
	}
	return fields
}

func (r *rows) Next() bool {
	if r.closed || r.err != nil || len(r.values) == r.read {
		r.closed = true
		return false
	}
	r.current = r.values[r.read]
	r.read++
	return true
}

func (r *rows) Values() ([]any, error) { return r.current, r.err }

func (r *rows) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	if len(into) == 1 {
		if scanner, ok := into[0].(pgx.RowScanner); ok {
			if err := scanner.ScanRow(r); err != nil {
				return err
			}
			return r.err
		}
	}
	if len(into) != len(r.current) {
		r.err = fmt.Errorf("anchortest: %d values are scanned of an answer of %d", len(into), len(r.current))
		return r.err
	}
	for i, target := range into {
		if target == nil {
			continue
		}
		if err := assign(target, r.current[i]); err != nil {
			r.err = fmt.Errorf("anchortest: value %d of the answer: %w", i+1, err)
			return r.err
		}
	}
	return nil
}

// assign stores a value in what target points to.
func assign(target, value any) error {
	if scanner, ok := target.(sql.Scanner); ok {
		return scanner.Scan(value)
	}
	pointer := reflect.ValueOf(target)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return fmt.Errorf("%T is no pointer to scan into", target)
	}
	into := pointer.Elem()
	if value == nil {
		switch into.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			into.SetZero()
			return nil
		}
		return fmt.Errorf("null cannot be scanned into a %v", into.Type())
	}
	from := reflect.ValueOf(value)
	switch {
	case from.Type().AssignableTo(into.Type()):
		into.Set(from)
	case into.Kind() == reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return assign(into.Interface(), value)
	case from.Type().ConvertibleTo(into.Type()) && (into.Kind() == reflect.String) == (from.Kind() == reflect.String):
		into.Set(from.Convert(into.Type()))
	default:
		return fmt.Errorf("a %T cannot be scanned into a %v", value, into.Type())
	}
	return nil
}

// row is the first of rows.
type row struct{ rows *rows }

func (r row) Scan(into ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		if r.rows.err != nil {
			return r.rows.err
		}
		return pgx.ErrNoRows
	}
	return r.rows.Scan(into...)
}

// batchResults are the answers to a batch, each found when it is asked for.
type batchResults struct {
	tx      *recordedTx
	ctx     context.Context // of the batch, as in pgx
	queries []*pgx.QueuedQuery
	read    int
	err     error
	closed  bool
}

var _ pgx.BatchResults = (*batchResults)(nil)

var errBatchRead = errors.New("anchortest: the batch has no more results")

func (b *batchResults) next() (*pgx.QueuedQuery, error) {
	if b.closed || b.read == len(b.queries) {
		return nil, errBatchRead
	}
	if b.err != nil {
		return nil, b.err
	}
	b.read++
	return b.queries[b.read-1], nil
}

func (b *batchResults) failed(err error) error {
	if b.err == nil {
		b.err = err
	}
	return err
}

func (b *batchResults) Exec() (pgconn.CommandTag, error) {
	query, err := b.next()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := b.tx.Exec(b.ctx, query.SQL, query.Arguments...)
	return tag, b.failed(err)
}

func (b *batchResults) Query() (pgx.Rows, error) {
	query, err := b.next()
	if err != nil {
		return &rows{err: err}, err
	}
	answered, err := b.tx.Query(b.ctx, query.SQL, query.Arguments...)
	return answered, b.failed(err)
}

func (b *batchResults) QueryRow() pgx.Row {
	answered, err := b.Query()
	if err != nil {
		return row{&rows{err: err}}
	}
	return row{answered.(*rows)}
}

func (b *batchResults) Tx() pgx.Tx { return nil }

func (b *batchResults) Close() error {
	for !b.closed && b.err == nil && b.read < len(b.queries) {
		if call := b.queries[b.read].Fn; call != nil {
			_ = b.failed(call(b))
			continue
		}
		_, _ = b.Exec()
	}
	b.closed = true
	return b.err
}
