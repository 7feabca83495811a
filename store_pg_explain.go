package anchor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	explainTask = `select id, name, queue, priority, status, attempts, max_attempts, coalesce(unique_tag, ''), created_at, next_run, started_at, finished_at,
  coalesce(worker_id, ''), attributes, cancel_requested, paused_since, ahead, now from {schema}.anchor_explain($1::bigint, $2::integer)`

	listWorkers = `select id, host, pid, slots, names, queues, started_at, lease_until, alive, held from {schema}.anchor_list_workers()`
)

// explain reads all from one snapshot, so that a task and its worker fit together.
func (s *PGStore) explain(ctx context.Context, id int64) (*taskFacts, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	facts := &taskFacts{}
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) (err error) {
		rows, err := tx.Query(ctx, s.sql(explainTask), id, maxAhead)
		if err != nil {
			return err
		}
		if facts.task, err = pgx.CollectExactlyOneRow(rows, facts.scan); err != nil {
			return err
		}
		if err := s.readErrors(ctx, tx, []*TaskInfo{facts.task}); err != nil || facts.task.Status.Final() {
			return err
		}
		facts.workers, err = s.workersOn(ctx, tx)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrTaskNotFound
	}
	return facts, storeError("explain a task", err)
}

func (f *taskFacts) scan(row pgx.CollectableRow) (*TaskInfo, error) {
	var task TaskInfo
	var attributes *string
	var started, finished, paused *time.Time
	err := row.Scan(&task.ID, &task.Name, &task.Queue, &task.Priority, &task.Status, &task.Attempts, &task.MaxAttempts, &task.UniqueTag,
		&task.CreatedAt, &task.NextRun, &started, &finished, &task.WorkerID, &attributes, &f.cancelRequested, &paused, &f.ahead, &f.now)
	task.StartedAt, task.FinishedAt, task.ScheduledFor = orZero(started), orZero(finished), scheduledFor(attributes)
	f.pausedSince = orZero(paused)
	return &task, err
}

func (s *PGStore) workerInfos(ctx context.Context) ([]*WorkerInfo, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	workers, err := s.workersOn(ctx, s.pool)
	return workers, storeError("read the workers", err)
}

func (s *PGStore) workersOn(ctx context.Context, db querier) ([]*WorkerInfo, error) {
	rows, err := db.Query(ctx, s.sql(listWorkers))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*WorkerInfo, error) {
		var w WorkerInfo
		err := row.Scan(&w.ID, &w.Host, &w.PID, &w.Slots, &w.Tasks, &w.Queues, &w.StartedAt, &w.LeaseUntil, &w.Alive, &w.Held)
		slices.Sort(w.Tasks)
		return &w, err
	})
}
