package subject

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// tickInterval is how often a worker tells how far it is.
const tickInterval = 100 * time.Millisecond

// counter is the common part of all handlers.
type counter struct {
	started atomic.Int64
	count   int64
	all     chan struct{} // closed by the count-th
	seen    []atomic.Uint32
	first   int64

	mu      sync.Mutex
	samples []float64
}

func newCounter(spec protocol.Spec) *counter {
	c := &counter{count: spec.Count, first: spec.First, all: make(chan struct{})}
	if spec.Seen != "" {
		c.seen = make([]atomic.Uint32, spec.Count)
	}
	return c
}

func (c *counter) add(p *protocol.Payload) {
	if i := p.N - c.first; c.seen != nil && i >= 0 && i < int64(len(c.seen)) {
		c.seen[i].Add(1)
	}
	if c.started.Add(1) == c.count {
		close(c.all)
	}
}

func (c *counter) note(sample float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = append(c.samples, sample)
}

func (c *counter) handler(kind string) (handler, error) {
	switch kind {
	case protocol.Noop:
		return handler{handle: c.add}, nil
	case protocol.Insert:
		return handler{handle: c.add, insert: true}, nil
	case protocol.Latency:
		return handler{handle: func(p *protocol.Payload) {
			latency := time.Now().UnixNano() - p.SentAt
			if p.N >= c.first { // those before warm up
				c.note(float64(latency) / 1e6)
			}
			c.add(p)
		}}, nil
	case protocol.Sleep:
		return handler{handle: func(p *protocol.Payload) {
			if p.SleepMS > 0 {
				c.note(float64(time.Now().UnixNano()) / 1e6)
			}
			c.add(p)
			time.Sleep(time.Duration(p.SleepMS) * time.Millisecond)
		}}, nil
	}
	return handler{}, fmt.Errorf("unknown handler %q", kind)
}

// writeSeen is one byte a task: how often it was handled here, 255 at most.
func (c *counter) writeSeen(path string) error {
	if path == "" {
		return nil
	}
	bytes := make([]byte, len(c.seen))
	for i := range c.seen {
		bytes[i] = byte(min(c.seen[i].Load(), 255))
	}
	return os.WriteFile(path, bytes, 0o600)
}

func (c *channel) work(ctx context.Context, q queue, spec protocol.Spec) error {
	count := newCounter(spec)
	h, err := count.handler(spec.Handler)
	if err != nil {
		return err
	}
	c.tell(protocol.Event{Event: protocol.Started, CPU: cpuTime(), Mallocs: mallocs()})
	stop, err := q.work(ctx, h)
	if err != nil {
		return err
	}
	return c.untilStopped(count, spec, stop)
}

// untilStopped tells how far the worker is until it is told to stop.
func (c *channel) untilStopped(count *counter, spec protocol.Spec, stop func() error) error {
	over := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		var ticks <-chan time.Time
		if !spec.Quiet {
			ticker := time.NewTicker(tickInterval)
			defer ticker.Stop()
			ticks = ticker.C
		}
		all := count.all
		for {
			select {
			case <-over:
				return
			case <-all:
				c.tell(protocol.Event{Event: protocol.Handled, Done: count.started.Load()})
				all = nil
			case <-ticks:
				c.tell(protocol.Event{Event: protocol.Tick, Done: count.started.Load()})
			}
		}
	})
	for c.command() == protocol.Usage {
		c.tell(protocol.Event{Event: protocol.Usage, Done: count.started.Load(), CPU: cpuTime(), Mallocs: mallocs()})
	}
	err := stop()
	close(over)
	telling.Wait()
	if err == nil {
		err = count.writeSeen(spec.Seen)
	}
	if err != nil {
		return err
	}
	c.tell(protocol.Event{Event: protocol.Stopped, Done: count.started.Load(), Samples: count.samples})
	return nil
}

// steadyBatch is how many tasks a feeding call adds.
const steadyBatch = 1000

// steady keeps the backlog at the Count tasks that were there before it began.
func (c *channel) steady(ctx context.Context, q queue, spec protocol.Spec) error {
	count := newCounter(protocol.Spec{})
	h, err := count.handler(protocol.Noop)
	if err != nil {
		return err
	}
	c.tell(protocol.Event{Event: protocol.Started, CPU: cpuTime(), Mallocs: mallocs()})
	stop, err := q.work(ctx, h)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	feeding := make(chan error, 1)
	go func() { feeding <- feed(ctx, q, count, spec.Count, over) }()
	return c.untilStopped(count, spec, func() error {
		close(over)
		if err := <-feeding; err != nil {
			return err
		}
		return stop()
	})
}

func feed(ctx context.Context, q queue, count *counter, next int64, over <-chan struct{}) error {
	backlog := next
	for {
		select {
		case <-over:
			return nil
		default:
		}
		if next-count.started.Load() >= backlog {
			time.Sleep(time.Millisecond)
			continue
		}
		if err := q.enqueueMany(ctx, payloads(next, steadyBatch, 0)); err != nil {
			return fmt.Errorf("feed: %w", err)
		}
		next += steadyBatch
	}
}
