package load

import (
	"context"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/server"
)

// Idle is the name of the load of a worker with nothing to do.
const Idle = "idle"

const (
	idleSettle  = 5 * time.Second
	idleMeasure = 15 * time.Second
)

func idle() *Load {
	l := &Load{Name: Idle, Title: "A worker with nothing to do"}
	for _, p := range peer.All {
		if p.Name == peer.Bare.Name {
			continue
		}
		l.variants = append(l.variants, variant{name: p.Name, peer: p, run: rest})
	}
	return l
}

// rest measures what a worker costs that has nothing to do.
func rest(ctx context.Context, b *Bench, v variant) (result.Run, error) {
	site, closeSite, err := b.site(ctx, v)
	if err != nil {
		return result.Run{}, err
	}
	defer closeSite()
	p, err := site.Start(ctx, protocol.Spec{Role: protocol.Work, Handler: protocol.Noop, Count: 1 << 40, Quiet: true})
	if err != nil {
		return result.Run{}, err
	}
	defer p.Kill()
	if err := p.Go(); err != nil {
		return result.Run{}, err
	}
	if err := p.For(ctx, idleSettle); err != nil {
		return result.Run{}, err
	}
	var before server.Usage
	if site.Database != nil {
		if before, err = site.Database.Usage(ctx); err != nil {
			return result.Run{}, err
		}
	}
	from, err := p.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	if err := p.For(ctx, max(time.Duration(float64(idleMeasure)*b.Scale), 10*time.Second)); err != nil {
		return result.Run{}, err
	}
	to, err := p.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	elapsed := float64(to.At-from.At) / 1e9
	m := map[string]float64{
		result.Core:     float64(to.CPU-from.CPU) / 1e9 / elapsed * 100,
		result.Resident: p.Resident() / 1e6,
	}
	if site.Database == nil {
		return result.Run{Metrics: m}, nil
	}
	spent, err := site.Database.Since(ctx, before, false)
	m[result.PerSecond] = spent.Statements / elapsed
	return result.Run{Metrics: m}, err
}
