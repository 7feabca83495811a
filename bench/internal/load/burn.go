package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/server"
)

// burn works off what is in a queue. It is the common part of several loads.
type burn struct {
	b     *Bench
	v     variant
	site  *peer.Site
	first int64
	count int64

	handler string
	pool    int
	// workers is how many processes work; 0 is one.
	workers int
	// held keeps a snapshot open all the while.
	held bool
	// limit ends the run before all is done; 0 is no limit. The rate is that up to then.
	limit time.Duration
	// check counts tasks that were handled twice or not at all.
	check bool
}

// pollInterval is how often the queue is asked whether it is empty, once all handlers have started.
const pollInterval = 5 * time.Millisecond

// run works off the tasks that are in the queue.
func (r *burn) run(ctx context.Context) (result.Run, error) {
	workers := max(r.workers, 1)
	processes := make([]*peer.Process, workers)
	defer func() {
		for _, p := range processes {
			if p != nil {
				p.Kill()
			}
		}
	}()
	for i := range processes {
		spec := protocol.Spec{
			Role: protocol.Work, Handler: r.handler, First: r.first, Count: r.count, Pool: r.pool,
			Profile: r.b.profile(r.v, "work"),
		}
		if r.check {
			spec.Seen = r.seenFile(i)
		}
		p, err := r.site.Start(ctx, spec)
		if err != nil {
			return result.Run{}, err
		}
		processes[i] = p
	}
	if r.held {
		release, err := r.site.Database.HoldSnapshot(ctx)
		if err != nil {
			return result.Run{}, err
		}
		defer release()
	}
	var before server.Usage
	var err error
	if r.site.Database != nil {
		if before, err = r.site.Database.Usage(ctx); err != nil {
			return result.Run{}, err
		}
	}
	crew := &crew{burn: r, processes: processes}
	if err := crew.work(ctx); err != nil {
		return result.Run{}, err
	}
	return r.settle(ctx, crew, before)
}

// settle stops the workers and sums up.
func (r *burn) settle(ctx context.Context, c *crew, before server.Usage) (result.Run, error) {
	done := float64(min(c.done.Load(), r.count))
	run := result.Run{Series: c.series, Metrics: map[string]float64{
		result.Tasks: done,
		result.Rate:  done / c.elapsed.Seconds(),
	}}
	m := run.Metrics
	for i, p := range c.processes {
		usage, err := p.Usage(ctx)
		if err != nil {
			return run, err
		}
		m[result.ClientCPU] += float64(usage.CPU-c.started[i].CPU) / 1e3 / done
		if usage.Mallocs > 0 {
			m[result.Mallocs] += float64(usage.Mallocs-c.started[i].Mallocs) / done
		}
		m[result.Peak] = max(m[result.Peak], p.Peak()/1e6)
	}
	if r.site.Database != nil {
		spent, err := r.site.Database.Since(ctx, before, !r.held)
		if err != nil {
			return run, err
		}
		addSpent(m, spent, done)
	}
	if !r.check && r.b.Profiles == "" {
		return run, nil // the processes are killed
	}
	for _, p := range c.processes {
		if _, err := p.Stop(ctx); err != nil {
			return run, err
		}
	}
	if !r.check {
		return run, nil
	}
	return run, r.countSeen(m)
}

// addSpent puts what the server spent into metrics, per task.
func addSpent(m map[string]float64, spent server.Spent, tasks float64) {
	m[result.WAL] = spent.WAL / tasks
	m["full_pages"] = spent.FullPages / tasks
	for name, value := range map[string]float64{
		result.Statements: spent.Statements / tasks, result.ServerCPU: spent.CPU * 1e6 / tasks, result.IndexEntries: spent.IndexEntries / tasks,
	} {
		if value > 0 {
			m[name] = value
		}
	}
}

func (r *burn) seenFile(i int) string { return filepath.Join(r.b.Folder, fmt.Sprintf("seen-%d", i)) }

func (r *burn) countSeen(m map[string]float64) error {
	total := make([]int, r.count)
	for i := range max(r.workers, 1) {
		bytes, err := os.ReadFile(r.seenFile(i))
		if err != nil {
			return err
		}
		for n, times := range bytes {
			total[n] += int(times)
		}
	}
	m[result.Twice], m[result.Missed] = 0, 0
	for _, times := range total {
		switch {
		case times > 1:
			m[result.Twice]++
		case times == 0:
			m[result.Missed]++
		}
	}
	return nil
}

// crew is the processes of one burn while they work.
type crew struct {
	*burn
	processes []*peer.Process

	started []protocol.Event
	done    atomic.Int64
	elapsed time.Duration

	mu     sync.Mutex
	series []result.Point
	last   protocol.Event // the newest tick that the series has
}

// work lets the processes begin and returns when all is done, or the limit is over.
func (c *crew) work(ctx context.Context) error {
	began, err := c.begin(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	each := make([]atomic.Int64, len(c.processes))
	all := make(chan struct{})
	var allOnce sync.Once
	var listening sync.WaitGroup
	listen, stopListening := context.WithCancel(ctx)
	for i, p := range c.processes {
		hear := func(e protocol.Event) {
			each[i].Store(e.Done)
			var sum int64
			for k := range each {
				sum += each[k].Load()
			}
			c.done.Store(sum)
			c.tick(began, e)
			if c.enough(sum) {
				allOnce.Do(func() { close(all) })
			}
		}
		p.OnTick = hear
		listening.Go(func() {
			handled, err := p.Wait(listen, protocol.Handled)
			if err == nil {
				hear(handled)
				err = p.For(listen, time.Hour)
			}
			if err != nil && listen.Err() == nil {
				cancel(err)
			}
		})
	}
	err = c.untilEmpty(ctx, began, all)
	stopListening()
	listening.Wait()
	return err
}

// enough tells when it is time to ask the queue itself. One process says when its last handler starts; several
// only tell now and then how far they are.
func (c *crew) enough(sum int64) bool {
	if len(c.processes) == 1 {
		return sum >= c.count
	}
	return sum >= c.count*9/10
}

// begin sends the command and answers when the first worker started.
func (c *crew) begin(ctx context.Context) (time.Time, error) {
	for _, p := range c.processes {
		if err := p.Go(); err != nil {
			return time.Time{}, err
		}
	}
	var began time.Time
	for _, p := range c.processes {
		started, err := p.Wait(ctx, protocol.Started)
		if err != nil {
			return began, err
		}
		c.started = append(c.started, started)
		if at := time.Unix(0, started.At); began.IsZero() || at.Before(began) {
			began = at
		}
	}
	return began, nil
}

var errLimit = errors.New("the time of this run is over")

func (c *crew) untilEmpty(ctx context.Context, began time.Time, all <-chan struct{}) error {
	limited := ctx
	if c.limit > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithDeadlineCause(ctx, began.Add(c.limit), errLimit)
		defer cancel()
	}
	select {
	case <-limited.Done():
		if context.Cause(limited) == errLimit { //nolint:errorlint // it is our own
			c.elapsed = time.Since(began)
			return nil
		}
		return context.Cause(limited)
	case <-all:
	}
	for {
		asked := time.Now()
		unfinished, err := c.site.Unfinished(ctx)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if !unfinished {
			c.elapsed = asked.Sub(began)
			c.done.Store(c.count)
			return nil
		}
		time.Sleep(pollInterval)
	}
}

// seriesStep is the distance of two points of a series.
const seriesStep = 500 * time.Millisecond

// tick adds to the series of a single process.
func (c *crew) tick(began time.Time, e protocol.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b.Progress.Update("%d of %d done", c.done.Load(), c.count)
	if len(c.processes) > 1 {
		return
	}
	if c.last.At == 0 {
		c.last.At = began.UnixNano()
	}
	step := time.Duration(e.At - c.last.At)
	if step < seriesStep {
		return
	}
	rate := float64(e.Done-c.last.Done) / step.Seconds()
	c.series = append(c.series, result.Point{X: float64(e.At-began.UnixNano()) / 1e9, Y: rate})
	c.last = e
}
