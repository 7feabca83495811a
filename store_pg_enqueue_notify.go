package anchor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// notifyBriefly is notifyChannel for a transaction that others wait for: its commit gives up where other notifying commits
// of the instance, of whatever application, stand in the way for long.
const notifyBriefly = `select set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '50ms', true),
  pg_notify($1::text, x.payload) from unnest($2::text[]) as x (payload)`

// flushCommits commits what is nothing but a record in the log, and so returns once all that was committed on its
// connection before is as durable as the session's synchronous_commit asks for.
const flushCommits = `select pg_logical_emit_message(true, 'anchor', '')`

// mayFlushCommits asks whether this user may call it: everybody may, unless it was revoked.
const mayFlushCommits = `select coalesce(bool_and(has_function_privilege(oid, 'execute')), false) from pg_catalog.pg_proc
where proname = 'pg_logical_emit_message' and pronamespace = 'pg_catalog'::regnamespace`

const (
	flushUnknown = iota
	flushAllowed
	flushRefused
)

// mayFlush asks the database until it has answered once. Its errors are those of a connection that is gone.
func (s *PGStore) mayFlush(ctx context.Context, conn *pgx.Conn) (bool, error) {
	if known := s.flushRight.Load(); known != flushUnknown {
		return known == flushAllowed, nil
	}
	allowed := false
	if err := conn.QueryRow(ctx, mayFlushCommits).Scan(&allowed); err != nil {
		if conn.IsClosed() {
			return false, unsentError{err}
		}
		return false, nil // what comes next will tell
	}
	right := int32(flushRefused)
	if allowed {
		right = flushAllowed
	}
	s.flushRight.Store(right)
	return allowed, nil
}

// insertAndNotify writes tasks and tells of them in one round trip. The tasks are committed without waiting for the
// disk, so that a worker hears of them while this waits: its claim is durable, or lost, together with all that was
// committed before. NOTIFY locks out other notifying commits, which is short when none of them waits for the disk.
//
// It returns once the tasks are durable, or with an error that nothing was committed with unless outcomeUnknown says
// otherwise. When the server refuses anything but the tasks they are inserted plainly, and nobody is told.
func (s *PGStore) insertAndNotify(ctx context.Context, conn *pgx.Conn, tasks []*newTask, queues []string) (notified bool, err error) {
	if allowed, err := s.mayFlush(ctx, conn); err != nil {
		return false, err
	} else if !allowed {
		return false, s.insert(ctx, conn, tasks)
	}
	batch := &pgx.Batch{}
	sql, args := s.insertion(tasks)
	batch.Queue("begin")
	batch.Queue(sql, args...)
	batch.Queue(notifyBriefly, s.channel(), queuePayloads(queues))
	batch.Queue("commit")
	batch.Queue(flushCommits)
	results := conn.SendBatch(ctx, batch)
	done, err := readNotifiedInsert(results, tasks)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err == nil:
		return true, nil
	case outcomeUnknown(err):
		return false, err
	case done == doneCommit:
		// They are written: err may not be taken for the database's no, nor for a reason to send them again.
		if _, again := conn.Exec(ctx, flushCommits); again != nil {
			s.flushRight.Store(flushUnknown)
			return true, fmt.Errorf("to wait until the tasks are durable: %v, then %v", err, again)
		}
		return true, nil
	case conn.IsClosed():
		return false, err
	}
	// Nothing is committed.
	if conn.PgConn().TxStatus() != 'I' {
		if _, rollbackErr := conn.Exec(ctx, "rollback"); rollbackErr != nil {
			return false, err // the pool gives up the connection
		}
	}
	if done == doneBegin {
		return false, err // of the tasks themselves, or of who cancelled their insert
	}
	return false, s.insert(ctx, conn, tasks)
}

// How many statements of insertAndNotify the server has done.
const (
	doneBegin  = 1
	doneCommit = 4
)

// readNotifiedInsert reads the answers up to that of the commit.
func readNotifiedInsert(results pgx.BatchResults, tasks []*newTask) (done int, err error) {
	if _, err := results.Exec(); err != nil {
		return 0, err
	}
	rows, err := results.Query()
	if err == nil {
		err = readInserted(rows, tasks)
	}
	if err != nil {
		return doneBegin, err
	}
	for done = doneBegin + 1; done < doneCommit; done++ {
		if _, err := results.Exec(); err != nil {
			return done, err
		}
	}
	return done, nil
}
