package load

import (
	"context"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Bulk is the name of the load of one caller that enqueues in batches.
const Bulk = "bulk"

func bulk() *Load {
	l := &Load{Name: Bulk, Title: "Enqueue in batches of 5,000"}
	for _, p := range []peer.Peer{peer.Anchor, peer.River, peer.Graphile} {
		l.variants = append(l.variants, variant{name: p.Name, peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			return produce(ctx, b, v, protocol.Spec{Role: protocol.Bulk, Count: b.n(500_000), Batch: 5000})
		}})
	}
	return l
}
