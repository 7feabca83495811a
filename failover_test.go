//go:build unix

package anchor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/testdb"
)

// roundsVariable sets how many rounds of a fault there are, for counts that prove something.
const roundsVariable = "ANCHOR_CHAOS_ROUNDS"

func rounds(t *testing.T, byDefault int) int {
	t.Helper()
	text := os.Getenv(roundsVariable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number from 1", roundsVariable, text)
	}
	return n
}

func TestSynchronousFailoverLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	acknowledged, unknown, lost := 0, 0, 0
	var slowest time.Duration
	count := rounds(t, 1)
	for range count {
		f := newFailover(t, true)
		f.run()
		if f.lost > 0 {
			t.Errorf("%d acknowledged tasks are lost", f.lost)
		}
		acknowledged, unknown, lost = acknowledged+len(f.acknowledged), unknown+len(f.unknown), lost+f.lost
		slowest = max(slowest, f.recovery)
		f.close()
	}
	t.Logf("synchronous failover: %d rounds, %d acknowledged, %d lost, %d of unknown outcome, slowest recovery %v",
		count, acknowledged, lost, unknown, slowest.Round(time.Millisecond))
}

// What the standby has not received is gone, effects and all. The rest is as sound as ever.
func TestAsynchronousFailoverLosesOnlyWhatTheStandbyHasNotReceived(t *testing.T) {
	t.Parallel()
	acknowledged, lost := 0, 0
	var slowest time.Duration
	count := rounds(t, 1)
	for range count {
		f := newFailover(t, false)
		f.run()
		if f.lost == 0 || f.lostEarly > 0 {
			t.Errorf("%d acknowledged tasks are lost, %d of them although the standby had received them; want some, and none", f.lost, f.lostEarly)
		}
		acknowledged, lost, slowest = acknowledged+len(f.acknowledged), lost+f.lost, max(slowest, f.recovery)
		f.close()
	}
	t.Logf("asynchronous failover: %d rounds, %d acknowledged, %d lost, slowest recovery %v", count, acknowledged, lost, slowest.Round(time.Millisecond))
}

// failover is one round: a primary and its standby, two workers and four enqueuers that know both addresses.
type failover struct {
	*pgRig
	primary, standby *testdb.Cluster
	synchronous      bool

	mu           sync.Mutex
	acknowledged map[int]int64 // ids by number
	refused      map[int]error // nothing was written
	unknown      map[int]error
	next         int
	slowestCall  time.Duration
	firstAfter   time.Time // of an acknowledgement, behind the kill
	killed, gone time.Time // when the primary was told, and when all of it had ended
	received     int       // numbers below are on the standby

	lost, lostEarly int
	recovery        time.Duration
}

func newFailover(t *testing.T, synchronous bool) *failover {
	t.Helper()
	f := &failover{synchronous: synchronous, acknowledged: map[int]int64{}, refused: map[int]error{}, unknown: map[int]error{}}
	var err error
	if f.primary, err = testdb.Start(t.Context(), testdb.WithTCP(), testdb.WithSettings("shared_buffers=64MB")); err != nil {
		t.Fatal(err)
	}
	if f.standby, err = f.primary.Standby(t.Context(), "standby"); err != nil {
		t.Fatal(err)
	}
	both, err := url.Parse(f.primary.URL())
	must(t, err)
	second, err := url.Parse(f.standby.URL())
	must(t, err)
	both.Host += "," + second.Host
	query := both.Query()
	query.Set("target_session_attrs", "read-write")
	query.Set("connect_timeout", "2")
	both.RawQuery = query.Encode()
	f.pgRig = newPGAt(t, both.String())
	if synchronous {
		f.exec("alter system set synchronous_standby_names = 'standby'")
		f.exec("select pg_reload_conf()")
	}
	eventually(t, "replication", func() bool {
		return readOne[string](f.pgRig, "select coalesce(max(sync_state), '') from pg_stat_replication where state = 'streaming'") ==
			map[bool]string{true: "sync", false: "async"}[synchronous]
	})
	return f
}

func (f *failover) close() {
	f.pool.Close()
	if err := errors.Join(f.primary.Stop(), f.standby.Stop()); err != nil {
		f.t.Error(err)
	}
}

type failoverParams struct {
	N int `json:"n"`
}

const (
	failoverBefore = 300 // acknowledged tasks before the primary dies, and behind that
	failoverLimit  = 10 * time.Second
)

func (f *failover) run() {
	task := Define("Write", func(ctx context.Context, tx pgx.Tx, p *failoverParams) error {
		return noteEffect(ctx, tx, strconv.Itoa(p.N))
	}, WithRetryPolicy("100ms", 1000), WithTimeout("10s"))
	client := f.newClient(task)
	var stops []func()
	for range 2 {
		stops = append(stops, f.startWork(client, WithConcurrency(4), WithLease(2*time.Second), WithPollInterval(200*time.Millisecond)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var enqueuers sync.WaitGroup
	for range 4 {
		enqueuers.Go(func() { f.enqueue(ctx, client, task) })
	}
	stopEnqueuing := sync.OnceFunc(func() { cancel(); enqueuers.Wait() })
	defer stopEnqueuing()
	f.waitForAcknowledged(failoverBefore)
	receiver := f.stopReceiving()
	f.waitForAcknowledged(failoverBefore)

	f.killed = time.Now()
	must(f.t, f.primary.Kill(f.t.Context()))
	f.mu.Lock()
	f.gone = time.Now()
	f.mu.Unlock()
	if receiver != 0 {
		// It ends before it reads what is on its way.
		must(f.t, errors.Join(syscall.Kill(receiver, syscall.SIGTERM), syscall.Kill(receiver, syscall.SIGCONT)))
	}
	must(f.t, f.standby.Promote(f.t.Context()))
	f.waitForAcknowledged(failoverBefore)
	stopEnqueuing()
	f.recovery = f.firstAfter.Sub(f.killed)
	eventually(f.t, "the end of every task", func() bool {
		return readOne[int](f.pgRig, "select count(*) from anchor_tasks where status in ('pending', 'running')") == 0
	})
	for _, stop := range stops {
		stop()
	}
	f.check()
}

// stopReceiving makes an asynchronous standby fall behind, and answers what to signal for its going on.
func (f *failover) stopReceiving() int {
	if f.synchronous {
		return 0
	}
	conn, err := pgx.Connect(f.t.Context(), f.standby.URL())
	must(f.t, err)
	defer conn.Close(context.Background())
	f.mu.Lock()
	f.received = f.next
	f.mu.Unlock()
	// Those numbers have an answer soon, and the standby has what is behind it.
	eventually(f.t, "answers", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for n := range f.received {
			_, ok := f.acknowledged[n]
			if !ok && f.refused[n] == nil && f.unknown[n] == nil {
				return false
			}
		}
		return true
	})
	written := readOne[string](f.pgRig, "select pg_current_wal_lsn()::text")
	var pid int
	eventually(f.t, "the standby to catch up", func() bool {
		var there bool
		must(f.t, conn.QueryRow(f.t.Context(), "select pid, flushed_lsn >= $1::pg_lsn from pg_stat_wal_receiver", written).Scan(&pid, &there))
		return there
	})
	must(f.t, syscall.Kill(pid, syscall.SIGSTOP))
	return pid
}

// waitForAcknowledged waits for so many more.
func (f *failover) waitForAcknowledged(more int) {
	f.t.Helper()
	count := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.acknowledged)
	}
	from := count()
	eventually(f.t, "acknowledged tasks", func() bool { return count() >= from+more })
}

// enqueue enqueues numbers until ctx ends, every other one in a transaction.
func (f *failover) enqueue(ctx context.Context, client *Client, task *Task[failoverParams]) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		f.mu.Lock()
		n := f.next
		f.next++
		f.mu.Unlock()
		began := time.Now()
		id, err := f.enqueueOne(client, task, n)
		f.mu.Lock()
		f.slowestCall = max(f.slowestCall, time.Since(began))
		switch {
		case err == nil:
			f.acknowledged[n] = id
			if f.firstAfter.IsZero() && !f.gone.IsZero() && began.After(f.gone) {
				f.firstAfter = time.Now()
			}
		case errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, errCommit):
			f.unknown[n] = err
		default:
			f.refused[n] = err
		}
		f.mu.Unlock()
	}
}

// errCommit marks the errors of the test's own COMMIT, whose outcome only its caller could find out.
var errCommit = errors.New("commit")

func (f *failover) enqueueOne(client *Client, task *Task[failoverParams], n int) (id int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), failoverLimit)
	defer cancel()
	if n%2 == 0 {
		return task.Run(ctx, client, &failoverParams{n})
	}
	tx, err := f.pool.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if id, err = task.RunWithTx(ctx, client, tx, &failoverParams{n}); err != nil {
		return 0, err
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("%w: %w", errCommit, err)
	}
	return id, nil
}

const (
	selectNumbers = `select (spec->>'n')::int, id from anchor_tasks`
	// What has completed has one effect of its own, and nothing else has any.
	selectWrongEffects = `select coalesce(t.status, 'no task') || ' with ' || count(e.label) || ' effects'
from anchor_tasks t full join effects e on e.task_id = t.id and e.label = t.spec->>'n'
group by t.id, t.status having t.id is null or t.status <> 'completed' or count(e.label) <> 1`
)

func (f *failover) check() {
	f.t.Helper()
	there := map[int]int64{}
	rows, err := f.pool.Query(f.t.Context(), selectNumbers)
	must(f.t, err)
	var n int
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&n, &id}, func() error {
		if _, twice := there[n]; twice {
			f.t.Errorf("number %d is there twice", n)
		}
		there[n] = id
		return nil
	})
	must(f.t, err)
	for n, id := range f.acknowledged {
		if there[n] == 0 {
			f.lost++
			if n < f.received {
				f.lostEarly++
			}
		} else if there[n] != id {
			f.t.Errorf("number %d is task %d, acknowledged was %d", n, there[n], id)
		}
	}
	for n, err := range f.refused {
		if there[n] != 0 {
			f.t.Errorf("number %d is task %d although its enqueue failed for certain: %v", n, there[n], err)
		}
	}
	for _, wrong := range readAll[string](f.pgRig, selectWrongEffects) {
		f.t.Errorf("a task that is %s", wrong)
	}
	if f.slowestCall > failoverLimit+time.Second {
		f.t.Errorf("a call took %v although its context ended after %v", f.slowestCall, failoverLimit)
	}
}
