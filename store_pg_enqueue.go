package anchor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// enqueueRows bounds one statement of a bulk enqueue; more rows go in several statements of one transaction.
const enqueueRows = 10_000

// insertTasks needs no index. The ids come in the order of the arrays: a scan of unnest feeds the insert.
const insertTasks = `insert into {schema}.anchor_tasks (name, queue, priority, max_attempts, next_run, spec, attributes)
select x.name, x.queue, x.priority, x.max_attempts,
  case when x.start_at is null then statement_timestamp() + x.delay * interval '1 microsecond'
       else greatest(statement_timestamp(), 'epoch'::timestamptz + x.start_at * interval '1 microsecond') end,
  x.spec::jsonb, x.attributes::jsonb
from unnest($1::text[], $2::text[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[], $8::text[])
  as x (name, queue, priority, max_attempts, delay, start_at, spec, attributes)
returning id`

// insertTask is insertTasks for one, which it costs a quarter less.
const insertTask = `insert into {schema}.anchor_tasks (name, queue, priority, max_attempts, next_run, spec, attributes)
values ($1::text, $2::text, $3::smallint, $4::integer,
  case when $6::bigint is null then statement_timestamp() + $5::bigint * interval '1 microsecond'
       else greatest(statement_timestamp(), 'epoch'::timestamptz + $6::bigint * interval '1 microsecond') end,
  $7::text::jsonb, $8::text::jsonb)
returning id`

const insertTaggedTasks = `select id, held_tag, holder from {schema}.anchor_enqueue_tagged(
  $1::text[], $2::text[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
  $9::text[], $10::boolean[], $11::bigint[])`

func (s *PGStore) enqueue(ctx context.Context, tasks []*newTask) error {
	if err := s.check(); err != nil {
		return err
	}
	queues := queuesOf(tasks)
	write, announced := s.insertAll, false
	if len(queues) > 0 && len(tasks) <= enqueueRows && !anyTagged(tasks) && s.flushRight.Load() != flushRefused && s.waker.lead() {
		write = func(ctx context.Context, conn *pgx.Conn, tasks []*newTask) (err error) {
			announced, err = s.insertAndNotify(ctx, conn, tasks, queues)
			return err
		}
	}
	if err := s.enqueueOwn(ctx, tasks, write); err != nil {
		return err
	}
	if !announced {
		s.waker.wake(queues)
	}
	return nil
}

// enqueueOwn writes tasks by write, in a transaction of their own.
func (s *PGStore) enqueueOwn(ctx context.Context, tasks []*newTask, write func(ctx context.Context, conn *pgx.Conn, tasks []*newTask) error) error {
	for attempt := 1; ; attempt++ {
		stale := false
		err := onConn(ctx, s.pool, func(conn *pgxpool.Conn) error {
			err := write(ctx, conn.Conn(), tasks)
			// A connection of the pool that had died unnoticed: nothing was sent. All of them may have, the next is new then.
			stale = err != nil && conn.Conn().IsClosed() && unsent(err)
			return err
		})
		if stale && attempt <= int(s.pool.Stat().MaxConns()) && ctx.Err() == nil {
			continue
		}
		return writeError("enqueue", err)
	}
}

// insertAll needs no transaction block unless there are several statements.
func (s *PGStore) insertAll(ctx context.Context, conn *pgx.Conn, tasks []*newTask) error {
	if len(tasks) <= enqueueRows {
		return s.insert(ctx, conn, tasks)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return s.insertInPieces(ctx, tx, tasks) })
}

func (s *PGStore) insertInPieces(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	for start := 0; start < len(tasks); start += enqueueRows {
		if err := s.insert(ctx, tx, tasks[start:min(start+enqueueRows, len(tasks))]); err != nil {
			return err
		}
	}
	return nil
}

func (s *PGStore) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	if err := errors.Join(s.check(), notInMemory(tx)); err != nil {
		return err
	}
	if err := s.insertInPieces(ctx, tx, tasks); err != nil {
		return storeError("enqueue in a transaction", err)
	}
	// Nobody tells when the caller commits.
	s.waker.wakeLater(queuesOf(tasks))
	return nil
}

// notInMemory refuses a transaction that no database knows.
func notInMemory(tx pgx.Tx) error {
	if _, ok := innermost(tx).(*memoryTx); ok {
		return errors.New("anchor: tx is a transaction of the in-memory store, but the client's store is PostgreSQL")
	}
	return nil
}

// insert writes tasks by one statement and sets their ids. Its only error that is not the database's is
// *TaskExistsError.
func (s *PGStore) insert(ctx context.Context, db querier, tasks []*newTask) error {
	sql, args := s.insertion(tasks)
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return readInserted(rows, tasks)
}

// insertion is the statement that writes tasks.
func (s *PGStore) insertion(tasks []*newTask) (sql string, args []any) {
	if len(tasks) == 1 && tasks[0].tag == "" {
		t := tasks[0]
		return s.sql(insertTask), []any{
			t.name, t.queue, t.priority, t.maxAttempts, t.delay.Microseconds(), startMicros(t),
			string(t.params), nullText(string(t.attributes)),
		}
	}
	n := len(tasks)
	var (
		names      = make([]string, n)
		queues     = make([]string, n)
		priorities = make([]int16, n)
		attempts   = make([]int32, n)
		delays     = make([]int64, n)
		startAts   = make([]*int64, n)
		specs      = make([]string, n)
		attributes = make([]*string, n)
	)
	for i, t := range tasks {
		names[i], queues[i], priorities[i], attempts[i] = t.name, t.queue, t.priority, t.maxAttempts
		delays[i], startAts[i], specs[i], attributes[i] = t.delay.Microseconds(), startMicros(t), string(t.params), nullText(string(t.attributes))
	}
	args = []any{names, queues, priorities, attempts, delays, startAts, specs, attributes}
	if !anyTagged(tasks) {
		return s.sql(insertTasks), args
	}
	tags, whileLive, durations := make([]*string, n), make([]bool, n), make([]*int64, n)
	for i, t := range tasks {
		if t.tag == "" {
			continue
		}
		tags[i], whileLive[i] = &t.tag, t.scope.whileLive
		if t.scope.duration > 0 {
			duration := max(t.scope.duration.Microseconds(), 1)
			durations[i] = &duration
		}
	}
	return s.sql(insertTaggedTasks), append(args, tags, whileLive, durations)
}

func anyTagged(tasks []*newTask) bool {
	return slices.ContainsFunc(tasks, func(t *newTask) bool { return t.tag != "" })
}

func startMicros(t *newTask) *int64 {
	if t.startAt.IsZero() {
		return nil
	}
	at := t.startAt.UnixMicro()
	return &at
}

// readInserted reads the ids of tasks that were written, and closes rows.
func readInserted(rows pgx.Rows, tasks []*newTask) error {
	defer rows.Close()
	var held *string
	var id, holder pgtype.Int8
	into := []any{&id}
	if anyTagged(tasks) {
		into = append(into, &held, &holder)
	}
	got := 0
	for ; rows.Next(); got++ {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if held != nil {
			return &TaskExistsError{Tag: *held, ID: holder.Int64}
		}
		if got < len(tasks) {
			tasks[got].id = id.Int64
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if got != len(tasks) {
		return fmt.Errorf("the database answered %d ids for %d tasks", got, len(tasks))
	}
	return nil
}

// queuesOf lists the queues that tasks went to, each once, but for those that are not due soon.
func queuesOf(tasks []*newTask) []string {
	var queues []string
	seen := map[string]bool{}
	for _, t := range tasks {
		if seen[t.queue] || t.delay > 0 || time.Until(t.startAt) > 0 {
			continue
		}
		seen[t.queue] = true
		queues = append(queues, t.queue)
	}
	return queues
}
