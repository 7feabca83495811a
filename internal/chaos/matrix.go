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
}

// Matrix is every fault.
var Matrix = []Fault{
	{"kill -9 of workers at random", "kills", "until taken back", 300, 10, killAtRandom},
	{"kill, error, stop or delay at each pause point, in a first and a second attempt", "points", "until taken back", 240, 20, strikeAtPoints},
	{"poison task: os.Exit, kill itself, out of memory", "tasks", "", 60, 3, poison},
	{"zombie: stopped for three leases, then woken", "zombies", "until its handler was told", 200, 4, zombies},
	{"PostgreSQL crash, or kill -9 of a backend", "crashes", "until a new task was done", 60, 4, crashServer},
	{"pg_terminate_backend of any connection", "backends", "", 500, 25, endBackends},
	{"cut between COMMIT and its answer: enqueue", "cuts", "", 300, 20, cutAt("enqueue")},
	{"cut between COMMIT and its answer: claim", "cuts", "", 300, 8, cutAt("claim")},
	{"cut between COMMIT and its answer: finish of a batch", "cuts", "", 300, 12, cutAt("finish")},
	{"cut between COMMIT and its answer: retry of a batch", "cuts", "", 300, 12, cutAt("settle")},
	{"cut between COMMIT and its answer: a handler's transaction", "cuts", "", 300, 12, cutAt("commit")},
	{"cut between COMMIT and its answer: final failure", "cuts", "", 300, 12, cutAt("fail")},
	{"cut between COMMIT and its answer: tick", "cuts", "", 300, 4, cutAt("tick")},
	{"half-open connections", "stalls", "until tasks ran and it listened again", 20, 1, halfOpen},
	{"panic, nil map, Goexit, a hook that fails or panics", "tasks", "", 500, 50, misbehaviour(Panic, NilMap, Goexit, HookFail, HookPanic)},
	{"handler that ignores its context", "tasks", "", 40, 4, deaf},
	{"SQL trouble in the handler, at each isolation level", "tasks", "", 1260, 210, misbehaviour(Swallow, RawCommit, RawRollback, Deferred, Timeout, Deadlock, ReadOnly)},
	{"own deadlocks: finish, heartbeat, taking back, cancel on the same tasks", "seconds", "", 600, 6, ownDeadlocks},
	{"unique tags: 64 enqueuers, 200 tags, 30 % rolled back", "enqueues", "", 20_000, 1000, uniqueTags},
	{"kill -9 within a tick, four workers that tick", "kills", "", 100, 3, killTicking},
	{"bad data", "times", "", 10, 1, badData},
	{"disk full", "times", "until a new task was done", 10, 1, fullDisk},
	{"connections exhausted, pool of 2", "times", "until a new task was done", 20, 1, starve},
	{"shutdown: SIGTERM under load, twice, past the deadline", "stops", "from SIGTERM to the end, with a deadline of 0.5 s", 300, 10, shutdowns},
	{"retry storm", "tasks", "", 5000, 1000, retryStorm},
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
