package anchortest

import (
	"context"
	"errors"
	"testing/synctest"
	"time"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// maxDrained bounds the attempts of one Drain: tasks that enqueue each other without end would never let it return.
const maxDrained = 10_000

// maxHookCalls bounds the calls of one task's failure hook, which the server's trouble has called again without end.
const maxHookCalls = 20

// Outcomes counts attempts by how they ended.
type Outcomes struct {
	Completed int
	Failed    int // for good
	Retried   int // failed, and to be tried again
	Snoozed   int // the same, by RetryAfter
	Cancelled int
	Lost      int // the worker died or lost its lease, or the task had ended before: nothing of it was applied
}

// Total is the number of attempts.
func (o Outcomes) Total() int {
	return o.Completed + o.Failed + o.Retried + o.Snoozed + o.Cancelled + o.Lost
}

func (o Outcomes) plus(p Outcomes) Outcomes {
	return Outcomes{
		Completed: o.Completed + p.Completed, Failed: o.Failed + p.Failed, Retried: o.Retried + p.Retried,
		Snoozed: o.Snoozed + p.Snoozed, Cancelled: o.Cancelled + p.Cancelled, Lost: o.Lost + p.Lost,
	}
}

// Drain runs all that is due, and what that enqueues, one at a time in the order of claims, until nothing is due.
// A worker as in production does it. More than 10,000 attempts fail the test. Time moves only while a handler waits
// for it. What a worker that died has left is taken back at once; there is no need to wait for its lease.
func (h *Harness) Drain() Outcomes {
	h.t.Helper()
	return h.drive(h.most)
}

// DrainOne runs one attempt of what is due, if there is any.
func (h *Harness) DrainOne() Outcomes {
	h.t.Helper()
	return h.drive(1)
}

// Advance moves time by d, and on the way runs whatever falls due when it falls due, retries and schedules included.
// First of all it runs what is due already. A handler that waits moves time as well, so that it may end later.
//
// With [RunPostgres], where time is real, the pending tasks are moved towards now instead; schedules are not.
func (h *Harness) Advance(d time.Duration) Outcomes {
	h.t.Helper()
	if d < 0 {
		h.t.Fatalf("anchortest: Advance: %v is negative", d)
	}
	outcomes := h.Drain()
	until := h.now().Add(d)
	for {
		next, ok := h.next()
		if !ok || next.After(until) {
			break
		}
		h.moveTo(next)
		outcomes = outcomes.plus(h.Drain())
	}
	h.moveTo(until)
	return outcomes
}

// AdvanceToNext moves time to when the next task or schedule is due, and runs what is due then. Where nothing will
// ever be due, it does nothing.
func (h *Harness) AdvanceToNext() Outcomes {
	h.t.Helper()
	outcomes := h.Drain()
	if next, ok := h.next(); ok {
		h.moveTo(next)
		outcomes = outcomes.plus(h.Drain())
	}
	return outcomes
}

// now is the time of the tasks.
func (h *Harness) now() time.Time { return time.Now().Add(h.watch.shift()) }

// next is when something falls due next.
func (h *Harness) next() (time.Time, bool) {
	if h.pool != nil {
		return h.nextInDatabase()
	}
	now := time.Now()
	next, ok := seam.Anchor.NextDue(h.Client, now)
	schedules, err := h.Client.Crons(h.ctx)
	if err != nil {
		h.t.Fatalf("anchortest: %v", err)
	}
	for _, s := range schedules {
		if s.NextRun.After(now) && (!ok || s.NextRun.Before(next)) {
			next, ok = s.NextRun, true
		}
	}
	return next, ok
}

func (h *Harness) moveTo(at time.Time) {
	d := at.Sub(h.now())
	if d <= 0 {
		return
	}
	if h.pool != nil {
		h.shiftDatabase(d)
		return
	}
	time.Sleep(d)
}

type drivenKey struct{}

// drive lets workers make up to limit attempts.
func (h *Harness) drive(limit int) Outcomes {
	h.t.Helper()
	if !h.watch.begin(limit) {
		h.t.Fatal("anchortest: tasks are being run already: a handler cannot run others")
	}
	defer h.watch.end()
	if !seam.Anchor.CanWork(h.Client) {
		return Outcomes{} // the program only enqueues
	}
	for {
		err := h.work()
		outcomes, died := h.watch.result()
		switch {
		case err != nil:
			h.t.Fatalf("anchortest: %v", err)
		case outcomes.Total() >= h.most:
			h.t.Fatalf("anchortest: %d attempts and no end: do the tasks enqueue each other?", outcomes.Total())
		case !died:
			return outcomes
		}
	}
}

// work is the life of one worker. In memory each of its claims waits until all else has come to rest, so that the order
// of what happens at one time is the same in every run.
func (h *Harness) work() error {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), drivenKey{}, true))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- h.Client.Work(ctx, anchor.WithConcurrency(1), anchor.WithPollInterval(h.poll))
	}()
	if h.pool == nil {
		h.settle()
		<-time.After(0) // what the worker wants to do at once has its turn, such as the ticks of schedules
	}
	for {
		if h.pool == nil {
			h.settle()
		}
		if h.watch.idle() {
			cancel()
			return <-ended
		}
		if err := h.watch.stuck(); err != nil {
			cancel()
			return errors.Join(err, <-ended)
		}
		if h.watch.grant() {
			continue
		}
		select {
		case <-h.watch.changed:
		case err := <-ended:
			return err
		}
	}
}

// settle waits until nothing else runs in the bubble.
func (h *Harness) settle() {
	h.atRest.waits.Add(1)
	defer h.atRest.waits.Add(1)
	synctest.Wait()
}
