package anchortest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

const (
	// postgresTimeout bounds the making and the dropping of a database, and one call of the harness.
	postgresTimeout = time.Minute
	postgresPoll    = 10 * time.Millisecond
)

// RunPostgres runs a test as [Run] does, over a database of its own (see [Postgres], whose pool is given to test), in
// real time. Handlers have real transactions, so [Harness.Executed] and what belongs to it is empty. Every fault is
// available.
func RunPostgres(t *testing.T, test func(t *testing.T, h *Harness, pool *pgxpool.Pool), tasks ...anchor.AnyTask) {
	t.Helper()
	if test == nil {
		t.Fatal("anchortest: RunPostgres: test is nil")
	}
	pool := Postgres(t)
	h := newHarness(t, anchor.NewPGStore(pool), tasks)
	h.pool, h.poll = pool, postgresPoll
	t.Cleanup(h.finish) // before the pool is closed, which waits for its connections
	h.declare()
	test(t, h, pool)
}

// Postgres returns a pool of an empty, migrated database that belongs to t alone. It is dropped, and the pool closed,
// when t is done; when t has failed, its URL is logged, and it is kept if the server outlives the test.
//
// The server is the one of the environment variable ANCHOR_TEST_DATABASE_URL, whose user must be allowed to create
// databases. Without it, a private one is started for the process, from the programs of PostgreSQL 14 or newer on
// PATH or where Debian has them. Nothing is installed: t fails when there is none. Databases are copies of a template
// that is migrated once for each version of the schema. It is safe for concurrent use.
func Postgres(t *testing.T) *pgxpool.Pool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), postgresTimeout)
	defer cancel()
	server, err := testServer()
	if err != nil {
		t.Fatalf("anchortest: %v", err)
	}
	template, err := template(server)
	if err != nil {
		t.Fatalf("anchortest: the template database: %v", err)
	}
	name := testdb.Name(t.Name())
	database, err := testdb.Copy(ctx, server, name, template)
	if err != nil {
		t.Fatalf("anchortest: %v", err)
	}
	pool, err := pgxpool.New(context.WithoutCancel(ctx), database)
	if err != nil {
		t.Fatalf("anchortest: %v", err)
	}
	t.Cleanup(func() {
		pool.Close()
		if t.Failed() && os.Getenv(testdb.URLVariable) != "" {
			t.Logf("anchortest: the database of this test is kept: %s", redacted(database))
			return
		}
		if t.Failed() {
			t.Logf("anchortest: the database of this test was %s; to keep it for a look, set %s to the URL of a server", redacted(database), testdb.URLVariable)
		}
		ctx, cancel := context.WithTimeout(context.Background(), postgresTimeout)
		defer cancel()
		if err := testdb.Drop(ctx, server, name); err != nil {
			t.Errorf("anchortest: %v", err)
		}
	})
	return pool
}

// redacted is a URL without its password.
func redacted(database string) string {
	parsed, err := url.Parse(database)
	if err != nil || parsed.Scheme == "" {
		if config, err := pgx.ParseConfig(database); err == nil {
			return fmt.Sprintf("%s on %s port %d", config.Database, config.Host, config.Port)
		}
		return "one whose URL does not parse"
	}
	return parsed.Redacted()
}

// testServer is the URL of the server. A private one is never stopped: it ends with the process. Nothing of it has to
// survive a crash, so it need not wait for the disk.
var testServer = sync.OnceValues(func() (string, error) {
	if server := os.Getenv(testdb.URLVariable); server != "" {
		return server, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), postgresTimeout)
	defer cancel()
	if err := testdb.Available(ctx); err != nil {
		return "", err
	}
	cluster, err := testdb.Start(ctx, testdb.WithSettings("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=64MB"))
	if err != nil {
		return "", err
	}
	return cluster.URL(), nil
})

// template is the name of a migrated database on the server, made once for each version of the schema.
var template = func() func(server string) (string, error) {
	var mu sync.Mutex
	ready := false
	return func(server string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		name := templateName(anchor.NewPGStore(nil).MigrationSQL())
		if ready {
			return name, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), postgresTimeout)
		defer cancel()
		err := makeTemplate(ctx, server, name)
		ready = err == nil
		return name, err
	}
}()

func templateName(migrations string) string {
	sum := sha256.Sum256([]byte(migrations))
	return "anchor_template_" + hex.EncodeToString(sum[:8])
}

const (
	lockTemplate   = `select pg_advisory_lock(hashtext($1))`
	unlockTemplate = `select pg_advisory_unlock(hashtext($1))`
	selectTemplate = `select exists (select from pg_database where datname = $1 and datistemplate)`
)

// makeTemplate makes the template unless it is there. Other processes may do the same. It counts as a template only
// once it is migrated.
func makeTemplate(ctx context.Context, server, name string) (err error) {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, lockTemplate, name); err != nil {
		return err
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), unlockTemplate, name) }()
	var exists bool
	if err := conn.QueryRow(ctx, selectTemplate, name).Scan(&exists); err != nil || exists {
		return err
	}
	if err := testdb.Drop(ctx, server, name); err != nil {
		return err
	}
	database, err := testdb.Create(ctx, server, name)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	err = anchor.NewPGStore(pool).Migrate(ctx)
	pool.Close()
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "alter database "+pgx.Identifier{name}.Sanitize()+" is_template true")
	return err
}

const (
	// Both read slot 0, where all that is pending is.
	selectNextDue = `select next_run from public.anchor_tasks where slot = 0 and status = 'pending' and next_run > now() order by next_run limit 1`
	shiftPending  = `update public.anchor_tasks set next_run = next_run - $1 * interval '1 microsecond' where slot = 0 and status = 'pending'`
)

// nextInDatabase is when the next task falls due, in the time of the tasks.
func (h *Harness) nextInDatabase() (time.Time, bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, postgresTimeout)
	defer cancel()
	var next time.Time
	err := h.pool.QueryRow(ctx, selectNextDue).Scan(&next)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, false
	}
	if err != nil {
		h.t.Fatalf("anchortest: read when the next task is due: %v", err)
	}
	return next.Add(h.watch.shift()), true
}

// shiftDatabase moves the pending tasks towards now.
func (h *Harness) shiftDatabase(d time.Duration) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, postgresTimeout)
	defer cancel()
	if _, err := h.pool.Exec(ctx, shiftPending, d.Microseconds()+1); err != nil {
		h.t.Fatalf("anchortest: move the pending tasks: %v", err)
	}
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	h.watch.moved += d
}
