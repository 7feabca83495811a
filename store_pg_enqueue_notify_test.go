package anchor

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
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

// tracedStore is a store at rest, of a pool of its own whose statements are recorded from now on.
func tracedStore(t *testing.T, config *pgxpool.Config) (*PGStore, *sentTogether) {
	t.Helper()
	sent := &sentTogether{}
	config.ConnConfig.Tracer = sent
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	s := NewPGStore(pool)
	must(t, s.enqueue(t.Context(), someTasks(1)))
	RestWaker(t, s)
	sent.sent = nil
	return s, sent
}

func TestTasksAreEnqueuedAndToldOfInOneRoundTrip(t *testing.T) {
	t.Parallel()
	r := newPG(t)
	listener := r.connect()
	_, err := listener.Exec(t.Context(), "listen "+r.store.channel())
	must(t, err)
	s, sent := tracedStore(t, r.pool.Config())
	two := someTasks(2)
	must(t, s.enqueue(t.Context(), two))
	want := [][]string{{"begin", s.sql(insertTasks), notifyBriefly, "commit", flushCommits}}
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

// What the server says of the tasks themselves is the answer: asking again would take as long once more.
func TestTasksThatAreRefusedAreSentOnce(t *testing.T) {
	t.Parallel()
	r := newPG(t)
	config := r.pool.Config()
	config.ConnConfig.RuntimeParams["lock_timeout"] = "20"
	s, sent := tracedStore(t, config)
	holder, err := r.pool.Begin(t.Context())
	must(t, err)
	_, err = holder.Exec(t.Context(), "lock table anchor_tasks in share row exclusive mode")
	must(t, err)
	err = s.enqueue(t.Context(), someTasks(1))
	if sqlState(err) != stateLockNotAvailable || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("refused with %v", err)
	}
	want := [][]string{{"begin", s.sql(insertTask), notifyBriefly, "commit", flushCommits}, {"rollback"}}
	if diff := cmp.Diff(want, sent.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if n := s.pool.Stat().NewConnsCount(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
	must(t, holder.Rollback(t.Context()))
}

// One notifying commit of the instance goes at a time. One that waits for its standby keeps no task from being enqueued.
func TestAnEnqueueDoesNotWaitForTheNotificationsOfOthers(t *testing.T) {
	t.Parallel()
	cluster, err := testdb.Start(t.Context(), testdb.WithSettings("shared_buffers=16MB"))
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	r := newPGAt(t, testdb.NewOn(t, cluster.URL())+"&synchronous_commit=local")
	must(t, r.store.enqueue(t.Context(), someTasks(1)))
	RestWaker(t, r.store)
	r.exec("alter system set synchronous_standby_names = 'nobody'")
	r.exec("select pg_reload_conf()")
	other := r.connect()
	ended := make(chan error, 1)
	go func() {
		_, err := other.Exec(context.WithoutCancel(t.Context()),
			"begin; set local synchronous_commit = on; select pg_logical_emit_message(true, 'other', ''); notify other; commit")
		ended <- err
	}()
	eventually(t, "a commit that waits for its standby", func() bool {
		return readOne[int](r, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	must(t, r.store.enqueue(ctx, someTasks(1)))
	if n := readOne[int](r, "select count(*) from anchor_tasks"); n != 2 {
		t.Errorf("%d tasks, want 2", n)
	}
	if n := readOne[int](r, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"); n != 1 {
		t.Error("the other commit did not last as long as that")
	}
	r.exec("alter system reset synchronous_standby_names")
	r.exec("select pg_reload_conf()")
	must(t, receive(t, "the end of the other commit", ended))
}

func TestAnEnqueueDialsOnce(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig("host=localhost sslmode=disable")
	must(t, err)
	dialled := atomic.Int32{}
	nobody := errors.New("nobody there")
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		dialled.Add(1)
		return nobody
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	if err := NewPGStore(pool).enqueue(t.Context(), someTasks(1)); !errors.Is(err, nobody) {
		t.Errorf("enqueued with %v", err)
	}
	if n := dialled.Load(); n != 1 {
		t.Errorf("dialled %d times, want once", n)
	}
}

// The server commits, and then does not say that it is durable, in whichever way. That is no refusal.
func TestNothingBehindTheCommitIsARefusal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		done    int
		last    *pgproto3.ErrorResponse // nil: none
		unknown bool
	}{
		"gone at once":           {0, nil, true},
		"gone with the commit":   {doneCommit - 1, nil, true},
		"gone":                   {doneCommit, nil, true},
		"ended with the commit":  {doneCommit - 1, answeredError("FATAL", "57P01"), true},
		"ended":                  {doneCommit, answeredError("FATAL", "57P01"), true},
		"cancelled and gone":     {doneCommit, answeredError("ERROR", "57014"), true},
		"a conflict and gone":    {doneCommit, answeredError("ERROR", stateSerializationFailure), true},
		"a data error and gone":  {doneCommit, answeredError("ERROR", "22023"), true},
		"refused by the commit":  {doneCommit - 1, answeredError("ERROR", "23514"), false},
		"refused by the insert":  {doneBegin, answeredError("ERROR", "23514"), false},
		"refused with the begin": {0, answeredError("ERROR", "25001"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewPGStore(nil)
			s.flushRight.Store(flushAllowed)
			_, err := s.insertAndNotify(t.Context(), connectToScript(t, c.done, c.last), someTasks(1), []string{"default"})
			if err == nil || outcomeUnknown(err) != c.unknown {
				t.Errorf("answered %v, want an unknown outcome: %v", err, c.unknown)
			}
			if isConflict(err) || unsent(err) {
				t.Errorf("%v: it would be sent again", err)
			}
		})
	}
}

func answeredError(severity, code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code}
}

// connectToScript connects to a server that does so many statements of insertAndNotify, says last, and goes.
func connectToScript(t *testing.T, done int, last *pgproto3.ErrorResponse) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig("host=localhost user=u dbname=d sslmode=disable")
	must(t, err)
	ours, theirs := net.Pipe()
	dialled := atomic.Bool{}
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, net.ErrClosed // to cancel a query
		}
		return ours, nil
	}
	served := make(chan error, 1)
	go func() { served <- serveScript(theirs, done, last) }()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(func() {
		_ = conn.Close(context.WithoutCancel(t.Context()))
		must(t, receive(t, "the server's end", served))
	})
	return conn
}

func serveScript(conn net.Conn, done int, last *pgproto3.ErrorResponse) error {
	defer func() { _ = conn.Close() }()
	server := pgproto3.NewBackend(conn, conn)
	if _, err := server.ReceiveStartupMessage(); err != nil {
		return err
	}
	server.Send(&pgproto3.AuthenticationOk{})
	server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := server.Flush(); err != nil {
		return err
	}
	var (
		nothing  = &pgproto3.NoData{}
		complete = &pgproto3.CommandComplete{CommandTag: []byte("DONE")}
		id       = &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("id"), DataTypeOID: pgtype.Int8OID, DataTypeSize: 8}}}
		seven    = &pgproto3.DataRow{Values: [][]byte{{0, 0, 0, 0, 0, 0, 0, 7}}}
	)
	for _, statement := range []struct {
		oids []uint32
		rows pgproto3.BackendMessage
	}{
		{nil, nothing},
		{[]uint32{pgtype.TextOID, pgtype.TextOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Int8OID, pgtype.TextOID, pgtype.TextOID}, id},
		{[]uint32{pgtype.TextOID, pgtype.TextArrayOID}, id},
		{nil, nothing},
		{nil, id},
	} {
		server.Send(&pgproto3.ParseComplete{})
		server.Send(&pgproto3.ParameterDescription{ParameterOIDs: statement.oids})
		server.Send(statement.rows)
	}
	server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := flushAtSync(server); err != nil {
		return err
	}
	bound := &pgproto3.BindComplete{}
	for _, statement := range [][]pgproto3.BackendMessage{
		{bound, nothing, complete}, {bound, seven, complete}, {bound, seven, complete}, {bound, nothing, complete},
	}[:done] {
		for _, message := range statement {
			server.Send(message)
		}
	}
	if last != nil {
		server.Send(last)
	}
	return flushAtSync(server)
}

// flushAtSync sends what there is to send once it was asked for.
func flushAtSync(server *pgproto3.Backend) error {
	for {
		message, err := server.Receive()
		if err != nil {
			return err
		}
		if _, ok := message.(*pgproto3.Sync); ok {
			return server.Flush()
		}
	}
}
