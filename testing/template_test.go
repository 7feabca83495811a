package anchortest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

// templateVariable makes TestTemplateIsMadeOnce a process that wants the template of this name.
const templateVariable = "ANCHORTEST_TEMPLATE"

const (
	selectMigratedAt = `select max(applied_at)::text from public.anchor_migrations`
	countWaiting     = `select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = hashtext($1)::bigint & 4294967295`
)

// ServerOf is the URL of the server, for the tests outside of the package.
func ServerOf(t *testing.T) string {
	t.Helper()
	server, err := testServer()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func connectTo(t *testing.T, server, database string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(server)
	if err != nil {
		t.Fatal(err)
	}
	if database != "" {
		config.Database = database
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// WantCopies checks that databases were not migrated, but copied from the template.
func WantCopies(t *testing.T, pools ...*pgxpool.Pool) {
	t.Helper()
	server := ServerOf(t)
	shared, err := template(server)
	if err != nil {
		t.Fatal(err)
	}
	want := migratedAt(t, server, shared)
	for i, pool := range pools {
		if got := migratedAt(t, server, pool.Config().ConnConfig.Database); got != want {
			t.Errorf("database %d was migrated at %s, the template at %s", i, got, want)
		}
	}
}

// migratedAt is when a database was migrated, or what it was copied from.
func migratedAt(t *testing.T, server, database string) string {
	t.Helper()
	conn := connectTo(t, server, database)
	defer conn.Close(t.Context())
	var at string
	if err := conn.QueryRow(t.Context(), selectMigratedAt).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

func wantTemplate(t *testing.T, server, name string) {
	t.Helper()
	if err := makeTemplate(t.Context(), server, name); err != nil {
		t.Fatal(err)
	}
}

func TestTemplateIsMadeOnce(t *testing.T) {
	server := ServerOf(t)
	if name := os.Getenv(templateVariable); name != "" {
		wantTemplate(t, server, name)
		fmt.Printf("migrated at %s.\n", migratedAt(t, server, name))
		return
	}
	t.Parallel()
	migrations := anchor.NewPGStore(nil).MigrationSQL()
	name := templateName(migrations + "-- " + rand.Text())
	conn := connectTo(t, server, "")
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := conn.Exec(ctx, "alter database "+pgx.Identifier{name}.Sanitize()+" is_template false"); err != nil {
			t.Error(err)
		}
		if err := testdb.Drop(ctx, server, name); err != nil {
			t.Error(err)
		}
		conn.Close(ctx)
	})

	// Both processes want it at the same time, when it is not there.
	if _, err := conn.Exec(t.Context(), lockTemplate, name); err != nil {
		t.Fatal(err)
	}
	var children []*exec.Cmd
	outputs := make([]strings.Builder, 2)
	for i := range outputs {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTemplateIsMadeOnce$")
		child.Env = append(os.Environ(), templateVariable+"="+name, testdb.URLVariable+"="+server)
		child.Stdout, child.Stderr = &outputs[i], &outputs[i]
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, child)
	}
	deadline := time.After(postgresTimeout)
	ticker := time.NewTicker(postgresPoll)
	defer ticker.Stop()
	for waiting := 0; waiting < len(children); {
		select {
		case <-deadline:
			t.Fatalf("%d processes wait for their turn, want %d", waiting, len(children))
		case <-ticker.C:
		}
		if err := conn.QueryRow(t.Context(), countWaiting, name).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), unlockTemplate, name); err != nil {
		t.Fatal(err)
	}
	var made []string
	for i, child := range children {
		if err := child.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i+1, err, &outputs[i])
		}
		_, at, _ := strings.Cut(outputs[i].String(), "migrated at ")
		at, _, _ = strings.Cut(at, ".\n")
		made = append(made, at)
	}
	wantTemplate(t, server, name)
	for i, at := range made {
		if want := migratedAt(t, server, name); at != want {
			t.Errorf("process %d has a template migrated at %q, the next one has %q: it was migrated again", i+1, at, want)
		}
	}

	shared, err := template(server)
	if err != nil {
		t.Fatal(err)
	}
	if shared == name || migratedAt(t, server, shared) == made[0] {
		t.Errorf("other migrations have the same template %s", shared)
	}
	if again := templateName(migrations); again != shared {
		t.Errorf("the same migrations have the templates %s and %s", shared, again)
	}
}
