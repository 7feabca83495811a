package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// explained checks the reason, whether or not there are workers of other cases.
func (c *Check) explained(id int64, want anchor.Reason) *anchor.Explanation {
	e, err := c.client.Explain(c.ctx, id)
	c.must(err)
	if e.Reason != want {
		c.Errorf("task %d is explained as %s, want %s: %s", id, e.Reason, want, e.Text)
	}
	if e.Text == "" || e.Task.ID != id || e.Task.Params != nil {
		c.Errorf("explained by %q, task %+v", e.Text, e.Task)
	}
	return e
}

var explainCases = []Case{
	{"explain-unknown", "What is not there cannot be explained.", func(c *Check) {
		c.one(nil)
		_, err := c.client.Explain(c.ctx, noTask)
		c.wantError(err, anchor.ErrTaskNotFound)
	}},
	{"explain-pending", "A pending task is explained by its queue's pause, then by the lack of a worker, and by its time.", func(c *Check) {
		task := c.task(nil)
		c.know(task)
		first, id := c.enqueue(task), c.enqueue(task)
		later := c.enqueue(task, anchor.WithDelay(time.Hour))
		if e := c.explained(id, anchor.ReasonNoWorker); e.Ahead != 1 || len(e.Takers) > 0 {
			c.Errorf("%d before it, %d workers take it", e.Ahead, len(e.Takers))
		}
		c.must(c.client.PauseQueue(c.ctx, c.queue()))
		e := c.explained(later, anchor.ReasonQueuePaused)
		c.equal("the other reasons", []anchor.Reason{anchor.ReasonNoWorker, anchor.ReasonNotDue}, e.Also)
		if e.PausedSince.IsZero() || e.Ahead != 0 {
			c.Errorf("paused since %v, %d before it", e.PausedSince, e.Ahead)
		}
		c.must(c.client.ResumeQueue(c.ctx, c.queue()))
		c.must(c.client.Cancel(c.ctx, first))
		if e := c.explained(id, anchor.ReasonNoWorker); e.Ahead != 0 {
			c.Errorf("%d before it, want none", e.Ahead)
		}
		c.explained(first, anchor.ReasonCancelled)
	}},
	{"explain-worked", "A task that waits, runs or has ended is explained by that, and its worker is listed.", func(c *Check) {
		started, release := make(chan struct{}), make(chan struct{})
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			close(started)
			<-release
			return anchor.Fatal(errBroken)
		})
		id := c.enqueue(task)
		c.work(anchor.WithConcurrency(1))
		c.receive("the handler has started", started)
		e := c.explained(id, anchor.ReasonRunning)
		if e.Worker == nil || !e.Worker.Alive || e.Worker.Held < 1 || e.Worker.ID != e.Task.WorkerID {
			c.Fatalf("its worker is %+v", e.Worker)
		}
		workers, err := c.client.Workers(c.ctx)
		c.must(err)
		if !slices.ContainsFunc(workers, func(w *anchor.WorkerInfo) bool {
			return w.ID == e.Worker.ID && w.Takes(task.Name(), c.queue()) && w.Slots == 1
		}) {
			c.Errorf("worker %s is not among %d", e.Worker.ID, len(workers))
		}
		if waiting := c.explained(c.enqueue(task, anchor.WithDelay(time.Hour)), anchor.ReasonNotDue); len(waiting.Takers) == 0 {
			c.Errorf("no worker takes what one works on")
		}
		close(release)
		c.endsAs(id, anchor.StatusFailed)
		c.wantMessages(c.explained(id, anchor.ReasonFailed).Task, "broken")
	}},
}
