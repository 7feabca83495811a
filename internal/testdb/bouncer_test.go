//go:build unix

package testdb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	url, err := cluster.Bouncer(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	backends := map[string]bool{}
	for range 5 {
		conn := connect(t, url)
		var pid string
		// Without a transaction of its own each goes to whichever backend is free.
		if err := conn.QueryRow(t.Context(), "select pg_backend_pid()::text", pgx.QueryExecModeExec).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		backends[pid] = true
	}
	if len(backends) > 2 {
		t.Errorf("5 clients had %d backends, want 2 at most", len(backends))
	}
	if _, err := cluster.Bouncer(t.Context(), 2); err == nil {
		t.Error("a second one was started")
	}
	bouncer := cluster.bouncer.Process.Pid
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(bouncer, 0); err != syscall.ESRCH {
		t.Errorf("PgBouncer is alive after Stop: %v", err)
	}
}

func TestWithoutPgBouncer(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	_, err := findBouncer(t.Context(), filepath.Join(folder, "pgbouncer"))
	if err == nil || !strings.Contains(err.Error(), "apt-get install pgbouncer") {
		t.Errorf("error is %v, want one that tells what to install", err)
	}
}

func TestRootInstallsPgBouncer(t *testing.T) {
	folder := t.TempDir()
	debian := filepath.Join(folder, "debian", "pgbouncer")
	t.Setenv("PATH", folder)
	program(t, filepath.Join(folder, "sh"), `exec /bin/sh "$@"`)
	program(t, filepath.Join(folder, "flock"), `shift; exec "$@"`)
	program(t, filepath.Join(folder, "apt-get"), fmt.Sprintf(`
[ "$1" = update ] || [ "$*" = "install -y pgbouncer" ] || exit 1
PATH=/bin:/usr/bin
mkdir -p %s && touch %s
`, filepath.Dir(debian), debian))
	got, err := findBouncer(context.Background(), debian)
	if os.Geteuid() != 0 {
		if err == nil || exists(debian) {
			t.Errorf("PgBouncer is at %q, want an error and no attempt to install", got)
		}
		return
	}
	if err != nil || got != debian {
		t.Errorf("PgBouncer is at %q (%v), want %s", got, err, debian)
	}
}
