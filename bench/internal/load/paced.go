package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// Paced is the name of the load of tasks that come one by one at a steady rate, and are worked on as they come.
const Paced = "paced"

// PacedRates are the numbers of tasks an hour, in millions; each is a variant.
var PacedRates = []int{1, 10, 100}

// PacedVariant is the name of one of them.
func PacedVariant(p string, millions int) string { return fmt.Sprintf("%s-%dm", p, millions) }

const (
	pacedTime = 10 * time.Second
	// keptUp is how much later than the last enqueue a worker may be done that kept up.
	keptUp = time.Second
	// pacedCallers wait for their tasks at most; more would be late.
	pacedCallers = 256
)

func paced() *Load {
	l := &Load{Name: Paced, Title: "Tasks one by one at a steady rate"}
	for _, millions := range PacedRates {
		l.variants = append(l.variants, variant{name: PacedVariant(peer.Anchor.Name, millions), peer: peer.Anchor, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			return pace(ctx, b, v, float64(millions)*1e6/3600)
		}})
	}
	return l
}

// pace has one process that works and another that enqueues at the rate, whose callers each wait for their task.
func pace(ctx context.Context, b *Bench, v variant, rate float64) (result.Run, error) {
	site, closeSite, err := b.site(ctx, v)
	if err != nil {
		return result.Run{}, err
	}
	defer closeSite()
	worker, err := site.Start(ctx, protocol.Spec{Role: protocol.Work, Handler: protocol.Latency, First: 1, Count: 1 << 40, Profile: b.profile(v, "work")})
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
	if err := b.Postgres.Checkpoint(ctx); err != nil {
		return result.Run{}, err
	}
	before, err := site.Database.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	from, err := worker.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	duration := max(time.Duration(float64(pacedTime)*b.Scale), 2*time.Second)
	sent, err := site.Do(ctx, protocol.Spec{
		Role: protocol.Pace, First: 1, PerSecond: rate, Duration: duration, Callers: pacedCallers, Profile: b.profile(v, "pace"),
	}, nil)
	if err != nil {
		return result.Run{}, err
	}
	if err := untilDone(ctx, []*peer.Process{worker}, sent.Done); err != nil {
		return result.Run{}, err
	}
	to, err := worker.Usage(ctx)
	if err != nil {
		return result.Run{}, err
	}
	tasks := float64(sent.Done)
	elapsed := float64(sent.Elapsed)/1e9 + max(float64(to.At-sent.At)/1e9-keptUp.Seconds(), 0)
	m := map[string]float64{
		result.Tasks:     tasks,
		result.Rate:      tasks / elapsed,
		result.ClientCPU: float64(to.CPU-from.CPU) / 1e3 / tasks,
		result.CallerCPU: float64(sent.CPU) / 1e3 / tasks,
	}
	spent, err := site.Database.Since(ctx, before, true)
	if err != nil {
		return result.Run{}, err
	}
	addSpent(m, spent, tasks)
	stopped, err := worker.Stop(ctx)
	if err != nil {
		return result.Run{}, err
	}
	slices.Sort(stopped.Samples)
	m[result.P50], m[result.P99] = result.Percentile(stopped.Samples, 50), result.Percentile(stopped.Samples, 99)
	return result.Run{Metrics: m}, nil
}
