package anchor_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

// storeFactories has a line for each store; what holds for all of them is tested through [onEveryStore].
var storeFactories = map[string]func(t *testing.T) anchor.Store{
	"memory":   func(*testing.T) anchor.Store { return anchor.NewMemoryStore() },
	"postgres": func(t *testing.T) anchor.Store { store, _ := postgresStore(t); return store },
}

// onEveryStore runs test as a subtest for each store, with an empty store of its own.
func onEveryStore(t *testing.T, test func(t *testing.T, store anchor.Store)) {
	t.Helper()
	for name, factory := range storeFactories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, factory(t))
		})
	}
}

// postgresStore is a migrated store in a database of its own, with its pool.
func postgresStore(t *testing.T, opts ...anchor.PGOption) (*anchor.PGStore, *pgxpool.Pool) {
	t.Helper()
	pool := openPool(t, testdb.New(t))
	store := anchor.NewPGStore(pool, opts...)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	return store, pool
}

// openPool is a pool of up to 8 connections, closed when the test is done.
func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// letter is the parameters of most tests.
type letter struct {
	To     string          `json:"to,omitzero"`
	Number int             `json:"number,omitzero"`
	Raw    json.RawMessage `json:"raw,omitzero"`
}

func newClient(t *testing.T, store anchor.Store, tasks ...anchor.AnyTask) *anchor.Client {
	t.Helper()
	client, err := anchor.New(store, anchor.WithTasks(tasks...))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return client
}

// newLetters is a client with one task that only enqueues.
func newLetters(t *testing.T, store anchor.Store) (*anchor.Client, *anchor.Task[letter]) {
	t.Helper()
	task := anchor.Define[letter]("Letter", nil)
	return newClient(t, store, task), task
}

func mustRun(t *testing.T, client *anchor.Client, task *anchor.Task[letter], params letter, opts ...anchor.RunOption) int64 {
	t.Helper()
	id, err := task.Run(t.Context(), client, &params, opts...)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return id
}

func mustTask(t *testing.T, client *anchor.Client, id int64) *anchor.TaskInfo {
	t.Helper()
	info, err := client.Task(t.Context(), id)
	if err != nil {
		t.Fatalf("Task(%d): %v", id, err)
	}
	return info
}

func mustBegin(t *testing.T, pool *pgxpool.Pool, options pgx.TxOptions) pgx.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

func mustExec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func queryOne[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var got T
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// startWorker works in the background until the test is done.
func startWorker(t *testing.T, client *anchor.Client) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- client.Work(ctx, anchor.WithPollInterval(20*time.Millisecond), anchor.WithShutdownTimeout(time.Second))
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Work: %v", err)
		}
	})
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func mustWait(t *testing.T, client *anchor.Client, id int64) *anchor.TaskInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	info, err := client.Wait(ctx, id)
	if err != nil {
		t.Fatalf("Wait(%d): %v", id, err)
	}
	return info
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want one that is %q", err, want)
	}
}

// wantHolder checks that err says that tag is held by the task holder.
func wantHolder(t *testing.T, err error, tag string, holder int64) {
	t.Helper()
	wantIs(t, err, anchor.ErrTaskAlreadyExists)
	var exists *anchor.TaskExistsError
	if !errors.As(err, &exists) {
		t.Fatalf("error %v is no *TaskExistsError", err)
	}
	if diff := cmp.Diff(&anchor.TaskExistsError{Tag: tag, ID: holder}, exists); diff != "" {
		t.Fatalf("holder (-want +got):\n%s", diff)
	}
}

// wantPrefixOnce checks that an error says whose it is, and says it once.
func wantPrefixOnce(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); !strings.HasPrefix(text, "anchor: ") || strings.Count(text, "anchor: ") != 1 {
		t.Errorf("the error %q does not say once whose it is", text)
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not have %q", err, part)
		}
	}
}

// waitFor polls condition until it is true.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
