-- What handlers and hooks write. There are no unique keys, so that what is applied twice shows.
create table effects (task_id bigint not null, attempt integer not null, key text not null, xid xid8 not null default pg_current_xact_id());
create table hooks (task_id bigint not null, attempt integer not null, key text not null, xid xid8 not null default pg_current_xact_id());
-- What handlers write at once, in no transaction.
create table starts (task_id bigint not null, attempt integer not null, pid integer not null, at timestamptz not null default clock_timestamp());
create table woken (task_id bigint not null, attempt integer not null, pid integer not null, cause text not null, at timestamptz not null default clock_timestamp());
-- What some deeds need.
create table deferred_ones (id integer, constraint deferred_ones_id unique (id) deferrable initially deferred);
create table locked (id integer primary key, n integer not null);
insert into locked values (1, 0), (2, 0);

-- Every committed change of a task, in the order of the changes of that task: it is written under the row's lock. A row
-- that moves to another slot is deleted there and inserted here by one transaction.
create table audit (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default clock_timestamp(),
  op text not null,
  task_id bigint not null,
  status text not null,
  slot smallint not null,
  attempts integer not null,
  max_attempts integer not null,
  token bigint,
  worker uuid,
  next_run timestamptz not null,
  tag text,
  app text not null default current_setting('application_name'), -- the process that did it
  source text -- the library's function that did it
);

create function write_audit() returns trigger language plpgsql as $$
declare
  r record;
begin
  r := case when tg_op = 'DELETE' then old else new end;
  insert into audit (op, task_id, status, slot, attempts, max_attempts, token, worker, next_run, tag, source)
    values (left(tg_op, 1), r.id, r.status, r.slot, r.attempts, r.max_attempts, r.claim_token, r.worker_id, r.next_run, r.unique_tag,
      substring(current_query() from 'anchor_[a-z_]+\('));
  return null;
end
$$;
create trigger audit after insert or update or delete on anchor_tasks for each row execute function write_audit();
