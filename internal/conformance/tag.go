package conformance

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// wantHeld enqueues with a tag and wants that it is held by a task.
func (c *Check) wantHeld(task *anchor.Task[Params], tag string, holder int64) {
	_, err := task.Run(c.ctx, c.client, &Params{}, anchor.WithUniqueTag(tag))
	c.wantExists(err, tag, holder)
}

func (c *Check) wantExists(err error, tag string, holder int64) {
	c.wantError(err, anchor.ErrTaskAlreadyExists)
	var exists *anchor.TaskExistsError
	if errors.As(err, &exists) {
		c.equal("TaskExistsError", &anchor.TaskExistsError{Tag: tag, ID: holder}, exists)
	}
}

// wantFree enqueues with a tag.
func (c *Check) wantFree(task *anchor.Task[Params], tag string) {
	_, err := task.Run(c.ctx, c.client, &Params{}, anchor.WithUniqueTag(tag), anchor.WithDelay(time.Hour))
	c.must(err)
}

var tagCases = []Case{
	{"tag-is-held", "A second task of a unique tag is refused, with the id of the first.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t")))
		c.wantHeld(task, c.tag("t"), id)
		c.equal("pending tasks", 1, c.pending(task))
	}},
	{"tag-across-tasks", "A tag is unique over all tasks and queues.", func(c *Check) {
		one, two := c.task(nil), c.task(nil, anchor.WithQueue(c.prefix+"-2"))
		c.know(one, two)
		id := c.enqueue(one, anchor.WithUniqueTag(c.tag("t")))
		c.wantHeld(two, c.tag("t"), id)
	}},
	{"forever-tag-outlives-its-task", "A tag of scope UniqueForever is held after its task has completed.", func(c *Check) {
		task := c.one(succeed)
		info := c.worked(task, anchor.WithUniqueTag(c.tag("t")))
		c.equal("status", anchor.StatusCompleted, info.Status)
		c.wantHeld(task, c.tag("t"), info.ID)
	}},
	whileLive("completed", succeed, anchor.StatusCompleted),
	whileLive("failed", breakDown, anchor.StatusFailed),
	{"live-tag-cancelled", "A tag of scope UniqueWhileLive is free once its task was cancelled.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
		c.wantHeld(task, c.tag("t"), id)
		c.must(c.client.Cancel(c.ctx, id))
		c.wantFree(task, c.tag("t"))
	}},
	{"live-tag-between-attempts", "A tag of scope UniqueWhileLive is held while its task waits for another attempt.", func(c *Check) {
		task := c.one(breakDown, anchor.WithRetryPolicy("1h", 2))
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
		c.work()
		c.eventually("the attempt has failed", func() bool { return len(c.info(id).Errors) == 1 })
		c.wantHeld(task, c.tag("t"), id)
	}},
	{"timed-tag-expires", "A tag of scope UniqueFor is free when its time is over and its task has ended.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueFor(time.Millisecond)))
		c.must(c.client.Cancel(c.ctx, id))
		c.eventually("the tag is free", func() bool {
			_, err := task.Run(c.ctx, c.client, &Params{}, anchor.WithUniqueTag(c.tag("t")))
			return err == nil
		})
	}},
	{"timed-tag-of-a-live-task", "A tag of scope UniqueFor is held by a live task when its time is over.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueFor(time.Microsecond)))
		info := c.info(id)
		c.eventually("time passes", func() bool { return time.Since(info.CreatedAt) > 50*time.Millisecond })
		c.wantHeld(task, c.tag("t"), id)
	}},
	{"timed-tag-of-an-ended-task", "A tag of scope UniqueFor is held for its time although its task has ended.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueFor(time.Hour)))
		c.must(c.client.Cancel(c.ctx, id))
		c.wantHeld(task, c.tag("t"), id)
	}},
	{"release-tag", "A tag that was released is free; its task goes on.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t")))
		c.must(c.client.ReleaseTag(c.ctx, c.tag("t")))
		c.wantStatus(id, anchor.StatusPending)
		c.wantFree(task, c.tag("t"))
	}},
	{"release-tag-of-nobody", "Releasing a tag that nobody holds is no error.", func(c *Check) {
		c.one(nil)
		c.must(c.client.ReleaseTag(c.ctx, c.tag("t")))
	}},
	{"tag-in-a-transaction", "A held tag leaves the transaction that asked for it usable.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t")))
		tx := c.begin()
		_, err := task.RunWithTx(c.ctx, c.client, tx, &Params{}, anchor.WithUniqueTag(c.tag("t")))
		c.wantExists(err, c.tag("t"), id)
		other, err := task.RunWithTx(c.ctx, c.client, tx, &Params{})
		c.must(err)
		c.must(tx.Commit(c.ctx))
		c.wantStatus(other, anchor.StatusPending)
	}},
	{"tag-rolled-back", "A tag that was taken in a transaction is free when that is rolled back.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		_, err := task.RunWithTx(c.ctx, c.client, tx, &Params{}, anchor.WithUniqueTag(c.tag("t")))
		c.must(err)
		c.must(tx.Rollback(c.ctx))
		c.wantFree(task, c.tag("t"))
	}},
	{"tag-twice-in-a-transaction", "A transaction's second task of a tag is refused by its first.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		id, err := task.RunWithTx(c.ctx, c.client, tx, &Params{}, anchor.WithUniqueTag(c.tag("t")))
		c.must(err)
		_, err = task.RunWithTx(c.ctx, c.client, tx, &Params{}, anchor.WithUniqueTag(c.tag("t")))
		c.wantExists(err, c.tag("t"), id)
		c.must(tx.Commit(c.ctx))
	}},
	{"tag-race", "Of many who enqueue a tag at once, one succeeds, and the others are told of it.", func(c *Check) {
		task := c.one(nil)
		var won, lost values[int64]
		var racers sync.WaitGroup
		for range 8 {
			racers.Go(func() {
				id, err := task.Run(c.ctx, c.client, &Params{}, anchor.WithUniqueTag(c.tag("t")))
				var exists *anchor.TaskExistsError
				switch {
				case err == nil:
					won.add(id)
				case errors.As(err, &exists):
					lost.add(exists.ID)
				default:
					c.Errorf("unexpected error: %v", err)
				}
			})
		}
		racers.Wait()
		if len(won.list()) != 1 {
			c.Fatalf("%d have the tag, want one", len(won.list()))
		}
		for _, id := range lost.list() {
			c.equal("holder", won.list()[0], id)
		}
	}},
	{"tag-of-a-successor", "A handler may enqueue the successor of its own forever tag after it released that.", func(c *Check) {
		var task *anchor.Task[Params]
		task = c.task(func(ctx context.Context, _ pgx.Tx, p *Params) error {
			if p.N == 0 {
				return nil
			}
			if err := c.client.ReleaseTag(ctx, c.tag("t")); err != nil {
				return err
			}
			_, err := task.Run(ctx, c.client, &Params{}, anchor.WithUniqueTag(c.tag("t")))
			return err
		})
		c.know(task)
		id := c.enqueueWith(task, Params{N: 1}, anchor.WithUniqueTag(c.tag("t")))
		c.work()
		c.endsAs(id, anchor.StatusCompleted)
	}},
}

func whileLive(how string, handle handler, status anchor.Status) Case {
	return Case{"live-tag-" + how, "A tag of scope UniqueWhileLive is free once its task has " + how + ".", func(c *Check) {
		task := c.one(handle)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
		c.wantHeld(task, c.tag("t"), id)
		c.work()
		c.endsAs(id, status)
		c.wantFree(task, c.tag("t"))
	}}
}
