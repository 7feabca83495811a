package conformance

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// fate stands between a store and its workers, and makes them lose what they hold. It changes nothing until it is asked.
type fate struct {
	loseLease atomic.Bool // at the next heartbeat
	redeliver bool        // what has completed first, once more with its old claim

	mu    sync.Mutex
	first any // the claim of it
	ends  values[seam.Outcome]
}

func (f *fate) Enqueued(pgx.Tx, []seam.Task) {}
func (f *fate) Cancelled(pgx.Tx, int64)      {}
func (f *fate) Retried(int64)                {}

func (f *fate) Opened(_ context.Context, claim func()) seam.Session {
	return &fatedWorker{f, claim}
}

// fatedWorker implements [seam.Session].
type fatedWorker struct {
	*fate
	claim func()
}

func (w *fatedWorker) Driven() bool                                { return w.redeliver }
func (w *fatedWorker) MayClaim() bool                              { return true }
func (w *fatedWorker) Claimed(seam.Attempt)                        {}
func (w *fatedWorker) NoneDue()                                    {}
func (w *fatedWorker) LeaseLost() bool                             { return w.loseLease.Swap(false) }
func (w *fatedWorker) Tx(_ seam.Attempt, tx pgx.Tx, _ bool) pgx.Tx { return tx }
func (w *fatedWorker) Used(seam.Attempt) bool                      { return false }
func (w *fatedWorker) Commit(seam.Attempt) error                   { return nil }
func (w *fatedWorker) Dead(seam.Attempt) bool                      { return false }
func (w *fatedWorker) Hook(seam.Attempt, error)                    {}

func (w *fatedWorker) Redeliver() any {
	w.mu.Lock()
	defer w.mu.Unlock()
	claim := w.first
	w.first = nil
	return claim
}

func (w *fatedWorker) Ended(a seam.Attempt, end seam.End) {
	if end.Outcome == seam.Released {
		return // it was never started, and comes again
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends.add(end.Outcome) == 1 && w.redeliver {
		w.first = a.Claim
		w.claim()
	}
}

// fated makes a client of tasks whose workers meet their fate.
func (c *Check) fated(f *fate, tasks ...anchor.AnyTask) {
	watched := seam.Anchor.Watch(c.store, f).(anchor.Store)
	client, err := anchor.New(watched, anchor.WithTasks(tasks...), anchor.WithLogger(slog.New(slog.DiscardHandler)))
	c.must(err)
	c.client = client
}

const lostMessage = "stopped responding"

var leaseCases = []Case{
	{"lease-lost", "When a worker's lease is over, its handler is told, what it wrote is not applied, and the task runs again.", func(c *Check) {
		f := &fate{}
		var causes values[error]
		child := c.task(nil)
		task := c.task(func(ctx context.Context, tx pgx.Tx, _ *Params) error {
			info, _ := anchor.TaskFromContext(ctx)
			if _, err := child.RunWithTx(ctx, c.client, tx, &Params{N: info.Attempts}); err != nil {
				return err
			}
			if info.Attempts > 1 {
				return nil
			}
			f.loseLease.Store(true)
			<-ctx.Done()
			causes.add(context.Cause(ctx))
			_, err := c.client.Wait(context.WithoutCancel(ctx), info.ID) // for the second attempt
			return err
		}, anchor.WithRetryPolicy("1h", 2))
		c.fated(f, task, child)
		id := c.enqueue(task)
		c.work(anchor.WithLease(3 * time.Second))
		info := c.endsAs(id, anchor.StatusCompleted)
		c.equal("attempts", 2, info.Attempts)
		c.wantMessages(info, lostMessage)
		c.equal("pending children", 1, c.pending(child))
		if got := causes.list(); len(got) != 1 || !errors.Is(got[0], anchor.ErrClaimLost) {
			c.Errorf("causes %v, want ErrClaimLost", got)
		}
	}},
	{"lease-lost-in-the-last-attempt", "A task whose last attempt was lost with its worker fails, and its hook is called once.", func(c *Check) {
		f := &fate{}
		var runs, hooks values[int]
		task := c.task(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			runs.add(1)
			f.loseLease.Store(true)
			<-ctx.Done()
			return ctx.Err()
		}, anchor.WithRetryPolicy("1ms", 1)).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *Params) error {
			hooks.add(1)
			return nil
		})
		c.fated(f, task)
		id := c.enqueue(task)
		c.work(anchor.WithLease(3 * time.Second))
		info := c.endsAs(id, anchor.StatusFailed)
		c.equal("attempts", 1, info.Attempts)
		c.wantMessages(info, lostMessage)
		c.equal("runs", 1, len(runs.list()))
		c.equal("calls of the hook", 1, len(hooks.list()))
	}},
	claimOver("success", nil),
	claimOver("failure", errBroken),
	claimOver("fatal failure", anchor.Fatal(errBroken)),
}

// claimOver delivers a task once more after it has completed. The second delivery ends as after says.
func claimOver(how string, after error) Case {
	name := "claim-over-" + strings.ReplaceAll(how, " ", "-")
	return Case{name, "A " + how + " of an attempt whose claim is over changes nothing, and what it wrote is not applied.", func(c *Check) {
		f := &fate{redeliver: true}
		var runs, hooks values[int]
		child := c.task(nil)
		task := c.task(func(ctx context.Context, tx pgx.Tx, _ *Params) error {
			n := runs.add(1)
			if _, err := child.RunWithTx(ctx, c.client, tx, &Params{N: n}); err != nil || n == 1 {
				return err
			}
			return after
		}).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *Params) error {
			hooks.add(1)
			return nil
		})
		c.fated(f, task, child)
		id := c.enqueue(task)
		c.work(anchor.WithConcurrency(1))
		c.eventually("the task is delivered twice", func() bool { return len(f.ends.list()) >= 2 })
		c.equal("runs", 2, len(runs.list()))
		c.equal("ends", []seam.Outcome{seam.Completed, seam.Lost}, f.ends.list()[:2])
		c.equal("pending children", 1, c.pending(child))
		c.equal("calls of the hook", 0, len(hooks.list()))
		info := c.info(id)
		c.equal("status", anchor.StatusCompleted, info.Status)
		c.wantMessages(info)
	}}
}
