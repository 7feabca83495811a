//go:build unix

package chaos

import (
	"context"
	"time"
)

// Fault is a row of the matrix.
type Fault struct {
	Name     string
	Unit     string // what is counted
	Recovery string // what the slowest recovery is measured to, "" for none
	Full     int    // how often, by make chaos
	Tier     int    // how often, by the tests
	harm     func(ctx context.Context, s *Suite, n int, t *tally) error
	// Alone is for what has a deadline that a machine full of other faults would miss.
	Alone bool
}

// Matrix is every fault.
var Matrix = []Fault{
	{"kill -9 of workers at random", "kills", "until taken back", 300, 10, killAtRandom, false},
	{"kill, error, stop or delay at each pause point, in a first and a second attempt", "points", "until taken back", 240, 20, strikeAtPoints, false},
	{"poison task: os.Exit, kill itself, out of memory", "tasks", "", 60, 3, poison, false},
	{"zombie: stopped for three leases, then woken", "zombies", "until its handler was told", 200, 4, zombies, false},
	{"PostgreSQL crash, or kill -9 of a backend", "crashes", "until a new task was done", 60, 4, crashServer, false},
	{"pg_terminate_backend of any connection", "backends", "", 500, 25, endBackends, false},
	{"cut between COMMIT and its answer: enqueue", "cuts", "", 300, 20, cutAt("enqueue"), false},
	{"cut between COMMIT and its answer: claim", "cuts", "", 300, 8, cutAt("claim"), false},
	{"cut between COMMIT and its answer: finish of a batch", "cuts", "", 300, 12, cutAt("finish"), false},
	{"cut between COMMIT and its answer: retry of a batch", "cuts", "", 300, 12, cutAt("settle"), false},
	{"cut between COMMIT and its answer: a handler's transaction", "cuts", "", 300, 12, cutAt("commit"), false},
	{"cut between COMMIT and its answer: final failure", "cuts", "", 300, 12, cutAt("fail"), false},
	{"cut between COMMIT and its answer: tick", "cuts", "", 300, 4, cutAt("tick"), false},
	{"half-open connections", "stalls", "until tasks ran and it listened again", 20, 1, halfOpen, false},
	{"panic, nil map, Goexit, a hook that fails or panics", "tasks", "", 500, 50, misbehaviour(Panic, NilMap, Goexit, HookFail, HookPanic), false},
	{"handler that ignores its context", "tasks", "", 40, 4, deaf, false},
	{"SQL trouble in the handler, at each isolation level", "tasks", "", 1260, 210, misbehaviour(Swallow, RawCommit, RawRollback, Deferred, Timeout, Deadlock, ReadOnly), false},
	{"own deadlocks: finish, heartbeat, taking back, cancel on the same tasks", "seconds", "", 600, 6, ownDeadlocks, false},
	{"unique tags: 64 enqueuers, 200 tags, 30 % rolled back", "enqueues", "", 20_000, 1000, uniqueTags, false},
	{"kill -9 within a tick, four workers that tick", "kills", "", 100, 3, killTicking, false},
	{"bad data", "times", "", 10, 1, badData, false},
	{"disk full", "times", "until a new task was done", 10, 1, fullDisk, false},
	{"connections exhausted, pool of 2", "times", "until a new task was done", 20, 1, starve, false},
	{"shutdown: SIGTERM under load, twice, past the deadline", "stops", "from SIGTERM to the return of Work, with a deadline of 0.5 s", 300, 10, shutdowns, true},
	{"retry storm", "tasks", "", 5000, 1000, retryStorm, false},
}

// Result is what came of one fault.
type Result struct {
	Fault      Fault
	Wanted     int // how often it was to be done
	Runs       int
	Tasks      int
	Violations []string
	Slowest    time.Duration // the slowest recovery; 0: none was measured
	Took       time.Duration
	Err        error // of the suite itself: the fault could not be made
}

// Failed tells whether a promise was broken, or the fault was not made often enough.
func (r Result) Failed() bool { return len(r.Violations) > 0 || r.Err != nil || r.Runs < r.Wanted }

// Run does one fault n times.
func (s *Suite) Run(ctx context.Context, f Fault, n int) Result {
	began := time.Now()
	var t tally
	err := f.harm(ctx, s, n, &t)
	r := Result{Fault: f, Wanted: n, Runs: t.runs, Tasks: t.tasks, Slowest: t.slowest, Took: time.Since(began), Err: err}
	for _, v := range t.violations {
		r.Violations = append(r.Violations, v.String())
	}
	return r
}
