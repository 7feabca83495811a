package anchor

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var errCut = errors.New("unexpected end of the connection")

func TestLostCommitsDoNotStarveTheLease(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("Writes", func(context.Context, pgx.Tx, *noParams) error { return nil })
	client := rig.newClient(task)
	const count = 20
	if _, err := task.RunMany(t.Context(), client, manyParams(count)); err != nil {
		t.Fatal(err)
	}
	opened, err := rig.store.openSession(t.Context(), workerRecord{
		id: newWorkerID(), host: "h", pid: 1, lease: 15 * time.Second, names: []string{"Writes"}, slots: count, crons: map[string]string{},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*pgSession)
	defer func() { _ = s.close(context.Background()) }()
	got, err := s.claim(t.Context(), claimRequest{names: []string{"Writes"}, limit: count, firstHand: count, sweep: true})
	tasks := got.tasks
	if err != nil || len(tasks) != count {
		t.Fatalf("%d tasks were claimed, %v", len(tasks), err)
	}
	// The commits are still under way: their rows are locked.
	holder, err := rig.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "select from anchor_tasks_hot for update"); err != nil {
		t.Fatal(err)
	}
	var resolving sync.WaitGroup
	for _, claimed := range tasks {
		resolving.Go(func() { _ = (&lazyTx{session: s, task: claimed}).resolve(errCut) })
	}
	eventually(t, "a commit that is being looked for", func() bool {
		return readOne[int](rig, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") > 0
	})
	if _, err := renew(t.Context(), s, false); err != nil {
		t.Errorf("the lease could not be renewed: %v", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	resolving.Wait()
}

func manyParams(n int) []*noParams {
	params := make([]*noParams, n)
	for i := range params {
		params[i] = &noParams{}
	}
	return params
}

func TestWorkDoesNotWaitForEverForADatabaseThatSaysNothing(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	pool, err := pgxpool.New(t.Context(), "postgres://anybody@"+listener.Addr().String()+"/any?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	client, err := New(NewPGStore(pool), WithTasks(Define("NoOp", func(context.Context, pgx.Tx, *noParams) error { return nil })))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Work(t.Context()) }()
	if err := receive(t, "the end of Work", ended); err == nil {
		t.Error("Work has returned nil, want an error")
	}
}
