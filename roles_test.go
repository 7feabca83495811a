//go:build unix

package anchor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
	anchortest "github.com/anchor-go/anchor/testing"
)

// The roles of docs/security.md belong to the whole server, so they have one of their own.
var roleCluster = sync.OnceValues(func() (*testdb.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return testdb.Start(ctx)
})

// Logins of the documentation, and the superuser.
const (
	superuser  = "postgres"
	ownerLogin = "anchor_owner"
	enqueuer   = "shop"
	worker     = "billing"
	reader     = "grafana"
)

// roleSQL are the blocks of SQL in docs/security.md: what a superuser runs once, what the owner runs after a migration,
// the logins.
func roleSQL(t *testing.T) (once, grants, logins string) {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(readText(t, "docs/security.md"), -1)
	if len(blocks) != 3 {
		t.Fatalf("docs/security.md has %d blocks of SQL, want 3", len(blocks))
	}
	return blocks[0][1], blocks[1][1], blocks[2][1]
}

// roleRig is a migrated database whose roles are those of docs/security.md.
type roleRig struct {
	t     *testing.T
	url   string
	pools map[string]*pgxpool.Pool
}

func newRoleRig(t *testing.T) *roleRig {
	t.Helper()
	cluster, err := roleCluster()
	if err != nil {
		t.Fatal(err)
	}
	r := &roleRig{t: t, url: testdb.NewOn(t, cluster.URL()), pools: map[string]*pgxpool.Pool{}}
	once, grants, logins := roleSQL(t)
	// The server has the roles from the second test on; the rights are each database's own.
	var roles, rights []string
	for _, statement := range strings.Split(once+logins, ";\n") {
		if strings.HasPrefix(statement, "create role") {
			roles = append(roles, statement)
		} else {
			rights = append(rights, statement)
		}
	}
	roleLock.Lock()
	defer roleLock.Unlock()
	if !queryOne[bool](t, r.pool(superuser), "select exists (select from pg_roles where rolname = 'anchor_owner')") {
		// For RoleStore: this login acts as the enqueuer and may become a worker.
		roles = append(roles, "grant anchor_worker to shop", "alter role shop noinherit", "alter role shop set role = anchor_enqueue")
		mustExec(t, r.pool(superuser), strings.Join(roles, ";\n"))
	}
	mustExec(t, r.pool(superuser), strings.Join(rights, ";\n"))
	if err := r.store(ownerLogin).Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate as the owner: %v", err)
	}
	mustExec(t, r.pool(ownerLogin), grants)
	mustExec(t, r.pool(ownerLogin), grants) // as after an upgrade
	return r
}

var roleLock sync.Mutex

// pool is a login's.
func (r *roleRig) pool(login string) *pgxpool.Pool {
	r.t.Helper()
	if r.pools[login] == nil {
		parsed, err := url.Parse(r.url)
		if err != nil {
			r.t.Fatal(err)
		}
		parsed.User = url.User(login)
		r.pools[login] = openPool(r.t, parsed.String())
	}
	return r.pools[login]
}

func (r *roleRig) store(login string) *anchor.PGStore {
	r.t.Helper()
	return anchor.NewPGStore(r.pool(login), anchor.WithSchema("anchor"))
}

func TestStoreConformsInLeastRoles(t *testing.T) {
	t.Parallel()
	anchortest.TestStore(t, func(t *testing.T) anchor.Store {
		r := newRoleRig(t)
		return anchor.NewRoleStore(r.store(enqueuer), r.store(worker), r.store(reader))
	})
}

func TestStoreConformsAsTheWorkersRole(t *testing.T) {
	t.Parallel()
	anchortest.TestStore(t, func(t *testing.T) anchor.Store { return newRoleRig(t).store(worker) })
}

// rights are what a role may do to a table: s(elect), i(nsert), u(pdate), d(elete), t(runcate).
var rights = map[string]map[string]string{
	enqueuer: {"anchor_migrations": "s", "anchor_unique_tags": "sid"},
	worker: {
		"anchor_migrations": "s", "anchor_tasks": "siud", "anchor_tasks_hot": "su", "anchor_tasks_kept": "su", "anchor_tasks_done_?": "st",
		"anchor_unique_tags": "siud", "anchor_task_errors": "siud", "anchor_workers": "siud", "anchor_claims": "siud", "anchor_cron_jobs": "siud",
		"anchor_cron_runs": "siud", "anchor_queues": "siu", "anchor_depths": "su",
	},
	reader: {
		"anchor_migrations": "s", "anchor_tasks": "s", "anchor_tasks_hot": "s", "anchor_tasks_kept": "s", "anchor_tasks_done_?": "s",
		"anchor_unique_tags": "s", "anchor_task_errors": "s", "anchor_workers": "s", "anchor_claims": "s", "anchor_cron_jobs": "s",
		"anchor_cron_runs": "s", "anchor_queues": "s", "anchor_depths": "s",
	},
}

// tableStatements try each right alone, without changing anything; %[2]s is a column.
var tableStatements = map[string]string{
	"s": "select * from anchor.%[1]s limit 0",
	"i": "insert into anchor.%[1]s (%[2]s) select null where false",
	"u": "update anchor.%[1]s set %[2]s = default where false",
	"d": "delete from anchor.%[1]s where false",
	"t": "truncate anchor.%[1]s",
}

const selectColumns = `select c.relname, min(a.attname) filter (where a.attidentity = '')
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'anchor'::regnamespace and c.relkind in ('r', 'p') group by c.oid, c.relname order by c.relname`

func TestEachRoleMayDoToEachTableWhatTheTableOfRightsSays(t *testing.T) {
	t.Parallel()
	r := newRoleRig(t)
	rows, err := r.pool(ownerLogin).Query(t.Context(), selectColumns)
	if err != nil {
		t.Fatal(err)
	}
	type table struct{ Name, Column string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		t.Fatal(err)
	}
	const tried = "siudt"
	forbidden := 0
	for login, want := range rights {
		for _, table := range tables {
			group := regexp.MustCompile(`_done_\d$`).ReplaceAllString(table.Name, "_done_?")
			may := ""
			for _, right := range strings.Split(tried, "") {
				switch state := r.stateOf(login, fmt.Sprintf(tableStatements[right], table.Name, table.Column)); state {
				case "":
					may += right
				case "42501":
					forbidden++
				default:
					t.Errorf("%s, %s of %s: SQLSTATE %s", login, right, table.Name, state)
				}
			}
			if diff := cmp.Diff(want[group], may); diff != "" {
				t.Errorf("rights of %s on %s (-want +got):\n%s", login, table.Name, diff)
			}
		}
	}
	t.Logf("%d statements on %d tables were forbidden", forbidden, len(tables))
}

// stateOf is the SQLSTATE of a statement whose transaction is rolled back, "" for success.
func (r *roleRig) stateOf(login, statement string) string {
	r.t.Helper()
	tx := mustBegin(r.t, r.pool(login), pgx.TxOptions{})
	_, err := tx.Exec(r.t.Context(), statement)
	if err := tx.Rollback(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	var answered *pgconn.PgError
	if err == nil {
		return ""
	}
	if !errors.As(err, &answered) {
		r.t.Fatalf("%s: %v", statement, err)
	}
	return answered.Code
}

// What an enqueue does for the sake of speed it does without where it is forbidden.
func TestEnqueueWithoutTheRightsThatEverybodyHas(t *testing.T) {
	t.Parallel()
	for name, function := range map[string]string{
		"nothing in the log": "pg_logical_emit_message(boolean, text, text)",
		"no hints":           "pg_notify(text, text)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoleRig(t)
			mustExec(t, r.pool(superuser), "revoke execute on function "+function+" from public")
			wantEnqueued(t, r, r.store(enqueuer), nil)
		})
	}
	t.Run("revoked later", func(t *testing.T) {
		t.Parallel()
		r := newRoleRig(t)
		store := r.store(enqueuer)
		wantEnqueued(t, r, store, nil)
		mustExec(t, r.pool(superuser), "revoke execute on function pg_logical_emit_message(boolean, text, text) from public")
		anchor.RestWaker(t, store)
		wantEnqueued(t, r, store, anchor.ErrOutcomeUnknown)
		anchor.RestWaker(t, store)
		wantEnqueued(t, r, store, nil)
	})
}

// wantEnqueued enqueues a task, which is there whatever was answered.
func wantEnqueued(t *testing.T, r *roleRig, store *anchor.PGStore, want error) {
	t.Helper()
	before := queryOne[int](t, r.pool(ownerLogin), "select count(*) from anchor.anchor_tasks")
	task := anchor.Define("Enqueued", func(context.Context, pgx.Tx, *struct{}) error { return nil })
	client, err := anchor.New(store, anchor.WithTasks(task))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := task.Run(t.Context(), client, &struct{}{}); !errors.Is(err, want) {
		t.Errorf("Run: %v, want %v", err, want)
	}
	if n := queryOne[int](t, r.pool(ownerLogin), "select count(*) from anchor.anchor_tasks"); n != before+1 {
		t.Errorf("%d tasks after %d", n, before)
	}
}

func TestForbiddenStatementsOfRoles(t *testing.T) {
	t.Parallel()
	r := newRoleRig(t)
	everybody := []string{
		"create table anchor.mine (id int)",
		"create function anchor.mine() returns int language sql as 'select 1'",
		"drop table anchor.anchor_queues",
		"alter table anchor.anchor_tasks add column mine int",
		"create index on anchor.anchor_tasks (queue)",
		"create trigger mine before insert on anchor.anchor_queues for each row execute function suppress_redundant_updates_trigger()",
		"drop function anchor.anchor_empty_slot()",
		"create or replace function anchor.anchor_ring_slot(p_at timestamptz) returns smallint language sql as 'select 1::smallint'",
		"alter table anchor.anchor_tasks owner to current_user",
		"set role anchor_owner",
		"insert into anchor.anchor_migrations (version, name) values (99, 'mine')",
		"select setval('anchor.anchor_tasks_id_seq', 1)",
	}
	for login, statements := range map[string][]string{
		enqueuer: {
			"select spec from anchor.anchor_tasks",
			"select unique_tag from anchor.anchor_tasks_hot",
			"insert into anchor.anchor_tasks (name, spec, status) values ('x', '{}', 'running')",
			"insert into anchor.anchor_tasks (name, spec, slot, status) values ('x', '{}', -1, 'failed')",
			"insert into anchor.anchor_tasks (name, spec) values ('x', '{}') returning spec",
			"update anchor.anchor_tasks set priority = -100",
			"select anchor.anchor_claim(gen_random_uuid(), 1, '{x}', 1, 1, 1000, 1000, null, '', 0, null, 0, null, null, null, null, null)",
			"select anchor.anchor_complete(array[1::bigint], array[1::bigint])",
			"select anchor.anchor_settle(array[1::bigint], array[1::bigint], '{failed}', '{0}', '{x}')",
			"select anchor.anchor_complete_attempt(1, 1) from set_config('anchor.claim', '1:1', true)",
			"select anchor.anchor_hold_claim(1, 1)",
			"select anchor.anchor_heartbeat(gen_random_uuid(), 1000)",
			"select anchor.anchor_take_back(gen_random_uuid(), 1, '{x}', 1)",
			"select anchor.anchor_cancel(1)",
			"select anchor.anchor_retry(1)",
			"select anchor.anchor_prune(1000)",
			"select anchor.anchor_cron_run('x', now()::text)",
			"select anchor.anchor_sample(0, '{}')",
		},
		worker: {
			"truncate anchor.anchor_tasks",
			"truncate anchor.anchor_tasks_hot",
			"insert into anchor.anchor_depths (sampled_at, sample) values (now(), '{}')",
			"delete from anchor.anchor_queues",
		},
		reader: {
			"select nextval('anchor.anchor_tasks_id_seq')",
			"select * from anchor.anchor_tasks for update",
			"insert into anchor.anchor_tasks (name, spec) values ('x', '{}')",
			"select anchor.anchor_enqueue_tagged('{x}', '{q}', '{0}', '{1}', '{0}', '{null}', '{\"{}\"}', '{null}', '{t}', '{false}', '{null}')",
			"select anchor.anchor_cancel(1)",
			"select anchor.anchor_retry(1)",
			"select anchor.anchor_prune(1000)",
		},
	} {
		for _, statement := range append(statements, everybody...) {
			if state := r.stateOf(login, statement); state != "42501" {
				t.Errorf("%s, %s: SQLSTATE %q, want 42501", login, statement, state)
			}
		}
	}
}

func TestForbiddenCallsSayThatTheRoleIsNotAllowed(t *testing.T) {
	t.Parallel()
	r := newRoleRig(t)
	task := anchor.Define("Letter", func(context.Context, pgx.Tx, *letter) error { return nil })
	clients := map[string]*anchor.Client{}
	for _, login := range []string{enqueuer, worker, reader} {
		client, err := anchor.New(r.store(login), anchor.WithTasks(task), anchor.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		clients[login] = client
		if err := r.store(login).Migrate(t.Context()); err != nil {
			t.Errorf("Migrate as %s with nothing to do: %v", login, err)
		}
	}
	ctx := t.Context()
	id := mustRun(t, clients[enqueuer], task, letter{To: "x"})
	for _, login := range []string{enqueuer, reader} {
		client := clients[login]
		calls := map[string]error{
			"Work":       client.Work(ctx),
			"Cancel":     client.Cancel(ctx, id),
			"Retry":      client.Retry(ctx, id),
			"PauseQueue": client.PauseQueue(ctx, "default"),
			"Schedule":   task.Schedule(ctx, client, "x", "@daily", &letter{}),
		}
		if login == enqueuer {
			_, calls["Task"] = client.Task(ctx, id)
			_, calls["Tasks"] = client.Tasks(ctx, anchor.TaskQuery{})
			_, calls["Stats"] = client.Stats(ctx)
			_, calls["Crons"] = client.Crons(ctx)
		} else {
			_, calls["Run"] = task.Run(ctx, client, &letter{})
			_, calls["Run with a tag"] = task.Run(ctx, client, &letter{}, anchor.WithUniqueTag("t"))
			_, calls["RunMany"] = task.RunMany(ctx, client, []*letter{{}, {}})
			calls["ReleaseTag"] = client.ReleaseTag(ctx, "t")
		}
		for call, err := range calls {
			var answered *pgconn.PgError
			if !errors.As(err, &answered) || answered.Code != "42501" || errors.Is(err, anchor.ErrOutcomeUnknown) || errors.Is(err, anchor.ErrNotMigrated) {
				t.Errorf("%s, %s: %v, want one of SQLSTATE 42501", login, call, err)
			}
		}
	}
	if info := mustTask(t, clients[reader], id); info.Status != anchor.StatusPending {
		t.Errorf("the task is %s, want pending", info.Status)
	}
}

// What a worker does beside claiming and finishing, on rows that are old enough for it.
func TestUpkeepInTheWorkersRole(t *testing.T) {
	t.Parallel()
	r := newRoleRig(t)
	mustExec(t, r.pool(superuser), `
insert into anchor.anchor_tasks (id, name, spec, status, slot, finished_at)
  values (1001, 'Old', '{}', 'completed', anchor.anchor_ring_slot(now() + interval '4 hours'), now() - interval '28 hours'),
    (1002, 'Old', '{}', 'failed', -1, now() - interval '8 days');
insert into anchor.anchor_task_errors (task_id, attempt, at, message) values (1002, 1, now() - interval '9 days', 'x');
insert into anchor.anchor_unique_tags (tag, task_id, expires_at) values ('t', 1001, now() - interval '1 hour');
insert into anchor.anchor_workers (id, host, pid, slots, names, lease_until)
  values ('11111111-1111-1111-1111-111111111111', 'gone', 1, 1, '{}', now() - interval '1 hour');
insert into anchor.anchor_tasks (id, name, spec, status, attempts, worker_id, claim_token, started_at)
  values (1003, 'Letter', '{}', 'running', 1, '11111111-1111-1111-1111-111111111111', 1, now());
insert into anchor.anchor_claims (worker_id, token, part, ids) values ('11111111-1111-1111-1111-111111111111', 1, 1, '{1003}')`)
	mustExec(t, r.pool(worker), "select anchor.anchor_empty_slot(), anchor.anchor_prune(1000)")
	mustExec(t, r.pool(worker), "select * from anchor.anchor_sample(0, '{}')")
	left := queryOne[string](t, r.pool(superuser), `select concat_ws(' ', (select count(*) from anchor.anchor_tasks where name = 'Old'),
  (select count(*) from anchor.anchor_task_errors), (select count(*) from anchor.anchor_unique_tags),
  (select count(*) from anchor.anchor_depths where sampled_at < now() - interval '1 day'))`)
	if left != "0 0 0 0" {
		t.Errorf("tasks, errors, tags and samples that are old: %s, want 0 0 0 0", left)
	}
	task := anchor.Define("Letter", func(context.Context, pgx.Tx, *letter) error { return nil })
	client := newClient(t, r.store(worker), task)
	startWorker(t, client)
	if info := mustWait(t, client, 1003); info.Status != anchor.StatusCompleted || info.Attempts != 2 {
		t.Errorf("the dead worker's task is %s after %d attempts, want completed after 2", info.Status, info.Attempts)
	}
}
