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

// Latency is the name of the load that measures how soon an idle worker starts a task.
const Latency = "latency"

// InTxSuffix marks the variant that enqueues in a transaction of the caller.
const InTxSuffix = "-tx"

// latencySamples is how many tasks each run measures.
const latencySamples = 200

func latency() *Load {
	l := &Load{Name: Latency, Title: "Pickup latency, idle"}
	for _, p := range peer.All {
		if p.Name == peer.Bare.Name {
			continue
		}
		l.variants = append(l.variants, variant{name: p.Name, peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			return pickUp(ctx, b, v, false)
		}})
		if p.Name == peer.Anchor.Name || p.Name == peer.RiverTuned.Name {
			l.variants = append(l.variants, variant{name: p.Name + InTxSuffix, peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
				return pickUp(ctx, b, v, true)
			}})
		}
	}
	return l
}

// settleTime is how long a worker may take to come to rest after its start.
const settleTime = 2 * time.Second

// pickUp has one process that works and another that enqueues.
func pickUp(ctx context.Context, b *Bench, v variant, inTx bool) (result.Run, error) {
	site, closeSite, err := b.site(ctx, v)
	if err != nil {
		return result.Run{}, err
	}
	defer closeSite()
	count := max(int64(latencySamples*b.Scale), 30)
	worker, err := site.Start(ctx, protocol.Spec{Role: protocol.Work, Handler: protocol.Latency, First: 1000, Count: 1 << 40, Profile: b.profile(v, "work")})
	if err != nil {
		return result.Run{}, err
	}
	defer worker.Kill()
	if err := worker.Go(); err != nil {
		return result.Run{}, err
	}
	if err := worker.For(ctx, settleTime); err != nil {
		return result.Run{}, err
	}
	sent, err := site.Do(ctx, protocol.Spec{Role: protocol.Pickup, First: 1000, Count: count, InTx: inTx}, nil)
	if err != nil {
		return result.Run{}, err
	}
	if err := worker.For(ctx, settleTime); err != nil { // the last ones may be late
		return result.Run{}, err
	}
	stopped, err := worker.Stop(ctx)
	if err != nil {
		return result.Run{}, err
	}
	if int64(len(stopped.Samples)) < count {
		return result.Run{}, errors.New("some tasks were not picked up in time")
	}
	samples := stopped.Samples
	slices.Sort(samples)
	slices.Sort(sent.Samples)
	return result.Run{Samples: samples, Metrics: map[string]float64{
		result.P50: result.Percentile(samples, 50), result.P90: result.Percentile(samples, 90), result.P99: result.Percentile(samples, 99),
		result.Call: result.Percentile(sent.Samples, 50),
	}}, nil
}
