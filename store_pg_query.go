package anchor

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const taskColumns = `t.id, t.name, t.queue, t.priority, t.status, t.attempts, t.max_attempts, t.spec::text, coalesce(t.unique_tag, ''),
  t.created_at, t.next_run, t.started_at, t.finished_at, coalesce(t.worker_id::text, ''), t.attributes::text`

// selectTask reads one index entry of each slot.
const selectTask = `select ` + taskColumns + ` from {schema}.anchor_tasks t where t.id = $1`

// selectTasks merges the primary keys of the slots that the statuses can be in, from the newest id down.
const selectTasks = `select ` + taskColumns + ` from {schema}.anchor_tasks t
where t.id < $1 and ($2::smallint[] is null or t.slot = any ($2)) and ($3::text[] is null or t.status = any ($3))
  and ($4::text = '' or t.name = $4) and ($5::text = '' or t.queue = $5) and ($6::text = '' or t.unique_tag = $6)
order by t.id desc limit $7`

const selectErrors = `select task_id, attempt, at, message from {schema}.anchor_task_errors where task_id = any ($1::bigint[]) order by task_id, id`

func (s *PGStore) task(ctx context.Context, id int64) (*TaskInfo, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	tasks, err := s.readTasks(ctx, selectTask, id)
	if err != nil {
		return nil, storeError("read a task", err)
	}
	if len(tasks) == 0 {
		return nil, ErrTaskNotFound
	}
	return tasks[0], nil
}

func (s *PGStore) tasks(ctx context.Context, q TaskQuery) ([]*TaskInfo, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var statuses []string
	var slots []int16
	for _, status := range q.Status {
		statuses = append(statuses, string(status))
		slots = append(slots, slotsOf(status)...)
	}
	before := q.Before
	if before == 0 {
		before = math.MaxInt64
	}
	tasks, err := s.readTasks(ctx, selectTasks, before, slots, statuses, q.Name, q.Queue, q.UniqueTag, q.Limit)
	return tasks, storeError("read tasks", err)
}

// slotsOf are the slots that a status can be in.
func slotsOf(status Status) []int16 {
	switch status {
	case StatusCompleted:
		return []int16{1, 2, 3, 4, 5, 6, 7, 8}
	case StatusFailed, StatusCancelled:
		return []int16{-1}
	}
	return []int16{0}
}

func (s *PGStore) readTasks(ctx context.Context, statement string, args ...any) (tasks []*TaskInfo, err error) {
	err = onConn(ctx, s.pool, func(conn *pgxpool.Conn) error {
		tasks, err = s.readTasksOn(ctx, conn, statement, args...)
		return err
	})
	return tasks, err
}

func (s *PGStore) readTasksOn(ctx context.Context, db querier, statement string, args ...any) ([]*TaskInfo, error) {
	rows, err := db.Query(ctx, s.sql(statement), args...)
	if err != nil {
		return nil, err
	}
	tasks, err := pgx.CollectRows(rows, scanTask)
	if err != nil || len(tasks) == 0 {
		return tasks, err
	}
	return tasks, s.readErrors(ctx, db, tasks)
}

// readErrors adds their errors to tasks.
func (s *PGStore) readErrors(ctx context.Context, db querier, tasks []*TaskInfo) error {
	ids, byID := make([]int64, len(tasks)), make(map[int64]*TaskInfo, len(tasks))
	for i, task := range tasks {
		ids[i], byID[task.ID] = task.ID, task
	}
	rows, err := db.Query(ctx, s.sql(selectErrors), ids)
	if err != nil {
		return err
	}
	var id int64
	var failure AttemptError
	_, err = pgx.ForEachRow(rows, []any{&id, &failure.Attempt, &failure.At, &failure.Message}, func() error {
		byID[id].Errors = append(byID[id].Errors, failure)
		return nil
	})
	return err
}

func scanTask(row pgx.CollectableRow) (*TaskInfo, error) {
	var task TaskInfo
	var params string
	var attributes *string
	var started, finished *time.Time
	if err := row.Scan(&task.ID, &task.Name, &task.Queue, &task.Priority, &task.Status, &task.Attempts, &task.MaxAttempts, &params,
		&task.UniqueTag, &task.CreatedAt, &task.NextRun, &started, &finished, &task.WorkerID, &attributes); err != nil {
		return nil, err
	}
	task.Params = json.RawMessage(params)
	task.StartedAt, task.FinishedAt, task.ScheduledFor = orZero(started), orZero(finished), scheduledFor(attributes)
	return &task, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// scheduledFor reads the tick in a task's attributes.
func scheduledFor(attributes *string) time.Time {
	var differing taskAttributes
	if attributes == nil || json.Unmarshal([]byte(*attributes), &differing) != nil {
		return time.Time{}
	}
	return differing.ScheduledFor
}

// selectStats reads the hot and the kept slot once.
const selectStats = `select coalesce(t.queue, q.name), coalesce(q.paused, false), q.updated_at,
  coalesce(sum(t.ready), 0)::bigint, coalesce(sum(t.scheduled), 0)::bigint, coalesce(sum(t.running), 0)::bigint, coalesce(sum(t.failed), 0)::bigint,
  coalesce(extract(epoch from clock_timestamp() - min(t.oldest)) * 1e6, 0)::bigint
from (
  select queue, count(*) filter (where status = 'pending' and next_run <= clock_timestamp()) as ready,
    count(*) filter (where status = 'pending' and next_run > clock_timestamp()) as scheduled,
    count(*) filter (where status = 'running') as running, 0 as failed,
    min(next_run) filter (where status = 'pending' and next_run <= clock_timestamp()) as oldest
  from {schema}.anchor_tasks_hot group by queue
  union all
  select queue, 0, 0, 0, count(*), null from {schema}.anchor_tasks_kept where status = 'failed' group by queue) t
full join (select name, paused, updated_at from {schema}.anchor_queues where paused) q on q.name = t.queue
group by 1, 2, 3 order by 1`

func (s *PGStore) stats(ctx context.Context) (*Stats, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, s.sql(selectStats))
	if err != nil {
		return nil, storeError("count tasks", err)
	}
	stats := &Stats{}
	var q QueueStats
	var oldest int64
	var paused *time.Time
	_, err = pgx.ForEachRow(rows, []any{&q.Queue, &q.Paused, &paused, &q.Ready, &q.Scheduled, &q.Running, &q.Failed, &oldest}, func() error {
		q.OldestReady, q.PausedSince = time.Duration(oldest)*time.Microsecond, orZero(paused)
		stats.Queues = append(stats.Queues, q)
		return nil
	})
	return stats, storeError("count tasks", err)
}

const (
	cancelTask  = `select {schema}.anchor_cancel($1::bigint)`
	retryTask   = `select result, held_tag, holder, queue_name from {schema}.anchor_retry($1::bigint)`
	releaseTag  = `delete from {schema}.anchor_unique_tags where tag = $1`
	upsertQueue = `insert into {schema}.anchor_queues (name, paused) values ($1, $2)
on conflict (name) do update set paused = excluded.paused, updated_at = clock_timestamp() where anchor_queues.paused <> excluded.paused`
)

func (s *PGStore) cancel(ctx context.Context, tx pgx.Tx, id int64) error {
	if err := s.check(); err != nil {
		return err
	}
	var result string
	ask := func(db querier) error {
		for range conflictTries {
			if err := db.QueryRow(ctx, s.sql(cancelTask), id).Scan(&result); err != nil || result != "changed" {
				return err
			}
		}
		return nil
	}
	var err error
	if tx != nil {
		if err := notInMemory(tx); err != nil {
			return err
		}
		err = ask(tx)
	} else {
		err = onConn(ctx, s.pool, func(conn *pgxpool.Conn) error { return ask(conn) })
	}
	if err != nil {
		return storeError("cancel a task", err)
	}
	switch result {
	case "changed":
		return fmt.Errorf("anchor: task %d was changed by another transaction since this one began", id)
	case "unknown":
		return ErrTaskNotFound
	case "final":
		return ErrTaskNotCancellable
	case "running":
		if tx == nil {
			s.notifyCancelled(id)
		} else {
			for _, delay := range wakeLaterDelays {
				time.AfterFunc(delay, func() { s.notifyIfCancelled(id) })
			}
		}
	}
	return nil
}

func (s *PGStore) retry(ctx context.Context, id int64) error {
	if err := s.check(); err != nil {
		return err
	}
	var result string
	var held, queue *string
	var holder *int64
	err := onConn(ctx, s.pool, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, s.sql(retryTask), id).Scan(&result, &held, &holder, &queue)
	})
	if err != nil {
		if isConflict(err) {
			return ErrTaskNotRetryable // somebody else has just retried it
		}
		return writeError("retry a task", err)
	}
	switch result {
	case "unknown":
		return ErrTaskNotFound
	case "final":
		return ErrTaskNotRetryable
	case "held":
		exists := &TaskExistsError{Tag: *held}
		if holder != nil {
			exists.ID = *holder
		}
		return exists
	}
	s.waker.wake([]string{*queue})
	return nil
}

func (s *PGStore) releaseTag(ctx context.Context, tag string) error {
	if err := s.check(); err != nil {
		return err
	}
	return writeError("release a unique tag", s.exec(ctx, releaseTag, tag))
}

func (s *PGStore) setPaused(ctx context.Context, queue string, paused bool) error {
	if err := s.check(); err != nil {
		return err
	}
	err := s.exec(ctx, upsertQueue, queue, paused)
	if err == nil && !paused {
		s.waker.wake([]string{queue})
	}
	return writeError("pause or resume a queue", err)
}

func (s *PGStore) exec(ctx context.Context, statement string, args ...any) error {
	return onConn(ctx, s.pool, func(conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, s.sql(statement), args...)
		return err
	})
}
