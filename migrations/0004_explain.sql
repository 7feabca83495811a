-- What holds a task up, in one row; none where there is no such task. paused_since is that of its queue. Of a task
-- that is due, ahead counts those which its queue has due before it, up to p_cap + 1: by priority, then by time.
-- All is read backwards from the task's own place, the way to the fewest entries of tasks that were claimed already.
create function {schema}.anchor_explain(p_id bigint, p_cap integer)
returns table (
  id bigint, name text, queue text, priority smallint, status text, attempts integer, max_attempts integer, unique_tag text,
  created_at timestamptz, next_run timestamptz, started_at timestamptz, finished_at timestamptz, worker_id text, attributes text,
  cancel_requested boolean, paused_since timestamptz, ahead integer, now timestamptz)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
set jit = off set max_parallel_workers_per_gather = 0 set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_lane smallint;
  v_left integer := p_cap + 1;
  v_got integer;
begin
  now := clock_timestamp();
  select t.id, t.name, t.queue, t.priority, t.status, t.attempts, t.max_attempts, t.unique_tag,
      t.created_at, t.next_run, t.started_at, t.finished_at, t.worker_id::text, t.attributes::text, t.cancel_requested
    into id, name, queue, priority, status, attempts, max_attempts, unique_tag,
      created_at, next_run, started_at, finished_at, worker_id, attributes, cancel_requested
    from {schema}.anchor_tasks t where t.id = p_id;
  if not found then
    return;
  end if;
  ahead := 0;
  if status = 'pending' then
    select q.updated_at into paused_since from {schema}.anchor_queues q where q.name = anchor_explain.queue and q.paused;
  end if;
  if status = 'pending' and next_run <= now then
    select count(*) into v_got from (
      select from {schema}.anchor_tasks_hot t
      where t.status = 'pending' and t.queue = anchor_explain.queue and t.priority = anchor_explain.priority
        and (t.next_run, t.id) < (anchor_explain.next_run, p_id)
      order by t.queue desc, t.priority desc, t.next_run desc, t.id desc limit v_left) c;
    ahead := v_got;
    v_left := v_left - v_got;
    v_lane := priority;
    while v_left > 0 loop
      select t.priority into v_lane from {schema}.anchor_tasks_hot t
        where t.status = 'pending' and t.queue = anchor_explain.queue and t.priority < v_lane
        order by t.queue desc, t.priority desc, t.next_run desc, t.id desc limit 1;
      exit when not found;
      select count(*) into v_got from (
        select from {schema}.anchor_tasks_hot t
        where t.status = 'pending' and t.queue = anchor_explain.queue and t.priority = v_lane and t.next_run <= anchor_explain.now
        order by t.queue desc, t.priority desc, t.next_run desc, t.id desc limit v_left) c;
      ahead := ahead + v_got;
      v_left := v_left - v_got;
    end loop;
  end if;
  return next;
end
$$;

-- The workers, oldest first, with how many tasks each holds, up to 10,000, by anchor_claims.
create function {schema}.anchor_list_workers()
returns table (
  id text, host text, pid integer, slots integer, names text[], queues text[],
  started_at timestamptz, lease_until timestamptz, alive boolean, held integer)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set max_parallel_workers_per_gather = 0 set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    select w.id::text, w.host, w.pid, w.slots, w.names, w.queues, w.started_at, w.lease_until,
      w.lease_until > clock_timestamp() and w.taken_back_at is null,
      (select count(*) from (
        select from {schema}.anchor_claims c cross join lateral (
          select from {schema}.anchor_tasks_hot t
          where t.id = any (c.ids) and t.status = 'running' and t.claim_token = c.token and t.worker_id = w.id offset 0) t
        where c.worker_id = w.id limit 10000) h)::integer
    from {schema}.anchor_workers w order by w.started_at, w.id;
end
$$;
