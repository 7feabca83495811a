package main_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
	"github.com/anchor-go/anchor/internal/testprogram"
)

func TestMain(m *testing.M) { os.Exit(testprogram.Main(m, "anchor")) }

// rig is a database, migrated or not, and the program run on it in a zone that is not UTC.
type rig struct {
	t    *testing.T
	url  string
	pool *pgxpool.Pool
}

func newEmptyRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, url: testdb.New(t)}
	var err error
	if r.pool, err = pgxpool.New(context.Background(), r.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.pool.Close)
	return r
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := newEmptyRig(t)
	if err := anchor.NewPGStore(r.pool).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) exec(sql string) {
	r.t.Helper()
	if _, err := r.pool.Exec(r.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func environment(url string) []string {
	env := append(os.Environ(), "TZ=Europe/Berlin", "PGPASSWORD=", "COLUMNS=")
	if url == "" {
		return append(env, "DATABASE_URL=")
	}
	return append(env, "DATABASE_URL="+url)
}

// start runs the program to its end, with pipes for its output.
func start(t *testing.T, url string, args ...string) testprogram.Outcome {
	t.Helper()
	return testprogram.Finish(t, environment(url), testprogram.Path, args...)
}

// run wants that the program succeeds, and answers its output.
func (r *rig) run(args ...string) string {
	r.t.Helper()
	o := start(r.t, r.url, args...)
	if o.Code != 0 || o.Stderr != "" {
		r.t.Fatalf("anchor %s: exit code %d, stderr %q, stdout %q", strings.Join(args, " "), o.Code, o.Stderr, o.Stdout)
	}
	return o.Stdout
}

// wantFailure wants an exit code, nothing on stdout, and one line on stderr that has each part.
func wantFailure(t *testing.T, o testprogram.Outcome, code int, parts ...string) {
	t.Helper()
	if o.Code != code {
		t.Errorf("exit code %d, want %d; stderr %q", o.Code, code, o.Stderr)
	}
	if o.Stdout != "" {
		t.Errorf("stdout %q, want nothing", o.Stdout)
	}
	if !strings.HasPrefix(o.Stderr, "anchor: ") || strings.Count(o.Stderr, "\n") != 1 || !strings.HasSuffix(o.Stderr, "\n") || strings.Contains(o.Stderr[1:], "anchor: ") {
		t.Errorf("stderr %q, want one line", o.Stderr)
	}
	for _, part := range parts {
		if !strings.Contains(o.Stderr, part) {
			t.Errorf("stderr %q does not have %q", o.Stderr, part)
		}
	}
}
