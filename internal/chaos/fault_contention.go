//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

// ownDeadlocks has finishes, heartbeats, taking back and cancels meet on the same tasks for n seconds. The server's log
// must hold no deadlock: every statement of the library locks in one order.
func ownDeadlocks(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 60, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "deadlock", t, func(c *scene) error {
			c.setting.Concurrency = 40
			if err := c.keep(ctx, 3); err != nil {
				return err
			}
			end := time.Now().Add(time.Duration(n) * time.Second)
			for time.Now().Before(end) {
				before, err := c.count(ctx, countUnfinished)
				if err != nil {
					return err
				}
				if before < 500 {
					if err := c.mixture(ctx, 500); err != nil {
						return err
					}
					if _, err := c.enqueue(ctx, 50, NoOp, nil); err != nil {
						return err
					}
				}
				if err := c.cancelSome(ctx, 30); err != nil {
					return err
				}
				if err := c.freeze(ctx, 3*lease/2); err != nil {
					return err
				}
			}
			t.ran(n)
			return nil
		})
	})
}

// cancelSome cancels tasks at random, whatever they are at.
func (c *scene) cancelSome(ctx context.Context, n int) error {
	for range n {
		id, err := c.count(ctx, "select coalesce((select id from anchor_tasks_hot order by random() limit 1), 0)::integer")
		if err != nil {
			return err
		}
		err = c.client.Cancel(ctx, int64(id))
		if err != nil && !errors.Is(err, anchor.ErrTaskNotCancellable) && !errors.Is(err, anchor.ErrTaskNotFound) {
			return fmt.Errorf("cancel task %d: %w", id, err)
		}
	}
	return nil
}

// freeze stops a worker for so long that its tasks are taken back, while others cancel and finish.
func (c *scene) freeze(ctx context.Context, d time.Duration) error {
	all := c.processes()
	if len(all) == 0 {
		return nil
	}
	p := all[rand.IntN(len(all))]
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil // it has just ended
	}
	var err error
	for end := time.Now().Add(d); err == nil && time.Now().Before(end); {
		err = c.cancelSome(ctx, 5)
	}
	return errors.Join(err, p.signal(syscall.SIGCONT))
}

// uniqueTags has 64 enqueuers compete for 200 tags, in transactions of which some are rolled back.
func uniqueTags(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 5000, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "tags", t, func(c *scene) error {
			if err := c.keep(ctx, 2); err != nil {
				return err
			}
			config := c.db.Config()
			config.MaxConns = 64
			pool, err := pgxpool.NewWithConfig(ctx, config)
			if err != nil {
				return err
			}
			defer pool.Close()
			task, client, err := newEnqueuer(pool)
			if err != nil {
				return err
			}
			var group sync.WaitGroup
			turns := make(chan struct{}, n)
			for range n {
				turns <- struct{}{}
			}
			close(turns)
			for range 64 {
				group.Go(func() {
					for range turns {
						if err := c.competeForTag(ctx, pool, task, client); err != nil {
							c.violation("I6", "%v", err)
						}
						t.ran(1)
					}
				})
			}
			group.Wait()
			return ctx.Err()
		})
	})
}

func (c *scene) competeForTag(ctx context.Context, pool *pgxpool.Pool, task *anchor.Task[Params], client *anchor.Client) error {
	p := c.params([]Deed{NoOp, Write}[rand.IntN(2)])
	tag := anchor.WithUniqueTag("tag "+strconv.Itoa(rand.IntN(200)), anchor.UniqueWhileLive)
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	id, err := task.RunWithTx(ctx, client, tx, p, tag)
	switch {
	case errors.Is(err, anchor.ErrTaskAlreadyExists):
		// The transaction must be usable as before.
		var one int
		return errors.Join(tx.QueryRow(ctx, "select 1").Scan(&one), tx.Commit(ctx))
	case err != nil:
		return err
	case rand.IntN(10) < 3:
		c.note(enqueued{key: p.Key, deed: p.Do, answer: refused})
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	c.note(enqueued{key: p.Key, deed: p.Do, id: id})
	return nil
}

// retryStorm has n tasks fail together, and looks at when they are due again.
func retryStorm(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, n, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "storm", t, func(c *scene) error {
			if err := c.keep(ctx, 2); err != nil {
				return err
			}
			const interval, spread = 25, 5 // seconds: a fifth is added at random
			if _, err := c.enqueue(ctx, n, FlakyOp, func(_ int, p *Params) { p.Fails = 1 }, anchor.WithRetryPolicy(fmt.Sprintf("%ds", interval), 3)); err != nil {
				return err
			}
			t.ran(n)
			c.inspect = func(h *history, v *verdict) {
				// What is added to the interval: how far they spread does not depend on how fast they failed.
				var busiest int
				perTenth := map[int]int{}
				for _, changes := range h.tasks {
					for i, change := range changes {
						if i > 0 && change.status == "pending" && change.attempts == 1 {
							perTenth[int(change.nextRun.Sub(change.at).Seconds()*10)]++
						}
					}
				}
				for tenth := range perTenth {
					second := 0
					for i := range 10 {
						second += perTenth[tenth+i]
					}
					busiest = max(busiest, second)
				}
				if busiest > 2*n/spread {
					v.add("I8", "%d of %d tasks that failed together are due again in one second, the mean is %d", busiest, n, n/spread)
				}
			}
			return nil
		})
	})
}
