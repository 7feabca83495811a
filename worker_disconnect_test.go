package anchor

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// terminateAll ends every connection of the database but its own.
const terminateAll = `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`

func TestNothingIsLostOrDoubledWhenConnectionsAreEnded(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("Writes", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		if p.Case == "no-op" {
			return nil
		}
		return noteEffect(ctx, tx, "a")
	}, WithRetryPolicy("1ms", 1000))
	const count = 4000
	params := make([]*caseParams, count)
	for i := range params {
		params[i] = &caseParams{[]string{"writes", "no-op"}[i%2]}
	}
	client := rig.newClient(task)
	if _, err := task.RunMany(t.Context(), client, params); err != nil {
		t.Fatal(err)
	}
	worker := rig.clientOf(NewPGStore(rig.newPool(6)), task)
	rig.startWork(worker, WithConcurrency(6), WithLease(2*time.Second), WithPollInterval(100*time.Millisecond))
	admin := rig.connect()
	completed := func() (n int) {
		if err := admin.QueryRow(t.Context(), "select count(*) from anchor_tasks where status = 'completed'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for round := range 12 {
		target := min(completed()+count/15, count)
		eventually(t, "progress", func() bool { return completed() >= target })
		if _, err := admin.Exec(t.Context(), terminateAll); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	eventually(t, "all completed", func() bool { return completed() == count })
	var effects, tasks int
	if err := admin.QueryRow(t.Context(), "select count(*), count(distinct task_id) from effects").Scan(&effects, &tasks); err != nil {
		t.Fatal(err)
	}
	if effects != count/2 || tasks != count/2 {
		t.Errorf("%d effects of %d tasks, want one of each of %d", effects, tasks, count/2)
	}
}

func TestListenerReconnects(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("NoOp", func(context.Context, pgx.Tx, *noParams) error { return nil })
	client := rig.newClient(task)
	// Polling finds nothing in the time of this test.
	rig.startWork(client, WithPollInterval(time.Hour))
	admin := rig.connect()
	listening := func() (n int) {
		const query = `select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %' and state = 'idle'`
		if err := admin.QueryRow(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 3 {
		eventually(t, "a listener", func() bool { return listening() == 1 })
		rig.ended(client, enqueue(rig, client, task, &noParams{}))
		if _, err := admin.Exec(t.Context(), `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and query like 'listen %'`); err != nil {
			t.Fatal(err)
		}
		// What is enqueued while nobody listens is found at the reconnect.
		rig.ended(client, enqueue(rig, client, task, &noParams{}))
	}
}

func TestLeaseThatCouldNotBeRenewedInTimeLosesNoTask(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	started := make(chan int32, 10)
	task := Define("Waits", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		info, _ := TaskFromContext(ctx)
		err := noteEffect(ctx, tx, "a")
		started <- int32(info.Attempts)
		if info.Attempts > 1 || err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}, WithRetryPolicy("1ms", 5))
	client := rig.newClient(task)
	rig.startWork(client, WithLease(2*time.Second), WithPollInterval(50*time.Millisecond))
	id := enqueue(rig, client, task, &noParams{})
	if attempt := receive(t, "first start", started); attempt != 1 {
		t.Fatalf("attempt %d is the first to start", attempt)
	}
	// Nobody can renew, and nobody can take back.
	tx, err := rig.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "select from anchor_workers for update"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of the lease", func() bool {
		return readOne[int](rig, "select count(*) from anchor_workers where lease_until < clock_timestamp() - interval '1 second'") == 1
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if attempt := receive(t, "second start", started); attempt != 2 {
		t.Errorf("attempt %d, want 2", attempt)
	}
	if info := rig.ended(client, id); info.Status != StatusCompleted || len(rig.effectsOf(id)) != 1 {
		t.Errorf("status %s, effects %q, errors %v", info.Status, rig.effectsOf(id), info.Errors)
	}
}
