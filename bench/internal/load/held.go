package load

import (
	"context"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Held is the name of the load that works off a million tasks beside a transaction held open.
const Held = "held"

// The variants of a peer.
const (
	FreeSuffix = "-free"
	HeldSuffix = "-held"
)

// heldLimit bounds the runs of those who become slow.
const heldLimit = time.Minute

func held() *Load {
	l := &Load{Name: Held, Title: "A million tasks under a REPEATABLE READ transaction held open"}
	for _, p := range []peer.Peer{peer.Anchor, peer.RiverTuned, peer.GraphileTuned} {
		for _, suffix := range []string{FreeSuffix, HeldSuffix} {
			l.variants = append(l.variants, variant{name: p.Name + suffix, peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
				return burnDown(ctx, b, v, 1_000_000, burn{handler: protocol.Noop, held: suffix == HeldSuffix, limit: heldLimit})
			}})
		}
	}
	return l
}
