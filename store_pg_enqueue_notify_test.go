package anchor

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/testdb"
)

// sentTogether records the batches and the statements on their own that were sent.
type sentTogether struct {
	mu   sync.Mutex
	sent [][]string
}

func (s *sentTogether) add(statements ...string) {
	s.mu.Lock()
	s.sent = append(s.sent, statements)
	s.mu.Unlock()
}

func (s *sentTogether) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	var statements []string
	for _, query := range data.Batch.QueuedQueries {
		statements = append(statements, query.SQL)
	}
	s.add(statements...)
	return ctx
}
func (*sentTogether) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*sentTogether) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (s *sentTogether) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.add(data.SQL)
	return ctx
}
func (*sentTogether) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func someTasks(n int) (tasks []*newTask) {
	for range n {
		tasks = append(tasks, &newTask{name: "Some", queue: "default", maxAttempts: 1, params: []byte("{}")})
	}
	return tasks
}

// RestWaker waits until nobody has sent a hint for a while: who enqueues next tells of it himself.
func RestWaker(t *testing.T, s *PGStore) {
	t.Helper()
	eventually(t, "a waker at rest", func() bool {
		s.waker.mu.Lock()
		defer s.waker.mu.Unlock()
		return !s.waker.sending
	})
}

func TestTasksAreEnqueuedAndToldOfInOneRoundTrip(t *testing.T) {
	t.Parallel()
	r := newPG(t)
	listener := r.connect()
	_, err := listener.Exec(t.Context(), "listen "+r.store.channel())
	must(t, err)
	config := r.pool.Config()
	sent := &sentTogether{}
	config.ConnConfig.Tracer = sent
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	s := NewPGStore(pool)
	must(t, s.enqueue(t.Context(), someTasks(1)))
	RestWaker(t, s)
	sent.sent = nil
	two := someTasks(2)
	must(t, s.enqueue(t.Context(), two))
	want := [][]string{{"begin", s.sql(insertTasks), notifyChannel, "commit", flushCommits}}
	if diff := cmp.Diff(want, sent.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	for range 2 { // of the first task, and of these
		told, err := listener.WaitForNotification(t.Context())
		must(t, err)
		if told.Payload != queuePayload+"default" {
			t.Errorf("told %q", told.Payload)
		}
	}
	if two[0].id == 0 || two[1].id != two[0].id+1 {
		t.Errorf("ids %d and %d", two[0].id, two[1].id)
	}
}

// The writer of the server's log is kept from coming along, so that only who waits for the disk is safe.
func TestWhatIsEnqueuedSurvivesACrashAtOnce(t *testing.T) {
	t.Parallel()
	cluster, err := testdb.Start(t.Context(), testdb.WithSettings("wal_writer_delay=10s", "shared_buffers=16MB"))
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	r := newPGAt(t, testdb.NewOn(t, cluster.URL()))
	must(t, r.store.enqueue(t.Context(), someTasks(1)))
	must(t, cluster.Kill(t.Context()))
	must(t, cluster.Restart(context.WithoutCancel(t.Context()), testdb.Immediate))
	eventually(t, "the server to answer", func() bool { return r.pool.Ping(t.Context()) == nil })
	if n := readOne[int](r, "select count(*) from anchor_tasks"); n != 1 {
		t.Errorf("%d tasks, want 1", n)
	}
}
