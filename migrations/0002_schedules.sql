-- The schedules that a worker's code declares, by name, with their declarations.
alter table {schema}.anchor_workers add column crons jsonb not null default '{}';

-- Schedules. A tick moves next_run, which is the next tick; everything else that is changed raises version. A
-- declared schedule that an operator deleted is kept with deleted_at.
create table {schema}.anchor_cron_jobs (
  id bigint generated always as identity primary key,
  version bigint not null default 1,
  task_id bigint, -- the newest instance
  next_run timestamptz not null,
  last_tick timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  deleted_at timestamptz,
  skipped bigint not null default 0,
  tag_duration bigint, -- in microseconds
  max_attempts integer not null,
  priority smallint not null,
  enabled boolean not null,
  tag_while_live boolean not null default false,
  declared_enabled boolean not null default false,
  name text collate "C" not null unique,
  task_name text collate "C" not null,
  cron_expression text not null,
  time_zone text not null,
  catch_up text not null,
  queue text collate "C" not null,
  unique_tag text collate "C",
  problem text, -- why it is stopped
  declaration text,
  replaced text[] not null default '{}',
  params jsonb not null,
  attributes jsonb
) with (fillfactor = 70);
create index anchor_cron_jobs_due on {schema}.anchor_cron_jobs (next_run) where enabled and problem is null and deleted_at is null;

-- The ticks that were dealt with: at most one instance for each. task_id is null where the unique tag was held.
create table {schema}.anchor_cron_runs (
  cron_id bigint not null references {schema}.anchor_cron_jobs (id) on delete cascade,
  tick timestamptz not null,
  task_id bigint,
  at timestamptz not null default clock_timestamp(),
  primary key (cron_id, tick)
);
create index anchor_cron_runs_at on {schema}.anchor_cron_runs (at);

-- Makes an instance for each schedule and time, in order. p_shown are the times as the instances carry them. An
-- instance whose unique tag is held is not made, then held_tag and its holder are set.
create function {schema}.anchor_cron_spawn(p_crons bigint[], p_ticks timestamptz[], p_shown text[])
returns table (cron_id bigint, tick timestamptz, task_id bigint, queue text, held_tag text, holder bigint)
language plpgsql
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_sequence regclass := pg_get_serial_sequence('{schema}.anchor_tasks', 'id');
  v_run record;
begin
  return query
    with wanted as (
      select j.id as job, x.tick, x.shown, x.place
      from unnest(p_crons, p_ticks, p_shown) with ordinality as x (cron, tick, shown, place)
      join {schema}.anchor_cron_jobs j on j.id = x.cron
      where j.unique_tag is null
      order by x.place offset 0),
    numbered as materialized (
      select w.job, w.tick, w.shown, nextval(v_sequence) as task from wanted w),
    made as (
      insert into {schema}.anchor_tasks (id, name, queue, priority, max_attempts, created_at, updated_at, next_run, spec, attributes)
      select n.task, j.task_name, j.queue, j.priority, j.max_attempts, v_now, v_now, v_now, j.params,
        coalesce(j.attributes, '{}') || jsonb_build_object('scheduledFor', n.shown)
      from numbered n join {schema}.anchor_cron_jobs j on j.id = n.job
      order by n.task)
    select n.job, n.tick, n.task, j.queue, null::text, null::bigint
    from numbered n join {schema}.anchor_cron_jobs j on j.id = n.job
    order by n.task;
  for v_run in
    select j.*, x.tick, x.shown
    from unnest(p_crons, p_ticks, p_shown) with ordinality as x (cron, tick, shown, place)
    join {schema}.anchor_cron_jobs j on j.id = x.cron
    where j.unique_tag is not null
    order by x.place
  loop
    return query
      select v_run.id, v_run.tick, e.id, v_run.queue, e.held_tag, e.holder
      from {schema}.anchor_enqueue_tagged(
        array[v_run.task_name], array[v_run.queue], array[v_run.priority], array[v_run.max_attempts], array[0::bigint], array[null::bigint],
        array[v_run.params::text], array[(coalesce(v_run.attributes, '{}') || jsonb_build_object('scheduledFor', v_run.shown))::text],
        array[v_run.unique_tag], array[v_run.tag_while_live], array[v_run.tag_duration]) e;
  end loop;
end
$$;

-- Deals with the ticks of schedules: p_ids, p_versions and p_due are the schedules as they were read, p_next and
-- p_skipped what becomes of them; p_tick_ids, p_ticks and p_shown are the instances. A schedule is left out when it
-- was changed since, when it is not due by this server's clock, or when somebody else is at it. One statement does
-- it all, so that a worker which stops in the middle holds no lock.
create function {schema}.anchor_cron_tick(
  p_ids bigint[], p_versions bigint[], p_due timestamptz[], p_next timestamptz[], p_skipped bigint[],
  p_tick_ids bigint[], p_ticks timestamptz[], p_shown text[])
returns table (cron_id bigint, queue text, instances integer, held integer)
language plpgsql
set lock_timeout = '250ms'
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_held bigint[];
  v_crons bigint[];
  v_ticks timestamptz[];
  v_shown text[];
begin
  v_held := array(
    select j.id
    from {schema}.anchor_cron_jobs j
    join unnest(p_ids, p_versions, p_due) as x (id, version, due) on j.id = x.id
    where j.version = x.version and j.next_run = x.due and j.next_run <= v_now
      and j.enabled and j.problem is null and j.deleted_at is null
    order by j.id
    for update of j skip locked);
  if cardinality(v_held) = 0 then
    return;
  end if;
  select array_agg(x.id order by x.place), array_agg(x.tick order by x.place), array_agg(x.shown order by x.place)
    into v_crons, v_ticks, v_shown
    from unnest(p_tick_ids, p_ticks, p_shown) with ordinality as x (id, tick, shown, place)
    where x.id = any (v_held)
      and not exists (select from {schema}.anchor_cron_runs r where r.cron_id = x.id and r.tick = x.tick);
  return query
    with spawned as materialized (
      select s.cron_id, s.tick, s.task_id from {schema}.anchor_cron_spawn(v_crons, v_ticks, v_shown) s),
    recorded as (
      insert into {schema}.anchor_cron_runs (cron_id, tick, task_id)
      select s.cron_id, s.tick, s.task_id from spawned s),
    counted as (
      select s.cron_id, count(s.task_id) as made, count(*) - count(s.task_id) as held, max(s.task_id) as newest
      from spawned s group by s.cron_id),
    planned as (
      select x.id, x.next, x.skipped, (select max(t.tick) from unnest(p_tick_ids, p_ticks) as t (id, tick) where t.id = x.id) as newest
      from unnest(p_ids, p_next, p_skipped) as x (id, next, skipped)
      where x.id = any (v_held))
    update {schema}.anchor_cron_jobs j
    set next_run = p.next, last_tick = coalesce(p.newest, j.last_tick), task_id = coalesce(c.newest, j.task_id),
        skipped = j.skipped + p.skipped + coalesce(c.held, 0)
    from planned p left join counted c on c.cron_id = p.id
    where j.id = p.id
    returning j.id, j.queue, coalesce(c.made, 0)::integer, coalesce(c.held, 0)::integer;
end
$$;

-- Makes an instance of a schedule now, for a time that is no tick.
create function {schema}.anchor_cron_run(p_name text, p_shown text)
returns table (task_id bigint, queue text, held_tag text, holder bigint)
language plpgsql
as $$
#variable_conflict use_column
declare
  v_id bigint;
begin
  select j.id into v_id from {schema}.anchor_cron_jobs j where j.name = p_name and j.deleted_at is null for update;
  if not found then
    return;
  end if;
  return query
    with spawned as materialized (
      select s.* from {schema}.anchor_cron_spawn(array[v_id], array[p_shown::timestamptz], array[p_shown]) s),
    noted as (
      update {schema}.anchor_cron_jobs j set task_id = s.task_id from spawned s where j.id = v_id and s.task_id is not null)
    select s.task_id, s.queue, s.held_tag, s.holder from spawned s;
end
$$;
