package anchor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	if err := s.enqueueOwn(ctx, tasks); err != nil {
		return err
	}
	s.waker.wake(queuesOf(tasks))
	return nil
}

// enqueueOwn writes tasks in a transaction of their own, which is implicit unless they need several statements.
func (s *PGStore) enqueueOwn(ctx context.Context, tasks []*newTask) error {
	for attempt := 1; ; attempt++ {
		stale := false
		err := onConn(ctx, s.pool, func(conn *pgxpool.Conn) error {
			write := s.insert
			if len(tasks) > enqueueRows {
				write = s.insertInPieces
			}
			err := write(ctx, conn.Conn(), tasks)
			// A connection of the pool that had died unnoticed: nothing was sent. All of them may have, the next is new then.
			stale = err != nil && conn.Conn().IsClosed() && pgconn.SafeToRetry(err)
			return err
		})
		if stale && attempt <= int(s.pool.Stat().MaxConns()) && ctx.Err() == nil {
			continue
		}
		return writeError("enqueue", err)
	}
}

func (s *PGStore) insertInPieces(ctx context.Context, db querier, tasks []*newTask) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for start := 0; start < len(tasks); start += enqueueRows {
			if err := s.insert(ctx, tx, tasks[start:min(start+enqueueRows, len(tasks))]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *PGStore) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	if err := errors.Join(s.check(), notInMemory(tx)); err != nil {
		return err
	}
	for start := 0; start < len(tasks); start += enqueueRows {
		if err := s.insert(ctx, tx, tasks[start:min(start+enqueueRows, len(tasks))]); err != nil {
			return storeError("enqueue in a transaction", err)
		}
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
	n := len(tasks)
	if n == 1 && tasks[0].tag == "" {
		return s.insertOne(ctx, db, tasks[0])
	}
	var (
		names      = make([]string, n)
		queues     = make([]string, n)
		priorities = make([]int16, n)
		attempts   = make([]int32, n)
		delays     = make([]int64, n)
		startAts   = make([]*int64, n)
		specs      = make([]string, n)
		attributes = make([]*string, n)
		tagged     = false
	)
	for i, t := range tasks {
		names[i], queues[i], priorities[i], attempts[i] = t.name, t.queue, t.priority, t.maxAttempts
		delays[i], specs[i] = t.delay.Microseconds(), string(t.params)
		if !t.startAt.IsZero() {
			at := t.startAt.UnixMicro()
			startAts[i] = &at
		}
		if t.attributes != nil {
			text := string(t.attributes)
			attributes[i] = &text
		}
		tagged = tagged || t.tag != ""
	}
	if tagged {
		return s.insertTagged(ctx, db, tasks, names, queues, priorities, attempts, delays, startAts, specs, attributes)
	}
	rows, err := db.Query(ctx, s.sql(insertTasks), names, queues, priorities, attempts, delays, startAts, specs, attributes)
	if err != nil {
		return err
	}
	defer rows.Close()
	got := 0
	for ; rows.Next(); got++ {
		if got < n {
			if err := rows.Scan(&tasks[got].id); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("the database answered %d ids for %d tasks", got, n)
	}
	return nil
}

func (s *PGStore) insertOne(ctx context.Context, db querier, t *newTask) error {
	var startAt *int64
	if !t.startAt.IsZero() {
		at := t.startAt.UnixMicro()
		startAt = &at
	}
	err := db.QueryRow(ctx, s.sql(insertTask), t.name, t.queue, t.priority, t.maxAttempts, t.delay.Microseconds(), startAt,
		string(t.params), nullText(string(t.attributes))).Scan(&t.id)
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.New("the database answered no id for a task")
	}
	return err
}

func (s *PGStore) insertTagged(ctx context.Context, db querier, tasks []*newTask, columns ...any) error {
	n := len(tasks)
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
	rows, err := db.Query(ctx, s.sql(insertTaggedTasks), append(columns, tags, whileLive, durations)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		var id, holder *int64
		var held *string
		if err := rows.Scan(&id, &held, &holder); err != nil {
			return err
		}
		if held != nil {
			exists := &TaskExistsError{Tag: *held}
			if holder != nil {
				exists.ID = *holder
			}
			rows.Close()
			return exists
		}
		if i < n && id != nil {
			tasks[i].id = *id
		}
	}
	return rows.Err()
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
