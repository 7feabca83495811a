//go:build unix

package chaos

import (
	"context"
	"fmt"
	"time"
)

// Fault is a row of the matrix.
type Fault struct {
	Name string
	Unit string // what is counted
	Full int    // how often, by make chaos
	Tier int    // how often, by the tests
	harm func(ctx context.Context, s *Suite, n int, t *tally) error
}

// Matrix is every fault.
var Matrix = []Fault{
	{"kill -9 of workers at random", "kills", 300, 10, killAtRandom},
	{"kill, error, stop or delay at a pause point", "points", 240, 20, strikeAtPoints},
	{"poison task: os.Exit, kill itself, out of memory", "tasks", 60, 3, poison},
	{"zombie: stopped for three leases, then woken", "zombies", 200, 4, zombies},
	{"PostgreSQL crash, or kill -9 of a backend", "crashes", 60, 4, crashServer},
	{"pg_terminate_backend of any connection", "backends", 500, 25, endBackends},
	{"cut between COMMIT and its answer: enqueue", "cuts", 300, 20, cutAt("enqueue")},
	{"cut between COMMIT and its answer: claim", "cuts", 300, 12, cutAt("claim")},
	{"cut between COMMIT and its answer: finish of a batch", "cuts", 300, 12, cutAt("finish")},
	{"cut between COMMIT and its answer: retry of a batch", "cuts", 300, 12, cutAt("settle")},
	{"cut between COMMIT and its answer: a handler's transaction", "cuts", 300, 12, cutAt("commit")},
	{"cut between COMMIT and its answer: final failure", "cuts", 300, 12, cutAt("fail")},
	{"cut between COMMIT and its answer: tick", "cuts", 300, 8, cutAt("tick")},
	{"half-open connections", "stalls", 20, 1, halfOpen},
	{"panic, nil map, Goexit, a hook that fails or panics", "tasks", 500, 50, misbehaviour(Panic, NilMap, Goexit, HookFail, HookPanic)},
	{"handler that ignores its context", "tasks", 40, 4, deaf},
	{"SQL trouble in the handler, at each isolation level", "tasks", 1260, 210, misbehaviour(Swallow, RawCommit, RawRollback, Deferred, Timeout, Deadlock, ReadOnly)},
	{"connections exhausted, pool of 2", "times", 20, 2, starve},
}

// Result is what came of one fault.
type Result struct {
	Fault      Fault
	Runs       int
	Tasks      int
	Violations []string
	Slowest    time.Duration // the slowest recovery; 0: none was measured
	Took       time.Duration
}

// Run does one fault n times. The error is one of the suite itself.
func (s *Suite) Run(ctx context.Context, f Fault, n int) (Result, error) {
	began := time.Now()
	var t tally
	err := f.harm(ctx, s, n, &t)
	r := Result{Fault: f, Runs: t.runs, Tasks: t.tasks, Slowest: t.slowest, Took: time.Since(began)}
	for _, v := range t.violations {
		r.Violations = append(r.Violations, v.String())
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", f.Name, err)
	}
	return r, nil
}
