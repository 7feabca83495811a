package load

import (
	"context"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Transactional is the name of the load whose handlers write a row in the transaction that completes their task.
const Transactional = "transactional"

// transactionalPool is the size of everybody's connection pool.
const transactionalPool = 20

func transactional() *Load {
	l := &Load{Name: Transactional, Title: "Handlers that write a row in the transaction that completes the task"}
	for _, p := range []peer.Peer{peer.Anchor, peer.River, peer.RiverTuned} {
		l.variants = append(l.variants, variant{name: p.Name, peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			count := int64(10_000)
			if v.peer.Name == peer.Anchor.Name {
				count = 30_000
			}
			return burnDown(ctx, b, v, count, burn{handler: protocol.Insert, pool: transactionalPool, limit: burndownLimit})
		}})
	}
	return l
}
