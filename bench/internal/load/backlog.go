package load

import (
	"context"
	"fmt"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Backlog is the name of the load that works while the number of waiting tasks stays the same.
const Backlog = "backlog"

// BacklogSizes are the numbers; each is a variant.
var BacklogSizes = []int64{10_000, 100_000, 1_000_000}

// BacklogVariant is the name of one of them.
func BacklogVariant(p string, size int64) string { return fmt.Sprintf("%s-%d", p, size) }

const (
	backlogWarmUp  = 2 * time.Second
	backlogMeasure = 8 * time.Second
)

func backlog() *Load {
	l := &Load{Name: Backlog, Title: "Rate while the backlog stays the same"}
	for _, p := range []peer.Peer{peer.Anchor, peer.RiverTuned} {
		for _, size := range BacklogSizes {
			l.variants = append(l.variants, variant{name: BacklogVariant(p.Name, size), peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
				return steady(ctx, b, v, size)
			}})
		}
	}
	return l
}

// steady lets one process work and feed the queue at once.
func steady(ctx context.Context, b *Bench, v variant, size int64) (result.Run, error) {
	site, closeSite, err := b.site(ctx, v)
	if err != nil {
		return result.Run{}, err
	}
	defer closeSite()
	size = b.n(size)
	if err := b.seed(ctx, site, 0, size, 0); err != nil {
		return result.Run{}, err
	}
	p, err := site.Start(ctx, protocol.Spec{Role: protocol.Steady, Count: size, Profile: b.profile(v, "steady")})
	if err != nil {
		return result.Run{}, err
	}
	defer p.Kill()
	p.OnTick = func(e protocol.Event) { b.Progress.Update("%d done", e.Done) }
	if err := p.Go(); err != nil {
		return result.Run{}, err
	}
	if err := p.For(ctx, backlogWarmUp); err != nil {
		return result.Run{}, err
	}
	before, err := site.Database.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	from, err := p.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	if err := p.For(ctx, backlogMeasure); err != nil {
		return result.Run{}, err
	}
	to, err := p.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	done := float64(to.Done - from.Done)
	spent, err := site.Database.Since(ctx, before, false)
	m := map[string]float64{
		result.Rate:      done / (float64(to.At-from.At) / 1e9),
		result.ClientCPU: float64(to.CPU-from.CPU) / 1e3 / done,
		result.Peak:      p.Peak() / 1e6,
	}
	addSpent(m, spent, done)
	return result.Run{Metrics: m}, err
}
