package load

import (
	"context"
	"fmt"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/server"
)

// Enqueue is the name of the load of callers that enqueue one task at a time.
const Enqueue = "enqueue"

// EnqueueCallers are the numbers of callers; each is a variant of every peer.
var EnqueueCallers = []int{1, 16, 64}

// EnqueueVariant is the name of one of them.
func EnqueueVariant(p string, callers int) string { return fmt.Sprintf("%s-%d", p, callers) }

// EnqueuePeers are those with something to compare: settings of workers make no difference here.
var EnqueuePeers = []peer.Peer{peer.Anchor, peer.River, peer.Graphile, peer.Asynq}

const enqueueTime = 5 * time.Second

func enqueue() *Load {
	l := &Load{Name: Enqueue, Title: "Enqueue one task at a time"}
	for _, callers := range EnqueueCallers {
		for _, p := range EnqueuePeers {
			l.variants = append(l.variants, variant{name: EnqueueVariant(p.Name, callers), peer: p, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
				d := max(time.Duration(float64(enqueueTime)*b.Scale), time.Second)
				return produce(ctx, b, v, protocol.Spec{Role: protocol.Enqueue, Callers: callers, Duration: d, Pool: callers})
			}})
		}
	}
	return l
}

// produce runs a role that enqueues, on an empty queue.
func produce(ctx context.Context, b *Bench, v variant, spec protocol.Spec) (result.Run, error) {
	site, closeSite, err := b.site(ctx, v)
	if err != nil {
		return result.Run{}, err
	}
	defer closeSite()
	var before server.Usage
	if site.Database != nil {
		if err := b.Postgres.Checkpoint(ctx); err != nil {
			return result.Run{}, err
		}
		if before, err = site.Database.Usage(ctx); err != nil {
			return result.Run{}, err
		}
	}
	spec.Profile = b.profile(v, spec.Role)
	done, err := site.Do(ctx, spec, func(e protocol.Event) { b.Progress.Update("%d done", e.Done) })
	if err != nil {
		return result.Run{}, err
	}
	tasks := float64(done.Done)
	m := map[string]float64{
		result.Rate:      tasks / (float64(done.Elapsed) / 1e9),
		result.ClientCPU: float64(done.CPU) / 1e3 / tasks,
		result.Tasks:     tasks,
	}
	if site.Database == nil {
		return result.Run{Metrics: m}, nil
	}
	spent, err := site.Database.Since(ctx, before, true)
	addSpent(m, spent, tasks)
	return result.Run{Metrics: m}, err
}
