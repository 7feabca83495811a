package subject

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// enqueue lets callers enqueue for a while, each waiting for its task before the next.
func (c *channel) enqueue(ctx context.Context, q queue, spec protocol.Spec) error {
	var number atomic.Int64
	if err := q.enqueue(ctx, payload(number.Add(1))); err != nil { // connects and prepares
		return err
	}
	var callers sync.WaitGroup
	errs := make([]error, spec.Callers)
	counts := make([]int64, spec.Callers)
	cpu, began := cpuTime(), time.Now()
	for i := range spec.Callers {
		callers.Go(func() {
			for errs[i] == nil && time.Since(began) < spec.Duration {
				errs[i] = q.enqueue(ctx, payload(number.Add(1)))
				counts[i]++
			}
		})
	}
	callers.Wait()
	elapsed := time.Since(began)
	var total int64
	for _, n := range counts {
		total += n
	}
	c.tell(protocol.Event{Event: protocol.Done, Done: total, Elapsed: elapsed.Nanoseconds(), CPU: cpuTime() - cpu})
	return errors.Join(errs...)
}

// bulk enqueues Count tasks from First on, in batches, one after the other.
func (c *channel) bulk(ctx context.Context, q queue, spec protocol.Spec) error {
	cpu, began := cpuTime(), time.Now()
	var done int64
	told := began
	for done < spec.Count {
		n := min(int64(spec.Batch), spec.Count-done)
		if err := q.enqueueMany(ctx, payloads(spec.First+done, n, spec.Naps)); err != nil {
			return err
		}
		done += n
		if time.Since(told) > tickInterval {
			told = time.Now()
			c.tell(protocol.Event{Event: protocol.Tick, Done: done})
		}
	}
	c.tell(protocol.Event{Event: protocol.Done, Done: done, Elapsed: time.Since(began).Nanoseconds(), CPU: cpuTime() - cpu})
	return nil
}

func payloads(first, n, naps int64) []*protocol.Payload {
	batch := make([]*protocol.Payload, n)
	for i := range batch {
		batch[i] = payload(first + int64(i))
		batch[i].SleepMS = naps
	}
	return batch
}

// The distance between two tasks of Pickup: random, and wide enough that the worker has come to rest.
const (
	leastPause = 50 * time.Millisecond
	mostPause  = 250 * time.Millisecond
	// warmUps tasks come before those that count.
	warmUps = 10
)

// pickup enqueues Count tasks one at a time and tells how long each call took. Tasks with a number below First warm
// up.
func (c *channel) pickup(ctx context.Context, q queue, spec protocol.Spec) error {
	send := q.enqueue
	if spec.InTx {
		send = q.enqueueTx
	}
	var calls []float64
	for n := spec.First - warmUps; n < spec.First+spec.Count; n++ {
		time.Sleep(leastPause + rand.N(mostPause-leastPause))
		began := time.Now()
		if err := send(ctx, payload(n)); err != nil {
			return err
		}
		calls = append(calls, float64(time.Since(began).Nanoseconds())/1e6)
	}
	c.tell(protocol.Event{Event: protocol.Done, Done: spec.Count, Samples: calls})
	return nil
}
