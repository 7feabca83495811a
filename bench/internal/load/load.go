// Package load has the loads of the benchmark, one a file.
package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/server"
)

// Bench is what the loads run on.
type Bench struct {
	Postgres *server.Postgres
	// Scale multiplies the number of tasks; 1 is what docs/performance.md shows.
	Scale float64
	Runs  int
	// Peers are the names of those to measure.
	Peers []string
	// Profiles is a folder for CPU profiles of workers and callers; "" takes none.
	Profiles string
	// Statements prints the costliest statements after each run.
	Statements bool
	Progress   *Progress
	// Folder is for files that are needed for a moment.
	Folder string
}

// Load is one load. Its variants take turns, as often as there are runs.
type Load struct {
	Name  string
	Title string
	// variants of those peers that are measured.
	variants []variant
}

// variant is a load on one peer with one setting.
type variant struct {
	name string
	peer peer.Peer
	run  func(ctx context.Context, b *Bench, v variant) (result.Run, error)
	// end releases what the runs of the variant share.
	end func(ctx context.Context) error
}

// All makes the loads, in the order in which they are run.
func All() []*Load {
	return []*Load{
		burndown(), enqueue(), bulk(), latency(), transactional(), processes(), fairness(), idle(), paced(), backlog(), held(), history(),
	}
}

// Run measures the load and hands each result to keep. A variant that fails is reported and left out; the error
// joins all of them.
func (l *Load) Run(ctx context.Context, b *Bench, keep func(result.Run)) error {
	var errs []error
	var measured []variant
	for _, v := range l.variants {
		if !slices.Contains(b.Peers, v.peer.Name) {
			continue
		}
		if err := v.peer.Available(ctx); err != nil {
			b.Progress.Line("%s: %s is left out: %v", l.Name, v.name, err)
			continue
		}
		measured = append(measured, v)
	}
	for number := 1; number <= b.Runs; number++ {
		for i := range measured {
			v := measured[(number-1+i)%len(measured)] // none is always the first: what comes before it may slow it down
			if ctx.Err() != nil {
				break
			}
			b.Progress.Begin("%s, run %d of %d: %s", l.Name, number, b.Runs, v.name)
			run, err := v.run(ctx, b, v)
			if err != nil {
				err = fmt.Errorf("%s, run %d: %s: %w", l.Name, number, v.name, err)
				b.Progress.End("failed: %v", err)
				errs = append(errs, err)
				continue
			}
			run.Load, run.Variant, run.Number = l.Name, v.name, number
			b.Progress.End("%s", describe(run.Metrics))
			keep(run)
		}
	}
	for _, v := range measured {
		if v.end != nil {
			errs = append(errs, v.end(context.WithoutCancel(ctx)))
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// n is a number of tasks at the scale asked for, in full batches.
func (b *Bench) n(full int64) int64 {
	return max(int64(float64(full)*b.Scale)/1000, 1) * 1000
}

// profile is where a process puts its profile.
func (b *Bench) profile(v variant, role string) string {
	if b.Profiles == "" {
		return ""
	}
	return filepath.Join(b.Profiles, v.name+"-"+role+".pprof")
}

// site opens an empty queue; close prints the costliest statements if that was asked for.
func (b *Bench) site(ctx context.Context, v variant) (s *peer.Site, closeSite func(), err error) {
	s, err = peer.Open(ctx, b.Postgres, v.peer)
	if err != nil {
		return nil, nil, err
	}
	return s, func() {
		ctx := context.WithoutCancel(ctx)
		if b.Statements && s.Database != nil {
			b.Progress.Line("%s", s.Database.TopStatements(ctx, 12))
		}
		if err := s.Close(ctx); err != nil {
			b.Progress.Line("closing %s: %v", v.name, err)
		}
	}, nil
}

// seedBatch is how many tasks go in one bulk call everywhere.
const seedBatch = 5000

// seed enqueues tasks before a measurement.
func (b *Bench) seed(ctx context.Context, s *peer.Site, first, count, naps int64) error {
	if s.Database != nil {
		if err := b.Postgres.Checkpoint(ctx); err != nil {
			return err
		}
	}
	_, err := s.Do(ctx, protocol.Spec{Role: protocol.Bulk, First: first, Count: count, Batch: seedBatch, Naps: naps}, func(e protocol.Event) {
		b.Progress.Update("enqueued %d of %d", e.Done, count)
	})
	if err == nil && s.Database != nil {
		// A table that was never analysed gives some peers a plan that is ten times as slow, until autovacuum comes
		// along. Nobody is to suffer from that.
		err = s.Database.Exec(ctx, "analyze")
	}
	if err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	return nil
}
