package anchor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What a handler left behind must find its transaction over, even if nothing was sent through it in time.
func TestTransactionIsOverOnceItsTaskHasCompleted(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	for name, store := range map[string]Store{"memory": NewMemoryStore(), "postgres": rig.store} {
		t.Run(name, func(t *testing.T) {
			leaked := make(chan pgx.Tx, 1)
			other := Define[noParams]("Other", nil)
			task := Define("Leaks", func(_ context.Context, tx pgx.Tx, _ *noParams) error {
				leaked <- tx
				return nil
			})
			client := rig.clientOf(store, task, other)
			stop := rig.startWork(client)
			defer stop()
			if info := rig.ended(client, enqueue(rig, client, task, &noParams{})); info.Status != StatusCompleted {
				t.Fatalf("status %s, errors %v", info.Status, info.Errors)
			}
			tx := receive(t, "the transaction", leaked)
			uses := map[string]func(ctx context.Context) error{
				"RunWithTx": func(ctx context.Context) error {
					_, err := other.RunWithTx(ctx, client, tx, &noParams{})
					return err
				},
				"Exec":  func(ctx context.Context) error { _, err := tx.Exec(ctx, "select 1"); return err },
				"Begin": func(ctx context.Context) error { _, err := tx.Begin(ctx); return err },
			}
			for use, f := range uses {
				if err := f(t.Context()); !errors.Is(err, errHandlerTxOver) {
					t.Errorf("%s after the task has completed: %v, want %v", use, err, errHandlerTxOver)
				}
			}
		})
	}
	if n := rig.pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections of the pool are still out", n)
	}
}

func TestConcurrentFirstUseOfATransactionLeaksNoConnection(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	config, err := pgxpool.ParseConfig(rig.url)
	if err != nil {
		t.Fatal(err)
	}
	var armed atomic.Bool
	var both sync.WaitGroup // both have a connection each before either goes on
	both.Add(2)
	config.MaxConns = 3 // one is kept from handlers
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
		if armed.Load() {
			both.Done()
			both.Wait()
		}
		return true, nil
	}
	small, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	session, err := NewPGStore(small).openSession(t.Context(), workerRecord{id: newWorkerID(), lease: time.Minute, names: []string{"a"}, slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.close(context.Background()) }()
	tx := session.begin(&claimedTask{id: 1, token: 1, workerID: newWorkerID()}, time.Minute)
	armed.Store(true)
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := tx.handler().Exec(context.Background(), "select $1::int", 1)
			errs <- err
		}()
	}
	var refused int
	for range 2 {
		if err := receive(t, "end of a first statement", errs); errors.Is(err, errHandlerTxShared) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != 1 {
		t.Errorf("%d of two concurrent first statements were refused, want 1", refused)
	}
	armed.Store(false)
	tx.abandon()
	if n := small.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still out", n)
	}
}
