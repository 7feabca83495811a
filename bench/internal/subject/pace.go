package subject

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// pace enqueues one task after the other at a steady rate, whether the ones before are durable yet or not. A task's
// time counts from when it was due, so that being late shows.
func (c *channel) pace(ctx context.Context, q queue, spec protocol.Spec) error {
	type due struct {
		n  int64
		at time.Time
	}
	total := int64(spec.PerSecond * spec.Duration.Seconds())
	tasks := make(chan due, total)
	var callers sync.WaitGroup
	errs := make([]error, spec.Callers)
	for i := range spec.Callers {
		callers.Go(func() {
			for task := range tasks {
				p := payload(task.n)
				p.SentAt = task.at.UnixNano()
				if err := q.enqueue(ctx, p); err != nil {
					errs[i] = err
				}
			}
		})
	}
	cpu, began := cpuTime(), time.Now()
	for n := int64(0); n < total; {
		time.Sleep(time.Millisecond)
		now := time.Since(began).Seconds()
		for ; n < total && float64(n)/spec.PerSecond <= now; n++ {
			tasks <- due{spec.First + n, began.Add(time.Duration(float64(n) / spec.PerSecond * 1e9))}
		}
	}
	close(tasks)
	callers.Wait()
	c.tell(protocol.Event{Event: protocol.Done, Done: total, Elapsed: time.Since(began).Nanoseconds(), CPU: cpuTime() - cpu})
	return errors.Join(errs...)
}
