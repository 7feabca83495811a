package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/testdb"
)

const (
	// patience bounds every wait of a test for something that must happen.
	patience = 60 * time.Second
	// createEffects makes what handlers write to. It has no unique key, so that what is applied twice shows.
	createEffects = `create table effects (label text not null, task_id bigint, xid xid8 not null default pg_current_xact_id())`
	insertEffect  = `insert into effects (label, task_id) values ($1, $2)`
)

// eventually waits for a condition and fails the test when it does not come true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-ticker.C:
		}
	}
}

// receive waits for a value of a channel, or its closing.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not in time: %s", what)
		panic("unreachable")
	}
}

// pgRig is a migrated database of its own with a pool and a store. What is logged shows when the test fails.
type pgRig struct {
	t     testing.TB
	url   string
	pool  *pgxpool.Pool
	store *PGStore
	logs  *testLog
}

// newPG makes a rig whose database also has the table effects.
func newPG(t testing.TB, opts ...PGOption) *pgRig {
	t.Helper()
	return newPGAt(t, testdb.New(t), opts...)
}

// newPGAt is newPG in the empty database of a URL.
func newPGAt(t testing.TB, url string, opts ...PGOption) *pgRig {
	t.Helper()
	rig := &pgRig{t: t, url: url, logs: &testLog{}}
	rig.pool = rig.newPool(8)
	rig.store = NewPGStore(rig.pool, opts...)
	if err := rig.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.exec(createEffects)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log:\n%s", rig.logs)
		}
	})
	return rig
}

// newPool is another pool of the rig's database. It is closed when the test ends.
func (r *pgRig) newPool(size int32) *pgxpool.Pool {
	r.t.Helper()
	config, err := pgxpool.ParseConfig(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	config.MaxConns = size
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(pool.Close)
	return pool
}

// connect is a connection of its own.
func (r *pgRig) connect() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (r *pgRig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.pool.Exec(r.t.Context(), sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// readOne is the single value that a query answers.
func readOne[T any](r *pgRig, sql string, args ...any) T {
	r.t.Helper()
	var v T
	err := retryConflict(r.t.Context(), func() error { return r.pool.QueryRow(r.t.Context(), sql, args...).Scan(&v) })
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// readAll are the values of a query's only column.
func readAll[T any](r *pgRig, sql string, args ...any) []T {
	r.t.Helper()
	var values []T
	err := retryConflict(r.t.Context(), func() error {
		rows, err := r.pool.Query(r.t.Context(), sql, args...)
		if err == nil {
			values, err = pgx.CollectRows(rows, pgx.RowTo[T])
		}
		return err
	})
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// effectsOf are the labels that a task has written, in order.
func (r *pgRig) effectsOf(id int64) []string {
	r.t.Helper()
	return readAll[string](r, "select label from effects where task_id = $1 order by label", id)
}

// newClient makes a client of the rig's store.
func (r *pgRig) newClient(tasks ...AnyTask) *Client {
	r.t.Helper()
	return r.clientOf(r.store, tasks...)
}

func (r *pgRig) clientOf(store Store, tasks ...AnyTask) *Client {
	r.t.Helper()
	c, err := New(store, WithTasks(tasks...), WithLogger(slog.New(slog.NewTextHandler(r.logs, nil))))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// startWork calls Work and returns what stops it and waits for its end. It is stopped when the test ends.
func (r *pgRig) startWork(c *Client, opts ...WorkOption) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Work(ctx, opts...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				r.t.Errorf("Work: %v", err)
			}
		case <-time.After(patience):
			r.t.Error("Work did not return")
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// enqueue runs a task and returns its id.
func enqueue[P any](r *pgRig, c *Client, task *Task[P], params *P, opts ...RunOption) int64 {
	r.t.Helper()
	id, err := task.Run(r.t.Context(), c, params, opts...)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// ended waits for a task to end.
func ended(t testing.TB, c *Client, id int64) *TaskInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	task, err := c.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func (r *pgRig) ended(c *Client, id int64) *TaskInfo {
	r.t.Helper()
	return ended(r.t, c, id)
}

// inStatus waits for a task to be in a status.
func (r *pgRig) inStatus(c *Client, id int64, status Status) *TaskInfo {
	r.t.Helper()
	var task *TaskInfo
	eventually(r.t, fmt.Sprintf("task %d %s", id, status), func() bool {
		var err error
		if task, err = c.Task(r.t.Context(), id); err != nil {
			r.t.Fatal(err)
		}
		return task.Status == status
	})
	return task
}

// noteEffect writes a label in a task's transaction.
func noteEffect(ctx context.Context, tx pgx.Tx, label string) error {
	task, ok := TaskFromContext(ctx)
	if !ok {
		return errors.New("no task in the context")
	}
	_, err := tx.Exec(ctx, insertEffect, label, task.ID)
	return err
}

// equateEmpty makes no difference between nil and empty.
var equateEmpty = cmp.FilterValues(func(x, y []string) bool { return len(x) == 0 && len(y) == 0 }, cmp.Comparer(func(_, _ []string) bool { return true }))

// noParams is what tasks without parameters take.
type noParams struct{}

// withGrace shortens how long a handler may ignore the end of its context.
func withGrace(d time.Duration) WorkOption {
	return workOption{fmt.Sprintf("withGrace(%v)", d), func(o *workOptions) error { o.handlerGrace = d; return nil }}
}

// testLog keeps what is logged. It is safe for concurrent use.
type testLog struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// renew is a heartbeat as a worker does it.
func renew(ctx context.Context, s session, over bool) (heartbeat, error) {
	beat, err := s.heartbeat(ctx, over)
	if err == nil {
		s.adopt(beat.workerID)
	}
	return beat, err
}
