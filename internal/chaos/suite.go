//go:build unix

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/testdb"
)

// The clocks of every worker of the suite, and what the promises make of them.
const (
	lease        = time.Second
	pollInterval = 200 * time.Millisecond
	// takeBackEvery is how often a worker of such a lease looks for dead ones, jitter included.
	takeBackEvery = lease/5 + lease/50
	// stillness is how long nothing may change while there is something to do (I8): lease, taking back, the longest
	// backoff, and 5 s.
	stillness = lease + takeBackEvery + 2*time.Second + 5*time.Second
)

// Suite is a cluster and the worker program. It is safe for concurrent use.
type Suite struct {
	*ground
	program string
	source  string        // the folder of the module
	scenes  chan struct{} // bounds how many scenes run at a time
	report  func(format string, args ...any)
	busy    time.Duration // allowed for where much else runs at a time
}

// ground is a cluster with a template for the databases of scenes.
type ground struct {
	cluster  *testdb.Cluster
	template string
	log      *serverLog
}

// Start starts a suite for at most so many scenes at a time. report is told of the progress. The caller ends it with
// Close; without, everything ends with the process.
func Start(ctx context.Context, scenes int, report func(format string, args ...any)) (*Suite, error) {
	source, err := moduleFolder(ctx)
	if err != nil {
		return nil, err
	}
	s := &Suite{source: source, scenes: make(chan struct{}, scenes), report: report}
	cluster, err := testdb.Start(ctx, testdb.WithSettings("max_connections=600"))
	if err != nil {
		return nil, err
	}
	folder := filepath.Dir(cluster.LogFile()) // goes with the cluster, whatever happens to this process
	if s.program, err = s.build(ctx, folder, "worker", ""); err == nil {
		s.ground, err = newGround(ctx, cluster, s.program)
	}
	if err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return s, nil
}

// Close ends the cluster.
func (s *Suite) Close() error { return s.cluster.Stop() }

// otherGround is a cluster of its own, for faults of a whole cluster.
func (s *Suite) otherGround(ctx context.Context, settings ...string) (*ground, error) {
	cluster, err := testdb.Start(ctx, testdb.WithSettings(settings...))
	if err != nil {
		return nil, err
	}
	g, err := newGround(ctx, cluster, s.program)
	if err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return g, nil
}

// newGround prepares the template: migrated by the worker program, as a mutant may have another schema, and audited.
func newGround(ctx context.Context, cluster *testdb.Cluster, program string) (*ground, error) {
	g := &ground{cluster: cluster, template: testdb.Name("chaos_template"), log: &serverLog{path: cluster.LogFile()}}
	url, err := testdb.Create(ctx, cluster.URL(), g.template)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(setting{URL: url, Migrate: true})
	if err != nil {
		return nil, err
	}
	migrate := exec.CommandContext(ctx, program)
	migrate.Env = append(os.Environ(), workerVariable+"="+string(text))
	stdin, err := migrate.StdinPipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	if out, err := migrate.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("migrate: %w: %s", err, out)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, auditSQL)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, fmt.Errorf("install the audit: %w", err)
	}
	return g, nil
}

// build makes the worker program. overlay is the path of a file for go build's flag of that name, "" for none.
func (s *Suite) build(ctx context.Context, folder, name, overlay string) (string, error) {
	program := filepath.Join(folder, name)
	args := []string{"build", "-buildvcs=false", "-tags", "chaos", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	build := exec.CommandContext(ctx, "go", append(args, "./internal/chaos/worker")...)
	build.Dir = s.source
	build.Env = append(os.Environ(), "GOTMPDIR="+folder)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the worker program: %w\n%s", err, out)
	}
	return program, nil
}

func moduleFolder(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// tally is what the scenes of one fault add up to. It is safe for concurrent use.
type tally struct {
	mu         sync.Mutex
	runs       int
	tasks      int
	violations []violation
	slowest    time.Duration
}

func (t *tally) ran(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs += n
}

// recovered notes how long something took that the fault had interrupted.
func (t *tally) recovered(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slowest = max(t.slowest, d)
}

// split runs f for parts of n, as many at a time as the suite allows, and joins their errors.
func (s *Suite) split(ctx context.Context, n, part int, f func(ctx context.Context, n int) error) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for start := 0; start < n; start += part {
		select {
		case s.scenes <- struct{}{}:
		case <-ctx.Done():
			group.Wait()
			return errors.Join(append(errs, ctx.Err())...)
		}
		group.Go(func() {
			defer func() { <-s.scenes }()
			if err := f(ctx, min(part, n-start)); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// until waits for a condition. The error tells what did not come true in time.
func until(ctx context.Context, patience time.Duration, what string, condition func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := condition()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", patience, what)
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
