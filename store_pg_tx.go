package anchor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// beginAttempt ties the open transaction to a claim: its idle limit, its name, and the lock by which a reaper finds the
	// backend of a worker that died.
	beginAttempt = `select set_config('idle_in_transaction_session_timeout', $3::text, true), set_config('anchor.claim', $2::text, true),
  pg_advisory_xact_lock_shared(1634624360, hashtext($1::text))`
	completeAttempt = `select {schema}.anchor_complete_attempt($1::bigint, $2::bigint)`

	// rollbackTimeout bounds the polite way to end a transaction; then its connection is closed.
	rollbackTimeout = 3 * time.Second
)

// lazyTx is the transaction of one attempt. It takes a connection and begins with the first statement, which
// goes out together with BEGIN. Like any pgx.Tx it is not for concurrent use, but for sever.
type lazyTx struct {
	session *pgSession
	task    *claimedTask
	idle    time.Duration

	mu     sync.Mutex // guards these
	conn   *pgxpool.Conn
	missed bool // a statement came to no connection
	over   bool

	inner      pgx.Tx // pgx's own, for large objects
	savepoints int

	failed bool // the first statement failed before the transaction began
}

var (
	_ pgx.Tx    = (*lazyTx)(nil)
	_ attemptTx = (*lazyTx)(nil)
)

func (p *pgSession) begin(task *claimedTask, idle time.Duration) attemptTx {
	return &lazyTx{session: p, task: task, idle: idle}
}

func (t *lazyTx) handler() pgx.Tx { return t }

func (t *lazyTx) endUnused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	unused := t.conn == nil && !t.missed
	if unused {
		t.over = true
	}
	return unused
}

// acquire gives the connection, a new one the first time.
func (t *lazyTx) acquire(ctx context.Context) (conn *pgx.Conn, first bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil, false, errHandlerTxOver
	}
	if t.conn != nil {
		conn := t.conn.Conn()
		return conn, false, t.ended(conn)
	}
	t.mu.Unlock()
	acquired, err := t.session.store.acquireForTx(ctx)
	t.mu.Lock()
	if err != nil {
		t.missed = true
		return nil, false, fmt.Errorf("anchor: no connection for the task's transaction: %w", err)
	}
	switch {
	case t.over:
		acquired.Release()
		t.session.store.freeTx()
		return nil, false, errHandlerTxOver
	case t.conn != nil:
		acquired.Release()
		t.session.store.freeTx()
		return nil, false, errHandlerTxShared
	}
	t.conn = acquired
	return acquired.Conn(), true, nil
}

// ended says why nothing may be sent on conn any more: outside its transaction a statement would be committed by
// itself. It is nil while the transaction lives, and where the driver has an error of its own.
func (t *lazyTx) ended(conn *pgx.Conn) error {
	switch pg := conn.PgConn(); {
	case pg.IsClosed(), pg.IsBusy(), pg.TxStatus() != 'I':
		return nil
	case t.failed:
		return errHandlerTxAborted
	}
	return errHandlerTxEnded
}

// endedByHandler tells whether the handler has sent a COMMIT or ROLLBACK.
func (t *lazyTx) endedByHandler() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conn != nil && !t.over && errors.Is(t.ended(t.conn.Conn()), errHandlerTxEnded)
}

func (t *lazyTx) claim() string {
	return strconv.FormatInt(t.task.id, 10) + ":" + strconv.FormatInt(t.task.token, 10)
}

// opening is BEGIN and what ties the transaction to its claim, to be followed by the first statement.
func (t *lazyTx) opening() *pgx.Batch {
	batch := &pgx.Batch{}
	batch.BeginTx(pgx.TxOptions{})
	batch.Queue(beginAttempt, t.task.workerID, t.claim(), strconv.FormatInt(t.idle.Milliseconds(), 10))
	return batch
}

// start begins the transaction in a round trip of its own, unless it has begun.
func (t *lazyTx) start(ctx context.Context) (*pgx.Conn, error) {
	conn, first, err := t.acquire(ctx)
	if err != nil || !first {
		return conn, err
	}
	return conn, t.open(ctx, conn)
}

// open begins the transaction on conn.
func (t *lazyTx) open(ctx context.Context, conn *pgx.Conn) error {
	results := conn.SendBatch(ctx, t.opening())
	t.inner = results.Tx()
	err := results.Close()
	t.failed = err != nil
	return err
}

// startWith begins the transaction together with its first statement. Its results are read behind the
// opening's, which skip has passed.
func (t *lazyTx) startWith(ctx context.Context, conn *pgx.Conn, sql string, args []any) (results pgx.BatchResults, err error) {
	batch := t.opening()
	batch.Queue(sql, args...)
	results = conn.SendBatch(ctx, batch)
	t.inner = results.Tx()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			t.failed = conn.PgConn().TxStatus() == 'I'
			return nil, err
		}
	}
	return results, nil
}

// batchable tells whether a statement can go out in a batch: not with options of pgx among its arguments, and
// not without arguments, where pgx allows several statements in one text.
func batchable(args []any) bool {
	if len(args) == 0 {
		return false
	}
	switch args[0].(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return false
	}
	return true
}

func (t *lazyTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	conn, first, err := t.acquire(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	if !first {
		return conn.Exec(ctx, sql, args...)
	}
	if batchable(args) {
		results, err := t.startWith(ctx, conn, sql, args)
		if err != nil {
			return pgconn.CommandTag{}, err
		}
		tag, err := results.Exec()
		return tag, errors.Join(err, closeBatch(results, err))
	}
	if err := t.open(ctx, conn); err != nil {
		return pgconn.CommandTag{}, err
	}
	return conn.Exec(ctx, sql, args...)
}

// closeBatch closes results; an error that was seen before is not repeated.
func closeBatch(results pgx.BatchResults, seen error) error {
	if err := results.Close(); seen == nil {
		return err
	}
	return nil
}

func (t *lazyTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	conn, first, err := t.acquire(ctx)
	if err != nil {
		return errorRows{err}, err
	}
	if first && batchable(args) {
		results, err := t.startWith(ctx, conn, sql, args)
		if err != nil {
			return errorRows{err}, err
		}
		rows, err := results.Query()
		if err != nil {
			_ = results.Close()
			return rows, err
		}
		return &batchRows{Rows: rows, results: results}, nil
	}
	if first {
		if err := t.open(ctx, conn); err != nil {
			return errorRows{err}, err
		}
	}
	return conn.Query(ctx, sql, args...)
}

func (t *lazyTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, sql, args...)
	return queryRow{rows, err}
}

func (t *lazyTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	conn, err := t.start(ctx)
	if err != nil {
		return errorBatch{err}
	}
	return conn.SendBatch(ctx, b)
}

func (t *lazyTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	conn, err := t.start(ctx)
	if err != nil {
		return 0, err
	}
	return conn.CopyFrom(ctx, table, columns, source)
}

func (t *lazyTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	conn, err := t.start(ctx)
	if err != nil {
		return nil, err
	}
	return conn.Prepare(ctx, name, sql)
}

// Begin gives a savepoint.
func (t *lazyTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if _, err := t.start(ctx); err != nil {
		return nil, err
	}
	t.savepoints++
	name := "anchor_" + strconv.Itoa(t.savepoints)
	if _, err := t.Exec(ctx, "savepoint "+name); err != nil {
		return nil, err
	}
	return &savepoint{tx: t, name: name}, nil
}

// LargeObjects begins the transaction if need be. Where that fails, so does every later statement.
func (t *lazyTx) LargeObjects() pgx.LargeObjects {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := t.start(ctx); err != nil || t.inner == nil {
		return noLargeObjects()
	}
	return t.inner.LargeObjects()
}

// Conn is the connection, nil before the first statement.
func (t *lazyTx) Conn() *pgx.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || t.over {
		return nil
	}
	return t.conn.Conn()
}

func (t *lazyTx) Commit(context.Context) error   { return errHandlerTx }
func (t *lazyTx) Rollback(context.Context) error { return errHandlerTx }

// complete sends the guarded update and COMMIT in one round trip. The update raises when the claim is lost, so
// that the COMMIT behind it is skipped.
func (t *lazyTx) complete(ctx context.Context) error {
	err := t.tryComplete(ctx)
	if err == nil || errors.Is(err, ErrClaimLost) {
		t.task.settle()
	}
	return err
}

func (t *lazyTx) tryComplete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	t.mu.Lock()
	conn, over := t.conn, t.over
	t.mu.Unlock()
	switch {
	case over:
		return errHandlerTxOver
	case conn == nil, t.failed:
		return errHandlerTxFailed
	case conn.Conn().PgConn().IsClosed():
		return errHandlerConnClosed
	case conn.Conn().PgConn().IsBusy():
		return errHandlerRowsOpen
	}
	switch conn.Conn().PgConn().TxStatus() {
	case 'I':
		return Fatal(errHandlerTxEnded)
	case 'E':
		return errHandlerTxFailed
	}
	if err := pauseAt(pauseBeforeCommit, t.task.attempt); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(t.session.store.sql(completeAttempt), t.task.id, t.task.token)
	batch.Queue("commit")
	results := conn.Conn().SendBatch(ctx, batch)
	err := pauseAt(pauseAfterCommitSent, t.task.attempt)
	if err == nil {
		_, err = results.Exec()
	}
	var tag pgconn.CommandTag
	if err == nil {
		tag, err = results.Exec()
	}
	err = errors.Join(err, closeBatch(results, err))
	switch state := sqlState(err); {
	case err == nil && tag.String() == "COMMIT":
		t.end().Release()
		return nil
	case err == nil:
		return errHandlerTxFailed
	case state == stateClaimLost:
		return ErrClaimLost
	case state == stateTransactionEnded:
		return Fatal(errHandlerTxEnded)
	case outcomeUnknown(err):
		t.abandon()
		return t.resolve(err)
	}
	return fmt.Errorf("anchor: commit the task's transaction: %w", err)
}

// holdOutcome waits for whoever still holds the row, so that the answer is final.
const (
	holdOutcome = `select 1 from {schema}.anchor_tasks_hot where id = $1 and slot = 0 and status = 'running' and claim_token = $2 for update`
	readOutcome = `select exists (select from {schema}.anchor_tasks where id = $1 and status = 'completed' and claim_token = $2)`
)

// resolve finds out on another connection whether a COMMIT whose answer was lost has happened. nil: it has.
func (t *lazyTx) resolve(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	pause := 10 * time.Millisecond
	for {
		completed, err := t.readOutcome(ctx)
		switch {
		case err == nil && completed:
			return nil
		case err == nil:
			return fmt.Errorf("anchor: the connection was lost at COMMIT, which did not happen: %w", cause)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause)
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

func (t *lazyTx) readOutcome(ctx context.Context) (completed bool, err error) {
	// One at a time: many lost COMMITs at once must not use up the connections that the lease depends on.
	select {
	case t.session.resolving <- struct{}{}:
		defer func() { <-t.session.resolving }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	s := t.session.store
	_, err = t.session.pool.Exec(ctx, s.sql(holdOutcome), t.task.id, t.task.token)
	if err != nil && !isConflict(err) {
		return false, err
	}
	err = t.session.pool.QueryRow(ctx, s.sql(readOutcome), t.task.id, t.task.token).Scan(&completed)
	return completed, err
}

// end takes the connection out of the transaction's hands; nil when somebody did before.
func (t *lazyTx) end() *pgxpool.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	conn := t.conn
	if t.over {
		return nil
	}
	t.over = true
	if conn != nil {
		t.session.store.freeTx()
	}
	return conn
}

func (t *lazyTx) abandon() {
	conn := t.end()
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if conn.Conn().PgConn().TxStatus() != 'I' {
		if _, err := conn.Exec(ctx, "rollback"); err != nil {
			_ = conn.Conn().Close(ctx)
		}
	}
	conn.Release()
}

func (t *lazyTx) sever() {
	conn := t.end()
	if conn == nil {
		return
	}
	// The handler may be inside a call on this connection: only closing the socket is safe beside it.
	hijacked := conn.Hijack()
	_ = hijacked.PgConn().Conn().Close()
}
