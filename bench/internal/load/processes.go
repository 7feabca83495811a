package load

import (
	"context"
	"fmt"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Processes is the name of the load that several worker processes share.
const Processes = "processes"

// ProcessCounts are the numbers of processes; each is a variant.
var ProcessCounts = []int{1, 2, 4}

// ProcessesVariant is the name of one of them.
func ProcessesVariant(n int) string { return fmt.Sprintf("anchor-%d", n) }

// processesTasks take ten seconds: of the 400,000 of the other loads, starting four processes is a fiftieth of the time.
const processesTasks = 1_200_000

func processes() *Load {
	l := &Load{Name: Processes, Title: "Worker processes on one machine"}
	for _, n := range ProcessCounts {
		l.variants = append(l.variants, variant{name: ProcessesVariant(n), peer: peer.Anchor, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			return burnDown(ctx, b, v, processesTasks, burn{handler: protocol.Noop, workers: n, check: true})
		}})
	}
	return l
}
