package load

import (
	"context"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Burndown is the name of the load that works off tasks whose handler does nothing.
const Burndown = "burndown"

func burndown() *Load {
	l := &Load{Name: Burndown, Title: "Burn-down of no-op tasks"}
	for _, p := range peer.All {
		l.variants = append(l.variants, variant{name: p.Name, peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			return burnDown(ctx, b, v, burndownCount(v.peer), burn{handler: protocol.Noop, limit: burndownLimit})
		}})
	}
	return l
}

// burndownLimit bounds a run that does not come to its end.
const burndownLimit = 2 * time.Minute

// burndownCount is less for those that would take minutes.
func burndownCount(p peer.Peer) int64 {
	switch p.Name {
	case peer.River.Name:
		return 10_000
	case peer.Graphile.Name, peer.Asynq.Name:
		return 50_000
	}
	return 200_000
}

// burnDown fills a new queue and works it off.
func burnDown(ctx context.Context, b *Bench, v variant, count int64, r burn) (result.Run, error) {
	site, closeSite, err := b.site(ctx, v)
	if err != nil {
		return result.Run{}, err
	}
	defer closeSite()
	r.b, r.v, r.site, r.count = b, v, site, b.n(count)
	if err := b.seed(ctx, site, 0, r.count, 0); err != nil {
		return result.Run{}, err
	}
	run, err := r.run(ctx)
	if err != nil || v.peer.Name != peer.Anchor.Name {
		return run, err
	}
	kept, err := site.Database.Int(ctx, keptBytes)
	run.Metrics[result.Kept] = float64(kept) / run.Metrics[result.Tasks]
	return run, err
}

// keptBytes is what the finished tasks take on disk, their index included.
const keptBytes = `select sum(pg_total_relation_size(c.oid))::bigint from pg_class c
where c.relkind = 'r' and c.relname like 'anchor\_tasks\_done\_%' and pg_relation_size(c.oid) > 0`
