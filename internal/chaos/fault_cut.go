//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/chaos/proxy"
)

// cutAt is a site of cuts: the connection dies before its statement, after what it did was committed and before the
// answer came, or in between.
func cutAt(site string) func(ctx context.Context, s *Suite, n int, t *tally) error {
	return func(ctx context.Context, s *Suite, n int, t *tally) error {
		const cuts = 30
		return s.split(ctx, n, cuts, func(ctx context.Context, n int) error {
			return s.inScene(ctx, s.ground, "cut_"+site, t, func(c *scene) error {
				if site == "enqueue" {
					return c.cutEnqueues(ctx, n, t)
				}
				return c.cutWorker(ctx, site, n, t)
			})
		})
	}
}

// sites are the statements at which a worker's connection is cut.
var sites = map[string]proxy.Rule{
	"claim":  {Statement: "anchor_claim("},
	"finish": {Statement: "anchor_complete("},
	"settle": {Statement: "anchor_settle("},
	"commit": {Statement: "commit", Whole: true},
	"fail":   {Statement: "anchor_hold_claim("},
	"tick":   {Statement: "anchor_cron_tick("},
}

// patientLease is that of workers that are cut off: what they must tell apart is not to be decided by a lease that a busy
// machine lets run out.
const patientLease = 4 * time.Second

// turns are the acts, in turn.
var turns = []proxy.Act{proxy.CutAfter, proxy.CutBefore, proxy.CutAfter, proxy.CutDuring}

// cutEnqueues has an enqueuer lose its connection, and notes what it was told.
func (c *scene) cutEnqueues(ctx context.Context, n int, t *tally) error {
	if err := c.keep(ctx, 1); err != nil { // before the proxy, which it does not use
		return err
	}
	url, err := c.proxied()
	if err != nil {
		return err
	}
	const name = "cut-enqueuer"
	pool, err := pgxpool.New(ctx, url+"&application_name="+name)
	if err != nil {
		return err
	}
	defer pool.Close()
	task, client, err := newEnqueuer(pool)
	if err != nil {
		return err
	}
	for i := range n {
		act := turns[i%len(turns)]
		var opts []anchor.RunOption
		rule := proxy.Rule{Statement: "insert into public.anchor_tasks", Act: act}
		p := c.params([]Deed{Write, NoOp}[i/len(turns)%2])
		if i%3 == 0 { // a tagged task goes another way
			rule.Statement = "anchor_enqueue_tagged("
			opts = append(opts, anchor.WithUniqueTag(p.Key))
		}
		fired := c.proxy.Arm(rule)
		id, err := task.Run(ctx, client, p, opts...)
		select {
		case <-fired:
			t.ran(1)
		default:
			return fmt.Errorf("an enqueue did not come by the proxy: %w", err)
		}
		e := enqueued{key: p.Key, deed: p.Do, id: id}
		switch {
		case err == nil:
			if act != proxy.CutBefore { // the store may have sent it again, when nothing was sent before
				c.violation("I1", "an enqueue whose connection died was acknowledged")
			}
		case errors.Is(err, anchor.ErrOutcomeUnknown):
			e.answer = unknown
		default:
			e.answer = refused
		}
		c.note(e)
		if act != proxy.CutAfter || err == nil {
			continue
		}
		// The server has committed: it must be there, and nobody may say that it is not.
		if e.answer == refused {
			c.violation("I1", "a committed enqueue was refused: %v", err)
		}
		found, err := c.count(ctx, "select count(*) from anchor_tasks where spec->>'key' = $1", p.Key)
		if err != nil {
			return err
		}
		if found != 1 {
			c.violation("I1", "an enqueue that the server had committed is there %d times", found)
		}
	}
	pool.Close()
	// What was cut off may still be about to commit: the last look at the tasks has to come behind it.
	return until(ctx, stillness, "the end of the backends that were cut off", func() (bool, error) {
		left, err := c.count(ctx, "select count(*) from pg_stat_activity where application_name = $1", name)
		return left == 0, err
	})
}

// cutWorker has a worker lose its connection at a site.
func (c *scene) cutWorker(ctx context.Context, site string, n int, t *tally) error {
	if _, err := c.proxied(); err != nil {
		return err
	}
	c.setting.Lease = patientLease
	if site == "tick" {
		c.setting.Cron = "* * * * * *"
	}
	p, err := c.start(ctx)
	if err != nil {
		return err
	}
	wanted := map[int64]int{} // attempts
	c.inspect = func(h *history, v *verdict) {
		for id, want := range wanted {
			if last := h.tasks[id][len(h.tasks[id])-1]; last.attempts != want {
				v.add("I4", "task %d was cut off at its %s and has ended after %d attempts, want %d: the outcome was not told apart: %v", id, site, last.attempts, want, h.tasks[id])
			}
		}
	}
	for i := range n {
		rule := sites[site]
		rule.Act = turns[i%len(turns)]
		fired := c.proxy.Arm(rule)
		ids, attempts, err := c.lure(ctx, site)
		if err != nil {
			return err
		}
		// A handler's transaction that did not commit costs an attempt; nothing else does.
		for _, id := range ids {
			if site != "commit" || rule.Act == proxy.CutAfter {
				wanted[id] = attempts
			}
		}
		select {
		case <-fired:
			t.ran(1)
		case <-time.After(20 * time.Second):
			return fmt.Errorf("cut %d of %d: the worker has not come to %s", i, n, site)
		case <-ctx.Done():
			return ctx.Err()
		}
		// Lest a retry meets the next cut.
		if err := until(ctx, stillness, "the end of tasks that were cut off", func() (bool, error) {
			n, err := c.count(ctx, "select count(*) from anchor_tasks_hot where id = any ($1)", ids)
			return n == 0, err
		}); err != nil {
			c.violation("I8", "%v", err)
		}
	}
	if p.hasEnded() {
		c.violation("I8", "a worker process has ended with its connection: %v", p.cmd.ProcessState)
	}
	if c.setting.Cron != "" {
		return c.endTicks(ctx)
	}
	return nil
}

// lure enqueues what leads a worker to a site, and tells how many attempts it takes.
func (c *scene) lure(ctx context.Context, site string) (ids []int64, attempts int, err error) {
	switch site {
	case "claim", "finish":
		ids, err = c.enqueue(ctx, 3, NoOp, nil)
	case "settle":
		ids, err = c.enqueue(ctx, 2, FlakyOp, func(_ int, p *Params) { p.Fails = 1 })
		return ids, 2, err
	case "commit":
		// One alone: a second one might meet the cut in its stead.
		ids, err = c.enqueue(ctx, 1, Write, nil)
	case "fail":
		ids, err = c.enqueue(ctx, 2, Fail, nil, anchor.WithRetryPolicy("100ms", 1))
	}
	return ids, 1, err
}

// halfOpen stalls all connections of a worker and an enqueuer: nobody says that they are dead.
func halfOpen(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 2, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "half_open", t, func(c *scene) error {
			c.allow = []string{"25P03"} // the idle limit of transactions whose client says nothing
			if _, err := c.proxied(); err != nil {
				return err
			}
			// Handlers' own statements are theirs to bound: the timeout does.
			opts := []anchor.RunOption{anchor.WithTimeout(3 * time.Second)}
			if _, err := c.start(ctx); err != nil {
				return err
			}
			for range n {
				if _, err := c.enqueue(ctx, 50, Write, func(_ int, p *Params) { p.Millis = rand.IntN(100) }, opts...); err != nil {
					return err
				}
				if err := sleep(ctx, 300*time.Millisecond); err != nil {
					return err
				}
				if c.proxy.StallAll() == 0 {
					return errors.New("there was no connection to stall")
				}
				stalled := time.Now()
				t.ran(1)
				if err := c.heardAgain(ctx, stalled, t); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// heardAgain holds that a worker whose connections have stalled claims and listens again in 15 s.
func (c *scene) heardAgain(ctx context.Context, stalled time.Time, t *tally) error {
	const limit = 15 * time.Second
	ids, err := c.enqueue(ctx, 5, NoOp, nil)
	if err != nil {
		return err
	}
	if err := until(ctx, limit+c.suite.slack(), "a task run by a worker whose connections had stalled", func() (bool, error) {
		n, err := c.count(ctx, "select count(*) from anchor_tasks where id = any ($1) and status = 'completed'", ids)
		return n == len(ids), err
	}); err != nil {
		c.violation("I8", "%v", err)
	}
	if err := until(ctx, time.Until(stalled.Add(limit+c.suite.slack())), "a new listener of a worker whose connections had stalled", func() (bool, error) {
		n, err := c.count(ctx, `select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %' and backend_start > $1`, stalled)
		return n >= 1, err
	}); err != nil {
		c.violation("I8", "%v", err)
	}
	t.recovered(time.Since(stalled))
	c.proxy.CutStalled()
	return nil
}
