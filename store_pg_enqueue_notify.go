package anchor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

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

// mayFlush asks the database until it has answered once.
func (s *PGStore) mayFlush(ctx context.Context) bool {
	if known := s.flushRight.Load(); known != flushUnknown {
		return known == flushAllowed
	}
	allowed := false
	if err := onConn(ctx, s.pool, func(conn *pgxpool.Conn) error { return conn.QueryRow(ctx, mayFlushCommits).Scan(&allowed) }); err != nil {
		return false // the insert will tell
	}
	right := int32(flushRefused)
	if allowed {
		right = flushAllowed
	}
	s.flushRight.Store(right)
	return allowed
}

// insertAndNotify writes tasks and tells of them in one round trip. The tasks are committed without waiting for the
// disk, so that a worker hears of them while this waits: its claim is durable, or lost, together with all that was
// committed before. NOTIFY locks out other notifying commits, which is short when none of them waits for the disk.
//
// It returns once the tasks are durable, or with an error that nothing was committed with unless outcomeUnknown says
// otherwise. When the server refuses any of it the tasks are inserted plainly, and nobody is told.
func (s *PGStore) insertAndNotify(ctx context.Context, conn *pgx.Conn, tasks []*newTask, queues []string) (notified bool, err error) {
	batch := &pgx.Batch{}
	sql, args := s.insertion(tasks)
	batch.Queue("begin")
	batch.Queue(sql, args...)
	batch.Queue(notifyChannel, s.channel(), queuePayloads(queues))
	batch.Queue("commit")
	batch.Queue(flushCommits)
	results := conn.SendBatch(ctx, batch)
	committed, err := readNotifiedInsert(results, tasks)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err == nil:
		return true, nil
	case outcomeUnknown(err) || conn.IsClosed():
		return false, err
	case committed:
		if _, err := conn.Exec(ctx, flushCommits); err != nil {
			s.flushRight.Store(flushUnknown)
			return true, fmt.Errorf("to wait until the tasks are durable: %v", err) // not as the database's no: they are written
		}
		return true, nil
	}
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		return false, err
	}
	return false, s.insert(ctx, conn, tasks)
}

// readNotifiedInsert reads the answers up to that of the commit.
func readNotifiedInsert(results pgx.BatchResults, tasks []*newTask) (committed bool, err error) {
	if _, err := results.Exec(); err != nil {
		return false, err
	}
	rows, err := results.Query()
	if err != nil {
		return false, err
	}
	if err := readInserted(rows, tasks); err != nil {
		return false, err
	}
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return false, err
		}
	}
	return true, nil
}
