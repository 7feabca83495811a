package anchor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

func TestRunManyOfManyRows(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)

	const n = 25_000
	params := make([]*letter, n)
	for i := range params {
		params[i] = &letter{Number: i + 1}
	}
	ids, err := task.RunMany(t.Context(), client, params)
	if err != nil || len(ids) != n || !slices.IsSorted(ids) {
		t.Fatalf("%d ids, sorted %v, error %v", len(ids), slices.IsSorted(ids), err)
	}
	wrong := queryOne[int](t, pool, `select count(*) from unnest($1::bigint[]) with ordinality as x (id, number)
		left join anchor_tasks t using (id) where (t.spec->>'number')::bigint is distinct from x.number`, ids)
	if wrong != 0 {
		t.Errorf("%d tasks are not what their id's place says", wrong)
	}
}

// The third statement of a bulk enqueue fails: the first two leave nothing behind.
func TestRunManyOfManyRowsIsAllOrNothing(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	mustExec(t, pool, "alter table anchor_tasks add constraint not_evil check (spec->>'to' is distinct from 'evil')")

	params := make([]*letter, 25_000)
	for i := range params {
		params[i] = &letter{}
	}
	params[24_999].To = "evil"
	if _, err := task.RunMany(t.Context(), client, params); err == nil {
		t.Fatal("a row that the database refuses is accepted")
	}
	wantTasks(t, client, anchor.TaskQuery{})
}

// Concurrent calls share statements. One row that the database refuses is that caller's trouble alone.
func TestRunBadRowDoesNotFailItsNeighbours(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	mustExec(t, pool, "alter table anchor_tasks add constraint not_evil check (spec->>'to' is distinct from 'evil')")

	const callers, rounds = 32, 20
	var mu sync.Mutex
	var ids []int64
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for round := range rounds {
				params := letter{To: fmt.Sprint(caller), Number: round}
				if caller%8 == 0 && round%3 == 0 {
					params.To = "evil"
				}
				id, err := task.Run(t.Context(), client, &params)
				if params.To == "evil" {
					var refused *pgconn.PgError
					if !errors.As(err, &refused) || refused.Code != "23514" || errors.Is(err, anchor.ErrOutcomeUnknown) {
						t.Errorf("the bad row's error is %v", err)
					}
					continue
				}
				if err != nil {
					t.Errorf("caller %d: %v", caller, err)
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(ids)
	want := callers*rounds - callers/8*7
	if len(slices.Compact(slices.Clone(ids))) != want {
		t.Errorf("%d different ids, want %d", len(slices.Compact(ids)), want)
	}
	stored := queryOne[[]int64](t, pool, "select array_agg(id order by id) from anchor_tasks")
	if diff := cmp.Diff(ids, stored); diff != "" {
		t.Errorf("ids (-answered +stored):\n%s", diff)
	}
	// Nobody enqueues alone: fewer transactions than rows wrote them.
	if n := queryOne[int](t, pool, "select count(distinct xmin::text) from anchor_tasks"); n >= want {
		t.Errorf("%d tasks were written in %d transactions", want, n)
	}
}

func TestRunIDsBeyond32Bits(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	const first = 1<<42 + 5
	mustExec(t, pool, fmt.Sprintf("alter sequence anchor_tasks_id_seq restart %d", first))

	ids, err := task.RunMany(t.Context(), client, []*letter{{}, {}})
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, mustRun(t, client, task, letter{}), mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t")))
	if diff := cmp.Diff([]int64{first, first + 1, first + 2, first + 3}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	_, err = task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
	wantHolder(t, err, "t", first+3)
	if err := client.Cancel(t.Context(), first+2); err != nil {
		t.Fatal(err)
	}
	wantTasks(t, client, anchor.TaskQuery{Before: first + 3, Limit: 2}, first+2, first+1)
	if got := mustTask(t, client, first+2).Status; got != anchor.StatusCancelled {
		t.Errorf("status %q", got)
	}
}

// The column attributes holds what differs from the definition, and nothing else.
func TestRunAttributesHoldWhatDiffers(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	task := anchor.Define[letter]("Letter", nil, anchor.WithRetryPolicy("1m", 3), anchor.WithTimeout("30s"))
	client := newClient(t, store, task)

	for _, c := range []struct {
		name string
		opts []anchor.RunOption
		want string
	}{
		{"nothing", nil, ""},
		{"the same", []anchor.RunOption{anchor.WithRetryPolicy("1m", 3), anchor.WithTimeout(30 * time.Second)}, ""},
		{"other attempts", []anchor.RunOption{anchor.WithRetryPolicy("1m", 7)}, ""},
		{"columns", []anchor.RunOption{anchor.WithQueue("q"), anchor.WithPriority(1), anchor.WithDelay(time.Hour)}, ""},
		{"retries", []anchor.RunOption{anchor.WithRetryPolicy("2m", 3)}, `{"retry": "2m"}`},
		{"timeout", []anchor.RunOption{anchor.WithTimeout("90s")}, `{"timeout": "1m30s"}`},
		{"both", []anchor.RunOption{anchor.WithTimeout("1s"), anchor.WithRetryPolicy("2m,3m", -1)}, `{"retry": "2m,3m", "timeout": "1s"}`},
	} {
		for _, opts := range [][]anchor.RunOption{c.opts, append(slices.Clone(c.opts), anchor.WithUniqueTag(c.name))} {
			id := mustRun(t, client, task, letter{}, opts...)
			got := queryOne[string](t, pool, "select coalesce(attributes::text, '') from anchor_tasks where id = $1", id)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	}
}

// The database's clock counts, not the process's: the session's now() is moved by nothing, so the task's
// times must lie between two readings of it.
func TestRunTimesAreTheDatabases(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)

	const delay = time.Hour
	for _, opts := range [][]anchor.RunOption{{anchor.WithDelay(delay)}, {anchor.WithDelay(delay), anchor.WithUniqueTag("t")}} {
		before := queryOne[time.Time](t, pool, "select clock_timestamp()")
		info := mustTask(t, client, mustRun(t, client, task, letter{}, opts...))
		after := queryOne[time.Time](t, pool, "select clock_timestamp()")
		if info.CreatedAt.Before(before) || info.CreatedAt.After(after) || !info.NextRun.Equal(info.CreatedAt.Add(delay)) {
			t.Errorf("created %v, due %v, not within %v and %v", info.CreatedAt, info.NextRun, before, after)
		}
	}

	// In a transaction that began long ago, the delay counts from the statement.
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	var began time.Time
	if err := tx.QueryRow(t.Context(), "select now() from pg_sleep(0.05)").Scan(&began); err != nil {
		t.Fatal(err)
	}
	id, err := task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithDelay(delay))
	if err == nil {
		err = tx.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if info := mustTask(t, client, id); info.NextRun.Before(began.Add(delay + 50*time.Millisecond)) {
		t.Errorf("due %v after the transaction's begin", info.NextRun.Sub(began))
	}
}

// A call whose context ends while the database holds it up does not know what became of its task.
func TestRunContextEndsDuringTheStatement(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	for _, opts := range [][]anchor.RunOption{nil, {anchor.WithUniqueTag("t")}} {
		holder, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Exec(t.Context(), "lock table anchor_tasks_hot in share mode"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() {
			_, err := task.Run(ctx, client, &letter{}, opts...)
			ran <- err
		}()
		waitFor(t, "the statement to wait", func() bool {
			return queryOne[int](t, pool, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") == 1
		})
		cancel()
		err = <-ran
		wantIs(t, err, anchor.ErrOutcomeUnknown)
		wantIs(t, err, context.Canceled)
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunWithoutADatabase(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testdb.New(t))
	store := anchor.NewPGStore(pool)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, task := newLetters(t, store)
	mustRun(t, client, task, letter{})
	pool.Close()

	for _, opts := range [][]anchor.RunOption{nil, {anchor.WithUniqueTag("t")}} {
		_, err := task.Run(t.Context(), client, &letter{}, opts...)
		wantText(t, err, "anchor: ", "closed pool")
		if errors.Is(err, anchor.ErrOutcomeUnknown) {
			t.Errorf("nothing was sent, but the error is %v", err)
		}
	}
}

// Connections of the pool that died unnoticed cost no caller an error.
func TestRunOverConnectionsThatDied(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	other := openPool(t, pool.Config().ConnString())

	for range 5 {
		mustRun(t, client, task, letter{})
		mustExec(t, other, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
		if _, err := task.Run(t.Context(), client, &letter{}); err != nil && !errors.Is(err, anchor.ErrOutcomeUnknown) {
			var answered *pgconn.PgError
			if !errors.As(err, &answered) || answered.Code != "57P01" {
				t.Errorf("error %v", err)
			}
		}
	}
}
