package anchor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A live worker, as seen from anchor_workers w.
const liveWorker = `w.lease_until > clock_timestamp() and w.taken_back_at is null`

const cronColumns = `j.id, j.version, j.name, j.task_name, j.cron_expression, j.time_zone, j.catch_up, j.params::text, j.attributes::text,
  j.queue, j.priority, j.max_attempts, j.unique_tag, j.tag_while_live, j.tag_duration, j.enabled, coalesce(j.problem, ''),
  j.deleted_at is not null, j.next_run, j.last_tick, coalesce(j.task_id, 0), j.skipped, j.created_at, j.updated_at,
  coalesce(j.declaration, ''), j.declared_enabled, j.replaced, clock_timestamp(),
  j.declaration is not null and exists (select from {schema}.anchor_workers w where ` + liveWorker + `)
    and not exists (select from {schema}.anchor_workers w where ` + liveWorker + ` and w.crons ? j.name),
  exists (select from {schema}.anchor_workers w where ` + liveWorker + ` and w.crons ->> j.name = j.declaration)`

const (
	// selectCrons reads the whole table or, by the unique index, some names.
	selectCrons = `select ` + cronColumns + ` from {schema}.anchor_cron_jobs j
where $1::text[] is null or j.name = any ($1) order by j.name`

	selectNow = `select clock_timestamp()`

	insertCron = `insert into {schema}.anchor_cron_jobs (name, task_name, cron_expression, time_zone, catch_up, params, attributes,
  queue, priority, max_attempts, unique_tag, tag_while_live, tag_duration, enabled, problem, declaration, declared_enabled, replaced, next_run)
values ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
on conflict (name) do nothing`

	// updateCron writes next_run only when it was set: a tick may be moving it.
	updateCron = `update {schema}.anchor_cron_jobs
set task_name = $2, cron_expression = $3, time_zone = $4, catch_up = $5, params = $6::text::jsonb, attributes = $7::text::jsonb,
  queue = $8, priority = $9, max_attempts = $10, unique_tag = $11, tag_while_live = $12, tag_duration = $13, enabled = $14,
  problem = $15, declaration = $16, declared_enabled = $17, replaced = $18, next_run = coalesce($19, next_run),
  deleted_at = case when $20::boolean then clock_timestamp() end, version = version + 1, updated_at = clock_timestamp()
where name = $1 and id = $21 and version = $22`

	deleteCron = `delete from {schema}.anchor_cron_jobs where id = $1 and version = $2`

	spawnCron = `select task_id, queue, held_tag, holder from {schema}.anchor_cron_run($1, $2)`
)

func (s *PGStore) crons(ctx context.Context, names []string) ([]*cronJob, error) {
	return s.cronsOn(ctx, s.pool, names)
}

func (s *PGStore) changeCron(ctx context.Context, name string, change func(job *cronJob) (bool, error)) error {
	return s.changeCronOn(ctx, s.pool, name, change)
}

func (p *pgSession) crons(ctx context.Context, names []string) ([]*cronJob, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.store.cronsOn(ctx, p.pool, names)
}

func (p *pgSession) changeCron(ctx context.Context, name string, change func(job *cronJob) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.store.changeCronOn(ctx, p.pool, name, change)
}

func (s *PGStore) cronsOn(ctx context.Context, db querier, names []string) ([]*cronJob, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, s.sql(selectCrons), names)
	if err != nil {
		return nil, storeError("read the schedules", err)
	}
	jobs, err := pgx.CollectRows(rows, scanCron)
	return jobs, storeError("read the schedules", err)
}

func scanCron(row pgx.CollectableRow) (*cronJob, error) {
	var j cronJob
	var params string
	var attributes, tag *string
	var duration *int64
	var lastTick *time.Time
	err := row.Scan(&j.id, &j.version, &j.name, &j.taskName, &j.expression, &j.timeZone, &j.catchUp, &params, &attributes,
		&j.queue, &j.priority, &j.maxAttempts, &tag, &j.scope.whileLive, &duration, &j.enabled, &j.problem,
		&j.deleted, &j.nextRun, &lastTick, &j.taskID, &j.skipped, &j.created, &j.updated,
		&j.declaration, &j.declaredEnabled, &j.replaced, &j.now, &j.orphaned, &j.declarationLives)
	if err != nil {
		return nil, err
	}
	j.params = []byte(params)
	if attributes != nil {
		j.attributes = []byte(*attributes)
	}
	if tag != nil {
		j.tag = *tag
	}
	if duration != nil {
		j.scope.duration = time.Duration(*duration) * time.Microsecond
	}
	if lastTick != nil {
		j.lastTick = *lastTick
	}
	return &j, nil
}

// changeCronOn reads the schedule, and writes it unless somebody else has changed it meanwhile: then once more.
func (s *PGStore) changeCronOn(ctx context.Context, db querier, name string, change func(job *cronJob) (bool, error)) error {
	const tried = "change a schedule"
	for {
		jobs, err := s.cronsOn(ctx, db, []string{name})
		if err != nil {
			return err
		}
		job := &cronJob{name: name}
		if len(jobs) == 1 {
			job = jobs[0]
		} else if err := db.QueryRow(ctx, s.sql(selectNow)).Scan(&job.now); err != nil {
			return storeError(tried, err)
		}
		before := *job
		if write, err := change(job); err != nil || !write {
			return err
		}
		written, err := s.writeCron(ctx, db, &before, job)
		if err != nil && !isConflict(err) {
			return writeError(tried, err)
		}
		if written {
			// A hint to the workers. Lost, it costs a poll interval.
			_, _ = db.Exec(ctx, notifyChannel, s.channel(), []string{cronsPayload})
			return nil
		}
	}
}

func (s *PGStore) writeCron(ctx context.Context, db querier, before, job *cronJob) (bool, error) {
	var tag pgconn.CommandTag
	var err error
	var duration *int64
	if job.scope.duration > 0 {
		microseconds := max(job.scope.duration.Microseconds(), 1)
		duration = &microseconds
	}
	var nextRun *time.Time
	if !job.nextRun.Equal(before.nextRun) {
		nextRun = &job.nextRun
	}
	columns := []any{
		job.name, job.taskName, job.expression, job.timeZone, string(job.catchUp), string(job.params), nullText(string(job.attributes)),
		job.queue, job.priority, job.maxAttempts, nullText(job.tag), job.scope.whileLive, duration, job.enabled, nullText(job.problem),
		nullText(job.declaration), job.declaredEnabled, append([]string{}, job.replaced...), nextRun,
	}
	switch {
	case job.id == 0:
		tag, err = db.Exec(ctx, s.sql(insertCron), columns...)
	case job.deleted && job.declaration == "":
		tag, err = db.Exec(ctx, s.sql(deleteCron), job.id, job.version)
	default:
		tag, err = db.Exec(ctx, s.sql(updateCron), append(columns, job.deleted, job.id, job.version)...)
	}
	return tag.RowsAffected() > 0, err
}

func (s *PGStore) runCron(ctx context.Context, name string, at time.Time) (int64, error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	var task, holder *int64
	var queue string
	var held *string
	err := s.pool.QueryRow(ctx, s.sql(spawnCron), name, at.Format(time.RFC3339Nano)).Scan(&task, &queue, &held, &holder)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, noCron(name)
	case err != nil:
		return 0, writeError("run a schedule now", err)
	case held != nil:
		exists := &TaskExistsError{Tag: *held}
		if holder != nil {
			exists.ID = *holder
		}
		return 0, exists
	}
	s.waker.wake([]string{queue})
	return *task, nil
}

const (
	selectNextCron = `select clock_timestamp(), min(j.next_run) from {schema}.anchor_cron_jobs j
where j.enabled and j.problem is null and j.deleted_at is null and j.next_run > clock_timestamp() and not j.id = any (coalesce($1::bigint[], '{}'))`

	// selectDueCrons reads the due end of anchor_cron_jobs_due.
	selectDueCrons = `select j.id, j.version, j.name, j.cron_expression, j.time_zone, j.catch_up, coalesce(j.unique_tag, ''), j.next_run
from {schema}.anchor_cron_jobs j
where j.enabled and j.problem is null and j.deleted_at is null and j.next_run <= clock_timestamp() and not j.id = any (coalesce($1::bigint[], '{}'))
  and (j.declaration is null or exists (select from {schema}.anchor_workers w where ` + liveWorker + ` and w.crons ? j.name))
order by j.next_run, j.id limit $2`

	tickCrons = `select cron_id, queue, instances, held from {schema}.anchor_cron_tick(
  $1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::text[])`
)

func (p *pgSession) dueCrons(ctx context.Context, without []int64, limit int) (dueCrons, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var due dueCrons
	batch := &pgx.Batch{}
	batch.Queue(p.store.sql(selectNextCron), without).QueryRow(func(row pgx.Row) error {
		var next *time.Time
		err := row.Scan(&due.now, &next)
		if next != nil {
			due.next = *next
		}
		return err
	})
	batch.Queue(p.store.sql(selectDueCrons), without, limit).Query(func(rows pgx.Rows) (err error) {
		due.jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*cronJob, error) {
			j := &cronJob{enabled: true}
			return j, row.Scan(&j.id, &j.version, &j.name, &j.expression, &j.timeZone, &j.catchUp, &j.tag, &j.nextRun)
		})
		return err
	})
	return due, storeError("look for due schedules", p.pool.SendBatch(ctx, batch).Close())
}

func (p *pgSession) tick(ctx context.Context, ticks []cronTick) ([]cronTicked, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := pauseAt(pauseBeforeTickInsert, 0); err != nil {
		return nil, err
	}
	var ids, versions, skipped, tickIDs []int64
	var due, next, tickTimes []time.Time
	var shown []string
	for _, t := range ticks {
		ids, versions, skipped = append(ids, t.job.id), append(versions, t.job.version), append(skipped, t.skipped)
		due, next = append(due, t.job.nextRun), append(next, t.next)
		for _, tick := range t.ticks {
			tickIDs, tickTimes, shown = append(tickIDs, t.job.id), append(tickTimes, tick), append(shown, tick.Format(time.RFC3339Nano))
		}
	}
	rows, err := p.pool.Query(ctx, p.store.sql(tickCrons), ids, versions, due, next, skipped, tickIDs, tickTimes, shown)
	var ticked []cronTicked
	var queues []string
	if err == nil {
		var queue string
		var one cronTicked
		_, err = pgx.ForEachRow(rows, []any{&one.id, &queue, &one.instances, &one.held}, func() error {
			ticked = append(ticked, one)
			if one.instances > 0 && !slices.Contains(queues, queue) {
				queues = append(queues, queue)
			}
			return nil
		})
	}
	if err == nil && len(ticked) > 0 {
		err = pauseAt(pauseAfterTickInsert, 0)
	}
	switch {
	case sqlState(err) == stateLockNotAvailable:
		return nil, errTickBusy
	case isConflict(err):
		return nil, nil // somebody else is at it
	case err != nil:
		return nil, storeError("tick schedules", err)
	}
	for _, queue := range queues {
		p.hint(wakeup{queue: queue}) // the others are told by a notification, if they listen
	}
	p.store.waker.wake(queues)
	return ticked, nil
}

// hint wakes this session's own worker.
func (p *pgSession) hint(w wakeup) {
	select {
	case p.hints <- w:
	default: // it has hints enough to come and look
	}
}

// pruneCronRuns keeps the ticks of a day, by anchor_cron_runs_at.
const pruneCronRuns = `delete from {schema}.anchor_cron_runs r where (r.cron_id, r.tick) in (
  select o.cron_id, o.tick from {schema}.anchor_cron_runs o where o.at < clock_timestamp() - interval '1 day' order by o.at limit 50000 for update skip locked)`
