package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

func endedContext(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// child declares a task that a handler enqueues, and one whose handler does, in its transaction, and then ends as
// after says.
func (c *Check) family(after func() error, opts ...anchor.TaskOption) (parent, child *anchor.Task[Params]) {
	child = c.task(nil)
	parent = c.task(func(ctx context.Context, tx pgx.Tx, _ *Params) error {
		if _, err := child.RunWithTx(ctx, c.client, tx, &Params{}); err != nil {
			return err
		}
		return after()
	}, opts...)
	c.know(parent, child)
	return parent, child
}

var transactionCases = []Case{
	{"tx-commit", "A task of a transaction is there when that commits.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		id, err := task.RunWithTx(c.ctx, c.client, tx, &Params{})
		c.must(err)
		c.must(tx.Commit(c.ctx))
		c.wantStatus(id, anchor.StatusPending)
	}},
	{"tx-rollback", "A task of a transaction is not there when that rolls back.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		id, err := task.RunWithTx(c.ctx, c.client, tx, &Params{})
		c.must(err)
		c.must(tx.Rollback(c.ctx))
		_, err = c.client.Task(c.ctx, id)
		c.wantError(err, anchor.ErrTaskNotFound)
	}},
	{"tx-is-isolated", "A task of a transaction that is open is neither read nor claimed.", func(c *Check) {
		task, fence := c.task(succeed), c.task(succeed)
		c.know(task, fence)
		c.work()
		tx := c.begin()
		id, err := task.RunWithTx(c.ctx, c.client, tx, &Params{})
		c.must(err)
		c.fence(fence)
		_, err = c.client.Task(c.ctx, id)
		c.wantError(err, anchor.ErrTaskNotFound)
		c.must(tx.Commit(c.ctx))
		c.endsAs(id, anchor.StatusCompleted)
	}},
	{"tx-many", "RunManyWithTx enqueues all of its tasks or none.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		_, err := task.RunManyWithTx(c.ctx, c.client, tx, []*Params{{N: 1}, {N: 2}})
		c.must(err)
		c.must(tx.Rollback(c.ctx))
		c.equal("pending tasks after Rollback", 0, c.pending(task))
		tx = c.begin()
		_, err = task.RunManyWithTx(c.ctx, c.client, tx, []*Params{{N: 1}, {N: 2}})
		c.must(err)
		c.must(tx.Commit(c.ctx))
		c.equal("pending tasks after Commit", 2, c.pending(task))
	}},
	{"tx-savepoint", "A savepoint that is rolled back takes its tasks with it, and leaves the others.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		_, err := task.RunWithTx(c.ctx, c.client, tx, &Params{})
		c.must(err)
		savepoint, err := tx.Begin(c.ctx)
		c.must(err)
		_, err = task.RunWithTx(c.ctx, c.client, savepoint, &Params{})
		c.must(err)
		c.must(savepoint.Rollback(c.ctx))
		c.must(tx.Commit(c.ctx))
		c.equal("pending tasks", 1, c.pending(task))
	}},
	{"tx-ended", "Nothing is enqueued in a transaction that has ended.", func(c *Check) {
		task := c.one(nil)
		tx := c.begin()
		c.must(tx.Commit(c.ctx))
		_, err := task.RunWithTx(c.ctx, c.client, tx, &Params{})
		c.wantError(err, pgx.ErrTxClosed)
	}},
	{"tx-deadlock", "Of two transactions that wait for each other's tags one is aborted: it takes nothing more, and cannot commit.", func(c *Check) {
		task := c.one(nil)
		ctx, cancel := context.WithTimeout(c.ctx, c.patience)
		defer cancel()
		take := func(tx pgx.Tx, name string) error {
			_, err := task.RunWithTx(ctx, c.client, tx, &Params{}, anchor.WithUniqueTag(c.tag(name)))
			return err
		}
		one, two := c.begin(), c.begin()
		c.must(take(one, "a"))
		c.must(take(two, "b"))
		taken := make(chan error, 1)
		go func() { taken <- take(one, "b") }()
		second := take(two, "a")
		first := <-taken
		if (first == nil) == (second == nil) {
			c.Fatalf("errors %v and %v, want one", first, second)
		}
		aborted, other := one, two
		if second != nil {
			aborted, other = two, one
		}
		c.wantRefused("another task in the transaction that was aborted", take(aborted, "c"))
		c.wantRefused("its commit", aborted.Commit(c.ctx))
		c.must(other.Commit(c.ctx))
		c.equal("pending tasks", 2, c.pending(task))
	}},
	{"tx-cut-off", "A transaction in which a wait was cut off by its context is over.", func(c *Check) {
		task := c.one(nil)
		one := c.begin()
		_, err := task.RunWithTx(c.ctx, c.client, one, &Params{}, anchor.WithUniqueTag(c.tag("t")))
		c.must(err)
		for timeout := 50 * time.Millisecond; ; timeout *= 10 {
			two := c.begin()
			_, err = task.RunWithTx(c.ctx, c.client, two, &Params{})
			c.must(err)
			ctx, cancel := context.WithTimeout(c.ctx, timeout)
			_, err = task.RunWithTx(ctx, c.client, two, &Params{}, anchor.WithUniqueTag(c.tag("t")))
			cancel()
			c.wantError(err, context.DeadlineExceeded)
			_, err = task.RunWithTx(c.ctx, c.client, two, &Params{})
			if err == nil && timeout < 5*time.Second {
				// On a busy machine the context may have ended before the wait began, which leaves the transaction alone.
				c.must(two.Rollback(c.ctx))
				continue
			}
			c.wantRefused("another task in the transaction", err)
			c.wantRefused("its commit", two.Commit(c.ctx))
			break
		}
		c.must(one.Commit(c.ctx))
		c.equal("pending tasks", 1, c.pending(task))
	}},
	{"tx-cancel-rollback", "What a transaction cancels goes on when that rolls back.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task)
		tx := c.begin()
		c.must(c.client.CancelWithTx(c.ctx, tx, id))
		c.must(tx.Rollback(c.ctx))
		c.wantStatus(id, anchor.StatusPending)
	}},
	{"tx-cancel-commit", "What a transaction cancels is cancelled when that commits.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task)
		tx := c.begin()
		c.must(c.client.CancelWithTx(c.ctx, tx, id))
		c.wantStatus(id, anchor.StatusPending)
		c.must(tx.Commit(c.ctx))
		c.wantStatus(id, anchor.StatusCancelled)
	}},
	{"handler-tx-commits", "What a handler enqueues through its tx is there when its task has completed.", func(c *Check) {
		parent, child := c.family(func() error { return nil })
		c.equal("status", anchor.StatusCompleted, c.worked(parent).Status)
		c.equal("pending children", 1, c.pending(child))
	}},
	{"handler-tx-of-a-failure", "What a failed attempt enqueued through its tx is not there.", func(c *Check) {
		parent, child := c.family(func() error { return errBroken })
		c.equal("status", anchor.StatusFailed, c.worked(parent).Status)
		c.equal("pending children", 0, c.pending(child))
	}},
	{"handler-tx-of-a-panic", "What a panicking attempt enqueued through its tx is not there.", func(c *Check) {
		parent, child := c.family(func() error { panic("broken") })
		c.equal("status", anchor.StatusFailed, c.worked(parent).Status)
		c.equal("pending children", 0, c.pending(child))
	}},
	{"handler-tx-once", "A task that completes in its second attempt has written once.", func(c *Check) {
		var attempts values[int]
		parent, child := c.family(func() error {
			if attempts.add(1) == 1 {
				return errBroken
			}
			return nil
		})
		c.equal("status", anchor.StatusCompleted, c.worked(parent).Status)
		c.equal("pending children", 1, c.pending(child))
	}},
	{"handler-tx-is-the-worker's", "A handler can neither commit nor roll back its tx.", func(c *Check) {
		task := c.one(func(ctx context.Context, tx pgx.Tx, _ *Params) error {
			if tx.Commit(ctx) == nil || tx.Rollback(ctx) == nil {
				return errors.New("it could")
			}
			return nil
		})
		c.wantMessages(c.worked(task))
	}},
	{"handler-tx-savepoint", "A handler's savepoint that is rolled back takes its tasks with it.", func(c *Check) {
		child := c.task(nil)
		parent := c.task(func(ctx context.Context, tx pgx.Tx, _ *Params) error {
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := child.RunWithTx(ctx, c.client, tx, &Params{})
				return errors.Join(err, errBroken)
			})
			if !errors.Is(err, errBroken) {
				return err
			}
			_, err = child.RunWithTx(ctx, c.client, tx, &Params{})
			return err
		})
		c.know(parent, child)
		c.equal("status", anchor.StatusCompleted, c.worked(parent).Status)
		c.equal("pending children", 1, c.pending(child))
	}},
}
