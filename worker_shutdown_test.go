package anchor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
)

func TestStoppedWorkGivesBackWhatItHasNotStarted(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	started, release := make(chan struct{}, 1), make(chan struct{})
	var fast, starts atomic.Int64
	task := Define("Blocks", func(ctx context.Context, _ pgx.Tx, p *caseParams) error {
		starts.Add(1)
		if p.Case == "blocks" {
			started <- struct{}{}
			<-release
		} else {
			fast.Add(1)
		}
		return nil
	})
	client := rig.newClient(task)
	params := make([]*caseParams, 3000)
	for i := range params {
		params[i] = &caseParams{"fast"}
	}
	// Fast tasks fill the buffer, behind the one that blocks the only slot.
	params[1500] = &caseParams{"blocks"}
	ids, err := task.RunMany(t.Context(), client, params)
	if err != nil {
		t.Fatal(err)
	}
	stop := rig.startWork(client, WithConcurrency(1))
	receive(t, "start of the task that blocks", started)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	eventually(t, "all but one given back", func() bool {
		return readOne[int](rig, "select count(*) from anchor_tasks where status = 'running'") == 1
	})
	select {
	case <-stopped:
		t.Error("Work returned while a handler ran")
	default:
	}
	close(release)
	receive(t, "end of Work", stopped)
	if info := rig.inStatus(client, ids[1500], StatusCompleted); info.Attempts != 1 {
		t.Errorf("%d attempts", info.Attempts)
	}
	if n := readOne[int64](rig, "select count(*) from anchor_tasks where status = 'completed'"); n != starts.Load() || n == 3000 {
		t.Errorf("%d completed, %d started, want as many, and some left", n, starts.Load())
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks where status = 'pending' and attempts <> 0"); n != 0 {
		t.Errorf("%d tasks were charged an attempt that did not start", n)
	}
	if n := readOne[int](rig, "select count(*) from anchor_workers"); n != 0 {
		t.Errorf("%d workers on record, want none", n)
	}
}

func TestShutdownTimeoutEndsHandlers(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	task, started, causes := newWaiting(func(ctx context.Context) error { return ctx.Err() })
	deaf := Define("Deaf", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		err := noteEffect(ctx, tx, "a")
		started <- 0
		<-release
		return err
	})
	client := rig.newClient(task, deaf)
	ids := []int64{enqueue(rig, client, task, &noParams{}), enqueue(rig, client, deaf, &noParams{})}
	stop := rig.startWork(client, WithShutdownTimeout(100*time.Millisecond))
	receive(t, "start", started)
	receive(t, "start", started)
	stop()
	if cause := receive(t, "end of the context", causes); !errors.Is(cause, ErrShutdown) {
		t.Errorf("cause %v, want ErrShutdown", cause)
	}
	for _, id := range ids {
		info, err := client.Task(t.Context(), id)
		if err != nil || info.Status != StatusPending || info.Attempts != 1 || len(info.Errors) != 1 {
			t.Errorf("%+v, %v, want pending after an attempt with its error", info, err)
		}
		if text := info.Errors[0].Message; id == ids[0] && !strings.HasPrefix(text, ErrShutdown.Error()+": ") {
			t.Errorf("the error on record is %q, without what ended the context", text)
		}
	}
	if got := readAll[string](rig, "select label from effects"); len(got) != 0 {
		t.Errorf("effects %q, want none", got)
	}
	// What was cut short is due at once.
	if n := readOne[int](rig, "select count(*) from anchor_tasks where id = $1 and next_run <= clock_timestamp()", ids[0]); n != 1 {
		t.Error("the task that the shutdown has cut short is not due")
	}
}

func TestManyStopsUnderLoadChargeNoAttemptThatDidNotStart(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	var starts atomic.Int64
	task := Define("Counted", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		starts.Add(1)
		if p.Case == "writes" {
			return noteEffect(ctx, tx, "a")
		}
		return nil
	})
	client := rig.newClient(task)
	params := make([]*caseParams, 20_000)
	for i := range params {
		params[i] = &caseParams{[]string{"", "writes"}[i%20/19]}
	}
	if _, err := task.RunMany(t.Context(), client, params); err != nil {
		t.Fatal(err)
	}
	for stops := range 15 {
		stop := rig.startWork(client, WithConcurrency(4))
		before := starts.Load()
		eventually(t, "some starts", func() bool { return starts.Load() > before+int64(stops*7%50) || starts.Load() == 20_000 })
		stop()
		if n := readOne[int](rig, "select count(*) from anchor_tasks where status = 'running'"); n != 0 {
			t.Fatalf("%d tasks are running after stop %d", n, stops)
		}
		if charged := readOne[int64](rig, "select sum(attempts) from anchor_tasks"); charged != starts.Load() {
			t.Fatalf("%d attempts are charged after stop %d, %d were started", charged, stops, starts.Load())
		}
	}
	rig.startWork(client, WithConcurrency(4))
	eventually(t, "all completed", func() bool {
		return readOne[int](rig, "select count(*) from anchor_tasks where status = 'completed'") == 20_000
	})
	if n := starts.Load(); n != 20_000 {
		t.Errorf("%d starts, want 20,000", n)
	}
	if n := readOne[int](rig, "select count(*) from effects"); n != 1000 {
		t.Errorf("%d effects, want 1,000", n)
	}
}

// Not parallel: it looks at the goroutines of the whole process.
func TestNothingIsLeftAfterWork(t *testing.T) {
	rig := newPG(t)
	pool, err := pgxpool.New(t.Context(), rig.url)
	if err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent()
	started := make(chan struct{}, 100)
	task := Define("Mixed", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		if err := noteEffect(ctx, tx, "a"); err != nil {
			return err
		}
		switch p.Case {
		case "fails":
			return errNoLuck
		case "panics":
			panic("oh dear")
		case "waits":
			started <- struct{}{}
			<-ctx.Done()
		}
		return ctx.Err()
	}, WithRetryPolicy("1ms", 2)).OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *caseParams) error { return nil })
	client := rig.clientOf(NewPGStore(pool), task)
	stop := rig.startWork(client, WithShutdownTimeout(50*time.Millisecond), WithPollInterval(20*time.Millisecond))
	var ids []int64
	for _, name := range []string{"completes", "fails", "panics"} {
		ids = append(ids, enqueue(rig, client, task, &caseParams{name}))
	}
	for _, id := range ids {
		rig.ended(client, id)
	}
	enqueue(rig, client, task, &caseParams{"waits"})
	receive(t, "start", started)
	stop()
	pool.Close()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	rig.pool.Reset()
	eventually(t, "no connection but the test's own", func() bool {
		return readOne[int](rig, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()") == 0
	})
}

func TestBufferedTasksBehindBlockedSlotsAreGivenBack(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	release, started := make(chan struct{}), make(chan struct{}, 4)
	ran := &recorded{}
	define := func(worker string) *Task[caseParams] {
		return Define("Hoarded", func(ctx context.Context, _ pgx.Tx, p *caseParams) error {
			if p.Case == "blocks" {
				started <- struct{}{}
				<-release
				return nil
			}
			ran.add(worker)
			return nil
		})
	}
	first := define("first")
	client := rig.newClient(first)
	params := make([]*caseParams, 6000)
	for i := range params {
		params[i] = &caseParams{"fast"}
		if i >= 2000 && i < 2002 {
			params[i].Case = "blocks"
		}
	}
	if _, err := first.RunMany(t.Context(), client, params); err != nil {
		t.Fatal(err)
	}
	rig.startWork(client, WithConcurrency(2))
	t.Cleanup(func() { close(release) })
	receive(t, "first blocked slot", started)
	receive(t, "second blocked slot", started)
	eventually(t, "the buffer given back", func() bool {
		return readOne[int](rig, "select count(*) from anchor_tasks where status = 'running'") == 2
	})
	second := rig.newClient(define("second"))
	rig.startWork(second, WithConcurrency(2))
	eventually(t, "all others completed", func() bool {
		return readOne[int](rig, "select count(*) from anchor_tasks where status = 'completed'") == 5998
	})
	if !slices.Contains(ran.all(), "second") {
		t.Error("the second worker has run nothing, this test shows nothing")
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks where attempts <> 1"); n != 0 {
		t.Errorf("%d tasks were not charged exactly one attempt", n)
	}
}
