package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SQLSTATEs that this store handles, and those that its functions raise.
const (
	stateSerializationFailure = "40001"
	stateDeadlockDetected     = "40P01"
	stateUndefinedTable       = "42P01"
	stateUndefinedColumn      = "42703"
	stateUndefinedFunction    = "42883"
	stateInvalidSchema        = "3F000"

	stateLockNotAvailable = "55P03"

	stateClaimLost        = "AN001"
	stateTransactionEnded = "AN002"
)

var (
	errNilStore = errors.New("the PostgreSQL store is nil or was not made by NewPGStore")
	errNilPool  = errors.New("the PostgreSQL store has no pool")
)

// PGStore keeps the tasks in PostgreSQL 14 or newer. It is made by [NewPGStore] and safe for concurrent use.
type PGStore struct {
	pool        *pgxpool.Pool
	schema      string // as given
	pollingOnly bool
	optionErr   error

	// txs has a place for each connection that handlers' transactions may hold: all of the pool but one, so that
	// whoever enqueues does not wait behind handlers that wait for him.
	txs func() chan struct{}

	statements sync.Map // statement as written -> with the schema in place
	waker      *waker
	flushRight atomic.Int32
}

var _ Store = (*PGStore)(nil)

// PGOption is an option of [NewPGStore].
type PGOption interface {
	fmt.Stringer
	applyPG(*PGStore) error
}

type pgOption struct {
	text string
	set  func(*PGStore) error
}

func (o pgOption) String() string           { return o.text }
func (o pgOption) applyPG(s *PGStore) error { return o.set(s) }

var schemaPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,49}$`)

// WithSchema puts the tables into a schema of that name: lower-case letters, digits and underscores, at most 50.
// Migrate creates it. Defaults to "public".
func WithSchema(name string) PGOption {
	return pgOption{
		text: fmt.Sprintf("WithSchema(%q)", name),
		set: func(s *PGStore) error {
			if !schemaPattern.MatchString(name) {
				return errors.New("the name is not made of at most 50 lower-case letters, digits and underscores")
			}
			s.schema = name
			return nil
		},
	}
}

// WithPollingOnly does without LISTEN, which needs a connection of its own for as long as a worker lives: for
// PgBouncer in transaction mode. Workers then find new tasks once a poll interval. Defaults to listening.
func WithPollingOnly() PGOption {
	return pgOption{
		text: "WithPollingOnly()",
		set:  func(s *PGStore) error { s.pollingOnly = true; return nil },
	}
}

// NewPGStore makes a store of a pool, which stays the caller's: enqueues, queries and handlers' transactions use
// it, and closing it is up to the caller, once [Client.Work] has returned. A worker opens connections of its own beside
// the pool, with the pool's settings, so that no handler can starve its lease: the README, "Connections", tells how many.
// Mistakes in the options are reported by every method, first of all by [PGStore.Migrate] and [New].
func NewPGStore(pool *pgxpool.Pool, opts ...PGOption) *PGStore {
	s := &PGStore{pool: pool, schema: "public"}
	var errs []error
	if pool == nil {
		errs = append(errs, errNilPool)
	}
	s.txs = sync.OnceValue(func() chan struct{} { return make(chan struct{}, max(pool.Config().MaxConns-1, 1)) })
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyPG(s); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.optionErr = fmt.Errorf("NewPGStore: %w", err)
	}
	s.waker = newWaker(s.notify)
	return s
}

// acquireForTx is a connection for a handler's transaction, whose place is given back by freeTx.
func (s *PGStore) acquireForTx(ctx context.Context) (*pgxpool.Conn, error) {
	select {
	case s.txs() <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		s.freeTx()
	}
	return conn, err
}

func (s *PGStore) freeTx() { <-s.txs() }

// mistake is what is wrong with the store's own declaration.
func (s *PGStore) mistake() error {
	if s == nil || s.waker == nil {
		return errNilStore
	}
	return s.optionErr
}

// check is mistake for the caller of a method.
func (s *PGStore) check() error { return prefixed(s.mistake()) }

// sql puts the schema's name into a statement.
func (s *PGStore) sql(statement string) string {
	if ready, ok := s.statements.Load(statement); ok {
		return ready.(string)
	}
	ready := strings.ReplaceAll(statement, "{schema}", s.schema)
	s.statements.Store(statement, ready)
	return ready
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// storeError wraps what the database answered with what was tried, and gives the sentinels their place.
func storeError(tried string, err error) error {
	if err == nil || errors.Is(err, ErrTaskAlreadyExists) {
		return err
	}
	switch sqlState(err) {
	case stateUndefinedTable, stateUndefinedColumn, stateUndefinedFunction, stateInvalidSchema:
		return fmt.Errorf("%w: %s: %w", ErrNotMigrated, tried, err)
	case stateClaimLost:
		return fmt.Errorf("%w: %s", ErrClaimLost, tried)
	}
	if strings.HasPrefix(err.Error(), "anchor: ") {
		return err // of a handler's transaction, which says enough
	}
	return fmt.Errorf("anchor: %s: %w", tried, err)
}

// writeError is storeError for an autocommitted write: without an answer from the server nobody knows whether
// it happened, unless the driver knows that nothing was sent.
func writeError(tried string, err error) error {
	if outcomeUnknown(err) {
		return fmt.Errorf("%w: %s: %w", ErrOutcomeUnknown, tried, err)
	}
	return storeError(tried, err)
}

// unsentError is a failure to get a connection that works.
type unsentError struct{ error }

func (e unsentError) SafeToRetry() bool { return true }
func (e unsentError) Unwrap() error     { return e.error }

// onConn runs f, a transaction of its own or none, on a connection of pool; again where others' transactions keep it
// from being serialised.
func onConn(ctx context.Context, pool *pgxpool.Pool, f func(conn *pgxpool.Conn) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return unsentError{err}
	}
	defer conn.Release()
	return retryConflict(ctx, func() error { return f(conn) })
}

// conflictTries bounds how often a statement is sent that others' transactions keep from being serialised.
const conflictTries = 50

// retryConflict runs f again when it failed only because of what others did at the same time: where the default
// isolation level is repeatable read or serializable, any statement may.
func retryConflict(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if !isConflict(err) || try == conflictTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(time.Duration(min(try, 10)) * time.Millisecond)):
		}
	}
}

// outcomeUnknown tells the errors after which a write may have been committed: the connection died, by itself or
// by the server's word (FATAL), with the statement sent.
func outcomeUnknown(err error) bool {
	if err == nil || unsent(err) || errors.Is(err, ErrTaskAlreadyExists) {
		return false
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) {
		return false
	}
	// A backend that is ended may say so behind a commit that has happened.
	var answered *pgconn.PgError
	return !errors.As(err, &answered) || answered.SeverityUnlocalized == "FATAL" || answered.SeverityUnlocalized == "PANIC"
}

// unsent tells the errors with which nothing was sent. The driver's SafeToRetry calls it so as well when a connection is
// lost behind a batch or a statement without arguments, COMMIT for one: its reader of several results forgets why, and
// says of the connection that it is closed. No connection that is sent on here was closed before.
func unsent(err error) bool {
	var driver interface {
		error
		SafeToRetry() bool
	}
	return errors.As(err, &driver) && driver.SafeToRetry() && driver.Error() != "conn closed"
}

func sqlState(err error) string {
	var answered *pgconn.PgError
	if errors.As(err, &answered) {
		return answered.Code
	}
	return ""
}

// isConflict tells the errors that go away when the statement is run again: a row that another transaction has
// moved or changed first, a deadlock.
func isConflict(err error) bool {
	state := sqlState(err)
	return state == stateSerializationFailure || state == stateDeadlockDetected
}

// serverTrouble tells the errors that no statement is to blame for: the server has no disk, no memory or no connection
// left, or cannot read or write (classes 53 and 58, but for a statement's limits and the names of files).
func serverTrouble(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "53") && state != "53400" || strings.HasPrefix(state, "580")
}

// isDataError tells the errors of a batch that may be one row's alone (classes 22 and 23, and limits).
func isDataError(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23") || strings.HasPrefix(state, "54")
}
