-- Which queues a worker works on; null is every one.
alter table {schema}.anchor_workers add column queues text[];

-- The newest sample of the queues' depths, one row: what one worker has taken serves all. The source tells one
-- database's sample from another's.
create table {schema}.anchor_depths (
  source uuid not null default gen_random_uuid(),
  sampled_at timestamptz not null,
  sample jsonb not null
) with (fillfactor = 50);
insert into {schema}.anchor_depths (sampled_at, sample) values ('-infinity', '{}');

-- Counts what is pending by lanes (queue and priority), those of p_queues first: at most p_cap a lane, p_budget in
-- all, in p_lanes lanes. capped is true of a lane with more than was counted; a null queue stands for the lanes
-- that were not looked at. oldest is when the lane's first task is, or was, due. Only entries of
-- anchor_tasks_ready are read, in its order; what runs is passed.
create function {schema}.anchor_lanes(p_queues text[], p_lanes integer, p_cap integer, p_budget integer)
returns table (queue text, ready bigint, scheduled bigint, oldest timestamptz, capped boolean)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
set jit = off set max_parallel_workers_per_gather = 0 set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_lanes integer := p_lanes;
  v_budget integer := p_budget;
  v_limit integer;
  v_wanted integer := 0;
  v_queue text := '';
  v_priority smallint := 32767;
begin
  loop
    if v_wanted < cardinality(p_queues) and v_priority = 32767 then
      v_wanted := v_wanted + 1;
      v_queue := p_queues[v_wanted];
      v_priority := -32768;
    elsif v_wanted = cardinality(p_queues) and v_priority = 32767 then
      v_wanted := v_wanted + 1;
      v_queue := '';
    end if;
    if v_wanted <= cardinality(p_queues) then
      select t.priority, t.next_run into v_priority, oldest from {schema}.anchor_tasks_hot t
        where t.status = 'pending' and t.queue = v_queue and t.priority > v_priority
        order by t.queue, t.priority, t.next_run, t.id limit 1;
      if not found then
        v_priority := 32767;
        continue;
      end if;
    else
      select t.queue, t.priority, t.next_run into v_queue, v_priority, oldest from {schema}.anchor_tasks_hot t
        where t.status = 'pending' and t.queue >= v_queue and (t.queue, t.priority) > (v_queue, v_priority)
        order by t.queue, t.priority, t.next_run, t.id limit 1;
      exit when not found;
      if v_queue = any (p_queues) then
        v_priority := 32767;
        continue;
      end if;
    end if;
    if v_lanes = 0 then
      queue := null; ready := 0; scheduled := 0; oldest := null; capped := true;
      return next;
      exit;
    end if;
    v_lanes := v_lanes - 1;
    v_limit := least(p_cap, greatest(v_budget, 50)); -- a short lane is counted in any case
    select count(*) filter (where c.next_run <= v_now), count(*) filter (where c.next_run > v_now) into ready, scheduled
      from (select t.next_run from {schema}.anchor_tasks_hot t
            where t.status = 'pending' and t.queue = v_queue and t.priority = v_priority
            order by t.queue, t.priority, t.next_run, t.id limit v_limit) c;
    v_budget := v_budget - (ready + scheduled)::integer;
    queue := v_queue;
    capped := ready + scheduled >= v_limit;
    return next;
  end loop;
end
$$;

-- Counts the tasks on one page of the hot slot.
create function {schema}.anchor_page_counts(p_page bigint)
returns table (queue text, state text, n bigint)
language plpgsql
set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    select t.queue, case when t.status = 'running' then 'running' when t.next_run <= clock_timestamp() then 'ready' else 'scheduled' end, count(*)
    from {schema}.anchor_tasks_hot t
    where t.ctid >= ('(' || p_page || ',0)')::tid and t.ctid < ('(' || (p_page + 1) || ',0)')::tid
    group by 1, 2;
end
$$;

-- Answers the newest sample; takes one if that is older than p_max_age microseconds and nobody else is about to.
-- Counts up to 2,000 a lane are exact; above, they are an estimate from 100 pages spread over the hot slot.
create function {schema}.anchor_sample(p_max_age bigint, p_queues text[])
returns table (source uuid, sampled_at timestamptz, sample jsonb)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set jit = off set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
declare
  v_old timestamptz := clock_timestamp() - p_max_age * interval '1 microsecond';
  v_pages bigint;
  v_sample jsonb;
begin
  if not exists (select from {schema}.anchor_depths d where d.sampled_at > v_old)
    and pg_try_advisory_xact_lock(1634624363, hashtext('{schema}.anchor_depths'))
    and not exists (select from {schema}.anchor_depths d where d.sampled_at > v_old)
  then
    v_pages := pg_relation_size('{schema}.anchor_tasks_hot') / current_setting('block_size')::bigint;
    with lanes as materialized (
      select l.queue, sum(l.ready) as ready, sum(l.scheduled) as scheduled, min(l.oldest) as oldest, bool_or(l.capped) as capped
      from {schema}.anchor_lanes(p_queues, 200, 2000, 8000) l group by l.queue),
    held as materialized (
      select h.queue, count(*) as running from (
        select t.queue from {schema}.anchor_claims c cross join lateral (
          select r.queue from {schema}.anchor_tasks_hot r
          where r.id = any (c.ids) and r.status = 'running' and r.claim_token = c.token offset 0) t limit 10000) h group by h.queue),
    looked as materialized (
      select p.page from generate_series(0, v_pages - 1, greatest(v_pages / 100, 1)) as p (page)
      where (select bool_or(l.capped) from lanes l) or (select sum(h.running) >= 10000 from held h)),
    paged as materialized (
      select c.queue, c.state, (sum(c.n) * v_pages / (select count(*) from looked)) as n
      from looked k cross join lateral {schema}.anchor_page_counts(k.page) c group by 1, 2),
    estimated as materialized (
      select p.queue, round(sum(p.n) filter (where p.state = 'ready')) as ready, round(sum(p.n) filter (where p.state = 'scheduled')) as scheduled,
        round(sum(p.n) filter (where p.state = 'running')) as running from paged p group by 1),
    queues as (
      select coalesce(l.queue, e.queue, h.queue) as queue,
        case when l.queue is null or l.capped then greatest(l.ready, e.ready, 0) else l.ready end as ready,
        case when l.queue is null or l.capped then greatest(l.scheduled, e.scheduled, 0) else l.scheduled end as scheduled,
        greatest(h.running, e.running, 0) as running,
        greatest(extract(epoch from clock_timestamp() - l.oldest), 0) as oldest
      from (select * from lanes l where l.queue is not null) l
      full join estimated e on e.queue = l.queue
      full join held h on h.queue = coalesce(l.queue, e.queue))
    select coalesce(jsonb_agg(q), '[]') into v_sample from queues q;
    select jsonb_build_object('queues', v_sample, 'oldestTransaction', coalesce(max(extract(epoch from clock_timestamp() - x.since)), 0)) into v_sample
    from (
      select a.xact_start as since from pg_stat_activity a
      where a.pid <> pg_backend_pid() and (a.backend_xid is not null or a.backend_xmin is not null) and a.backend_type <> 'autovacuum worker'
      union all select p.prepared from pg_prepared_xacts p) x;
    update {schema}.anchor_depths d set sampled_at = clock_timestamp(), sample = v_sample;
  end if;
  return query select d.source, d.sampled_at, d.sample from {schema}.anchor_depths d;
end
$$;
