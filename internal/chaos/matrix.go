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
}

// Result is what came of one fault.
type Result struct {
	Fault      Fault
	Runs       int
	Tasks      int
	Violations []string
	Slowest    time.Duration // the slowest recovery; 0: none was measured
	Note       string
	Took       time.Duration
}

// Run does one fault n times. The error is one of the suite itself.
func (s *Suite) Run(ctx context.Context, f Fault, n int) (Result, error) {
	began := time.Now()
	var t tally
	err := f.harm(ctx, s, n, &t)
	r := Result{Fault: f, Runs: t.runs, Tasks: t.tasks, Slowest: t.slowest, Note: t.note, Took: time.Since(began)}
	for _, v := range t.violations {
		r.Violations = append(r.Violations, v.String())
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", f.Name, err)
	}
	return r, nil
}
