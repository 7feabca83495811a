//go:build unix

package anchor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/anchor-go/anchor/internal/testdb"
)

// bouncerPool is how many connections PgBouncer has for each database.
const bouncerPool = 4

// bouncer is a server behind a PgBouncer in transaction mode: its own URL, and that behind PgBouncer.
var bouncer = sync.OnceValues(func() (urls [2]string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cluster, err := testdb.Start(ctx)
	if err != nil {
		return urls, err
	}
	behind, err := cluster.Bouncer(ctx, bouncerPool)
	return [2]string{cluster.URL(), behind}, err
})

// BouncedDatabase is the URL of an empty database of its own behind PgBouncer, with the query mode that belongs there.
func BouncedDatabase(t *testing.T) string {
	t.Helper()
	urls, err := bouncer()
	if err != nil {
		t.Fatal(err)
	}
	database, err := url.Parse(testdb.NewOn(t, urls[0]))
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(urls[1])
	if err != nil {
		t.Fatal(err)
	}
	behind.Path = database.Path
	query := behind.Query()
	query.Set("default_query_exec_mode", "exec")
	behind.RawQuery = query.Encode()
	return behind.String()
}

func newBouncedPG(t *testing.T) *pgRig {
	t.Helper()
	return newPGAt(t, BouncedDatabase(t), WithPollingOnly())
}

func TestHandlersTransactionsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	statements := maps.Clone(txStatements)
	// A statement that is prepared by name stays on its server connection, where the next client meets it.
	delete(statements, "Prepare")
	for name, check := range map[string]func(t *testing.T, rig *pgRig){
		"writes":             checkHandlersWrites,
		"swallowed errors":   checkSwallowedErrors,
		"ended transactions": checkEndedTransactions,
		"statements":         func(t *testing.T, rig *pgRig) { checkStatements(t, rig, statements) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, newBouncedPG(t))
		})
	}
}

type everyJSON struct {
	Text    string            `json:"text"`
	Texts   []string          `json:"texts"`
	Large   int64             `json:"large"`
	Float   float64           `json:"float"`
	Flag    bool              `json:"flag"`
	At      time.Time         `json:"at"`
	Bytes   []byte            `json:"bytes"`
	Raw     json.RawMessage   `json:"raw"`
	Map     map[string]string `json:"map"`
	Nothing *int              `json:"nothing"`
	Nested  []struct {
		A any `json:"a"`
	} `json:"nested"`
}

// Parameters, names, tags and errors go through text arrays, where a quote, a backslash or NULL has a meaning.
func TestJSONRoundTripBehindPgBouncer(t *testing.T) {
	t.Parallel()
	rig := newBouncedPG(t)
	const awkward = `NULL {"a,b"} '; \ \\ \" "" ü😀 $1 ::jsonb` + "\t\n\u2028"
	want := everyJSON{
		Text: awkward, Texts: []string{awkward, "", "null", "{}"}, Large: math.MaxInt64, Float: 1e-300, Flag: true,
		At: time.Date(2026, 2, 3, 4, 5, 6, 789_000_001, time.UTC), Bytes: []byte{0, 255, '\\'}, Raw: json.RawMessage(`[1.50, {"x": null}]`),
		Map: map[string]string{awkward: awkward, "": ""},
		Nested: []struct {
			A any `json:"a"`
		}{{map[string]any{"b": []any{nil, true, "1", 2.5}}}},
	}
	type seen struct {
		Params everyJSON
		Tag    string
		Queue  string
	}
	runs := make(chan seen, 10)
	task := Define("Every", func(ctx context.Context, tx pgx.Tx, p *everyJSON) error {
		info, _ := TaskFromContext(ctx)
		if info.Attempts == 1 {
			return errors.New(awkward)
		}
		var back string
		if err := tx.QueryRow(ctx, "select spec->>'text' from anchor_tasks where id = $1 and spec->'texts'->>0 = $2", info.ID, p.Text).Scan(&back); err != nil || back != p.Text {
			return fmt.Errorf("got %q: %w", back, err)
		}
		runs <- seen{*p, info.UniqueTag, info.Queue}
		return nil
	}, WithRetryPolicy("1ms", 2))
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(20*time.Millisecond))

	queue, tag := `q "x" {NULL} \`, awkward
	wants := map[int64]seen{}
	id := enqueue(rig, client, task, &want, WithQueue(queue), WithUniqueTag(tag))
	wants[id] = seen{want, tag, queue}
	must(t, pgx.BeginFunc(t.Context(), rig.pool, func(tx pgx.Tx) error {
		id, err := task.RunWithTx(t.Context(), client, tx, &want)
		wants[id] = seen{want, "", "default"}
		return err
	}))
	ids, err := task.RunMany(t.Context(), client, []*everyJSON{&want, &want})
	must(t, err)
	for _, id := range ids {
		wants[id] = seen{want, "", "default"}
	}
	for id, want := range wants {
		info := rig.ended(client, id)
		if info.Status != StatusCompleted || len(info.Errors) != 1 || info.Errors[0].Message != awkward {
			t.Fatalf("task %d is %s, errors %v", id, info.Status, info.Errors)
		}
		stored := seen{Tag: info.UniqueTag, Queue: info.Queue}
		must(t, json.Unmarshal(info.Params, &stored.Params))
		for what, got := range map[string]seen{"stored": stored, "seen by a handler": receive(t, "a run", runs)} {
			want := want
			if what != "stored" {
				want.Tag, want.Queue, got.Tag, got.Queue = "", "", "", "" // in whichever order they ran
			}
			// jsonb keeps the value of raw JSON, not its spacing.
			want.Params.Raw, got.Params.Raw = compact(t, want.Params.Raw), compact(t, got.Params.Raw)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("task %d, %s (-want +got):\n%s", id, what, diff)
			}
		}
	}
}

func compact(t *testing.T, raw json.RawMessage) json.RawMessage {
	t.Helper()
	var b bytes.Buffer
	must(t, json.Compact(&b, raw))
	return b.Bytes()
}

func TestBulkEnqueueBehindPgBouncer(t *testing.T) {
	t.Parallel()
	rig := newBouncedPG(t)
	task := Define("Bulk", func(context.Context, pgx.Tx, *noParams) error { return nil })
	registry := prometheus.NewPedanticRegistry()
	client, err := New(rig.store, WithTasks(task), WithRegisterer(registry))
	must(t, err)
	const count = enqueueRows + 5 // in two statements of one transaction
	ids, err := task.RunMany(t.Context(), client, slices.Repeat([]*noParams{{}}, count))
	must(t, err)
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			if _, err := task.Run(t.Context(), client, &noParams{}); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	callers.Wait()
	rig.startWork(client, WithPollInterval(20*time.Millisecond), WithConcurrency(50))
	rig.startWork(client, WithPollInterval(20*time.Millisecond), WithConcurrency(50))
	eventually(t, "all completed", func() bool {
		return readOne[int](rig, "select count(*) from anchor_tasks where status = 'completed'") == count+64
	})
	if n := readOne[int](rig, "select sum(attempts) from anchor_tasks"); n != len(ids)+64 {
		t.Errorf("%d attempts, want %d", n, len(ids)+64)
	}
	eventually(t, "a sample of depths", func() bool {
		return readOne[int](rig, "select count(*) from anchor_depths where sampled_at > now() - interval '1 hour'") == 1
	})
}

func TestTasksOfAKilledWorkerRunAgainBehindPgBouncer(t *testing.T) {
	t.Parallel()
	rig := newBouncedPG(t)
	rig.exec("create table starts (task_id bigint not null, pid int not null)")
	rig.exec("create table gates (open int)")
	task := defineProcessTask(rig.pool)
	client := rig.newClient(task)
	setting := workerSetting{URL: rig.url, Lease: processLease, Concurrency: 1, PollingOnly: true}
	victim := rig.startProcessWith(setting)
	id := enqueue(rig, client, task, &processParams{"deaf"})
	eventually(t, "a start", func() bool { return readOne[int](rig, "select count(*) from starts") == 1 })
	poison := enqueue(rig, client, task, &processParams{"poison"})
	survivor := rig.startProcessWith(setting)
	survivor.exited() // by the poison
	rig.startProcessWith(setting).exited()
	victim.signal(syscall.SIGKILL)
	victim.exited()
	rig.exec("insert into gates values (1)")
	rig.startProcessWith(setting).exited()
	rig.startProcessWith(setting)
	if info := rig.ended(client, id); info.Status != StatusCompleted || info.Attempts != 2 {
		t.Errorf("the victim's task is %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
	}
	if info := rig.ended(client, poison); info.Status != StatusFailed || info.Attempts != 3 {
		t.Errorf("the poison is %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
	}
	if diff := cmp.Diff([]string{"handler"}, rig.effectsOf(id)); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if effects := rig.effectsOf(poison); len(effects) != 1 || !strings.HasPrefix(effects[0], "hook in ") {
		t.Errorf("effects of the poison: %q, want its hook's", effects)
	}
}

func TestScheduleTicksBehindPgBouncer(t *testing.T) {
	t.Parallel()
	rig := newBouncedPG(t)
	task := Define("Tick", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		info, _ := TaskFromContext(ctx)
		return noteEffect(ctx, tx, info.ScheduledFor.UTC().Format(time.RFC3339))
	}).Cron("* * * * * *", &noParams{})
	client := rig.newClient(task)
	for range 2 {
		rig.startWork(client, WithPollInterval(100*time.Millisecond))
	}
	eventually(t, "three ticks", func() bool { return readOne[int](rig, "select count(*) from effects") >= 3 })
	if twice := readAll[string](rig, "select label from effects group by label having count(*) > 1"); len(twice) > 0 {
		t.Errorf("ticks that ran twice: %q", twice)
	}
}

// sessionState is what a transaction could have left behind on a server connection.
const sessionState = `select concat_ws('; ', pg_backend_pid()::text,
  (select string_agg(name || '=' || setting, ',' order by name) from pg_settings where source in ('session', 'interactive') and name not like 'transaction_%'),
  (select string_agg(name, ',') from pg_prepared_statements),
  (select string_agg(c, ',') from pg_listening_channels() c),
  nullif(current_setting('anchor.claim', true), ''),
  (select string_agg(locktype, ',') from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'))`

// What the library does leaves nothing on PgBouncer's connections, which others use next.
func TestNothingStaysOnTheConnectionsOfPgBouncer(t *testing.T) {
	t.Parallel()
	rig := newBouncedPG(t)
	clean := rig.sessionStates()
	if diff := cmp.Diff(map[string]bool{"": true}, clean); diff != "" {
		t.Fatalf("the sessions before (-want +got):\n%s", diff)
	}
	task := Define("Writes", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		if err := noteEffect(ctx, tx, p.Case); err != nil || p.Case == "completes" {
			return err
		}
		return errors.New("no luck")
	}, WithRetryPolicy("1ms", 2)).OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *caseParams) error {
		return noteEffect(ctx, tx, "hook")
	}).Cron("* * * * * *", &caseParams{"completes"})
	client := rig.newClient(task)
	stop := rig.startWork(client, WithPollInterval(20*time.Millisecond), WithLease(3*time.Second))
	for i := range 40 {
		id := enqueue(rig, client, task, &caseParams{[]string{"completes", "fails"}[i%2]}, WithUniqueTag(fmt.Sprint(i), UniqueWhileLive))
		rig.ended(client, id)
	}
	rig.exec("select anchor_empty_slot(), anchor_prune(1000)")
	stop()
	if diff := cmp.Diff(clean, rig.sessionStates()); diff != "" {
		t.Errorf("the sessions (-before +after):\n%s", diff)
	}
}

// sessionStates are the states of all server connections, but for their pids.
func (r *pgRig) sessionStates() map[string]bool {
	r.t.Helper()
	states, pids := map[string]bool{}, map[string]bool{}
	var open []pgx.Tx
	for range bouncerPool {
		tx, err := r.pool.Begin(r.t.Context())
		must(r.t, err)
		open = append(open, tx)
		var state string
		must(r.t, tx.QueryRow(r.t.Context(), sessionState).Scan(&state))
		pid, rest, _ := strings.Cut(state, "; ")
		states[rest], pids[pid] = true, true
	}
	for _, tx := range open {
		must(r.t, tx.Rollback(r.t.Context()))
	}
	if len(pids) != bouncerPool {
		r.t.Fatalf("%d server connections were looked at, want %d", len(pids), bouncerPool)
	}
	return states
}
