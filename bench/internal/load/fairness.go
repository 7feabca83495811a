package load

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Fairness is the name of the load of long tasks behind a rush of short ones, on two workers that have a free slot
// for each of the long ones.
const Fairness = "fairness"

const (
	fairShort = 100_000
	fairNap   = 10 * time.Second
)

func fairness() *Load {
	return &Load{Name: Fairness, Title: "Long tasks behind short ones, two workers", variants: []variant{
		{name: peer.Anchor.Name, peer: peer.Anchor, run: fairRun(100, 150)},
		{name: peer.GraphileTuned.Name, peer: peer.GraphileTuned, run: fairRun(24, 36)},
	}}
}

// fairRun puts so many long tasks behind a rush of short ones, which makes workers claim far ahead. The wait is
// from the first long task's start to the last one's: there are slots for all.
func fairRun(slots int, long int64) func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
	return func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
		site, closeSite, err := b.site(ctx, v)
		if err != nil {
			return result.Run{}, err
		}
		defer closeSite()
		short := b.n(fairShort)
		if err := b.seed(ctx, site, 0, short, 0); err != nil {
			return result.Run{}, err
		}
		if err := b.seed(ctx, site, short, long, fairNap.Milliseconds()); err != nil {
			return result.Run{}, err
		}
		var workers [2]*peer.Process
		for i := range workers {
			p, err := site.Start(ctx, protocol.Spec{Role: protocol.Work, Handler: protocol.Sleep, Count: 1 << 40, Slots: slots})
			if err != nil {
				return result.Run{}, err
			}
			defer p.Kill()
			workers[i] = p
		}
		for _, p := range workers {
			if err := p.Go(); err != nil {
				return result.Run{}, err
			}
		}
		if err := untilDone(ctx, workers[:], short+long); err != nil {
			return result.Run{}, err
		}
		var starts []float64
		for _, p := range workers {
			stopped, err := p.Stop(ctx)
			if err != nil {
				return result.Run{}, err
			}
			starts = append(starts, stopped.Samples...)
		}
		if int64(len(starts)) != long {
			return result.Run{}, errors.New("not every long task ran once")
		}
		slices.Sort(starts)
		return result.Run{Metrics: map[string]float64{
			result.Wait: (starts[len(starts)-1] - starts[0]) / 1e3, result.Tasks: float64(short + long),
		}}, nil
	}
}

// untilDone waits until the workers together have started so many tasks.
func untilDone(ctx context.Context, workers []*peer.Process, count int64) error {
	for {
		var sum int64
		for _, p := range workers {
			usage, err := p.Usage(ctx)
			if err != nil {
				return err
			}
			sum += usage.Done
		}
		if sum >= count {
			return nil
		}
		if err := workers[0].For(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
