package main_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

// runLimit is for a machine that does much else.
const runLimit = 2 * time.Minute

var (
	program      string
	updateGolden = flag.Bool("update", false, "write the golden files instead of comparing them")
)

func TestMain(m *testing.M) {
	flag.Parse()
	folder, err := os.MkdirTemp("", "anchor")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(folder, "anchor")
	code := 1
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

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

// outcome is what a process did.
type outcome struct {
	stdout, stderr string
	code           int
}

func environment(url string) []string {
	env := append(os.Environ(), "TZ=Europe/Berlin", "PGPASSWORD=", "COLUMNS=")
	if url == "" {
		return append(env, "DATABASE_URL=")
	}
	return append(env, "DATABASE_URL="+url)
}

// start runs the program to its end, with pipes for its output.
func start(t *testing.T, url string, args ...string) outcome {
	t.Helper()
	return finish(t, url, program, args...)
}

func finish(t *testing.T, url, name string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment(url)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// run wants that the program succeeds, and answers its output.
func (r *rig) run(args ...string) string {
	r.t.Helper()
	o := start(r.t, r.url, args...)
	if o.code != 0 || o.stderr != "" {
		r.t.Fatalf("anchor %s: exit code %d, stderr %q, stdout %q", strings.Join(args, " "), o.code, o.stderr, o.stdout)
	}
	return o.stdout
}

// wantFailure wants an exit code, nothing on stdout, and one line on stderr that has each part.
func wantFailure(t *testing.T, o outcome, code int, parts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d; stderr %q", o.code, code, o.stderr)
	}
	if o.stdout != "" {
		t.Errorf("stdout %q, want nothing", o.stdout)
	}
	if !strings.HasPrefix(o.stderr, "anchor: ") || strings.Count(o.stderr, "\n") != 1 || !strings.HasSuffix(o.stderr, "\n") || strings.Contains(o.stderr[1:], "anchor: ") {
		t.Errorf("stderr %q, want one line", o.stderr)
	}
	for _, part := range parts {
		if !strings.Contains(o.stderr, part) {
			t.Errorf("stderr %q does not have %q", o.stderr, part)
		}
	}
}

// golden compares text with the file of that name in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
