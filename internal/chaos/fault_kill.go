//go:build unix

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/chaos/pause"
)

// mixture is what most faults are done to: tasks that write, that do not, that fail sometimes, and that fail for good.
func (c *scene) mixture(ctx context.Context, n int) error {
	for _, part := range []struct {
		deed  Deed
		share int
		opts  []anchor.RunOption
	}{
		{Write, 40, nil},
		{NoOp, 30, nil},
		{Flaky, 10, nil},
		{FlakyOp, 10, nil},
		{Fail, 10, []anchor.RunOption{anchor.WithRetryPolicy("100ms", 3)}},
	} {
		_, err := c.enqueue(ctx, max(n*part.share/100, 1), part.deed, func(_ int, p *Params) {
			p.Millis, p.Fails = rand.IntN(200), 1
		}, part.opts...)
		if err != nil {
			return err
		}
	}
	return nil
}

// death is a worker's end, and the ids that it worked under.
type death struct {
	at  time.Time
	ids []string
}

// deaths are those of one scene. It is safe for concurrent use.
type deaths struct {
	mu  sync.Mutex
	all []death
}

// kill ends a worker, and notes that.
func (d *deaths) kill(ctx context.Context, c *scene, p *process) error {
	ids, err := c.workerIDs(ctx, p)
	if err != nil {
		return err
	}
	at := time.Now()
	p.kill()
	d.note(at, ids)
	return nil
}

func (d *deaths) note(at time.Time, ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, death{at, ids})
}

// measure tells the tally how long after each death the dead one's tasks were taken back, and holds that to the promise.
func (d *deaths) measure(s *Suite, t *tally) func(h *history, v *verdict) {
	return func(h *history, v *verdict) {
		for _, changes := range h.tasks {
			for i, c := range changes {
				if c.source != takeBackSource || i == 0 {
					continue
				}
				for _, death := range d.all {
					if !slices.Contains(death.ids, changes[i-1].worker) {
						continue
					}
					took := c.at.Sub(death.at)
					t.recovered(took)
					if took > lease+takeBackEvery+s.slack() {
						v.add("I8", "a task was taken back %v after the death of its worker", took.Round(time.Millisecond))
					}
				}
			}
		}
	}
}

// slack is what the promise of taking back allows for beyond lease and interval: a second, and one more in the tests.
func (s *Suite) slack() time.Duration { return time.Second + s.busy/2 }

// killAtRandom kills workers under load.
func killAtRandom(ctx context.Context, s *Suite, n int, t *tally) error {
	const kills, tasks = 10, 670
	return s.split(ctx, n, kills, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "kill", t, func(c *scene) error {
			if err := c.mixture(ctx, tasks*n/kills); err != nil {
				return err
			}
			if err := c.keep(ctx, 3); err != nil {
				return err
			}
			var d deaths
			c.inspect = d.measure(s, t)
			for range n {
				if err := sleep(ctx, time.Duration(200+rand.IntN(250))*time.Millisecond); err != nil {
					return err
				}
				all := c.processes()
				if len(all) == 0 {
					continue
				}
				if err := d.kill(ctx, c, all[rand.IntN(len(all))]); err != nil {
					return err
				}
				t.ran(1)
			}
			return nil
		})
	})
}

// points are the pause points that are struck. At before-tick-insert one is stopped only to bring a mistake out.
var points = []string{
	"after-claim-commit", "before-handler", "after-handler", "before-finish", "before-commit", "after-commit-sent",
	"before-hook", "in-heartbeat", "in-takeback", "after-tick-insert",
}

// strikeRule is a rule, and the attempt of the tasks that lead to its point.
type strikeRule struct {
	pause.Rule
	attempt int
}

// pointRules are all combinations of point, action and attempt, those that kill first.
func pointRules() []strikeRule {
	var rules []strikeRule
	for _, action := range []pause.Action{pause.Kill, pause.Error, pause.Stop, pause.Delay} {
		for attempt := 1; attempt <= 2; attempt++ {
			for _, point := range points {
				rule := pause.Rule{Point: point, Action: action, Attempt: attempt, Delay: 3 * lease / 2}
				switch point {
				case "in-heartbeat", "after-tick-insert":
					rule.Attempt, rule.Skip = 0, attempt-1
				case "in-takeback":
					rule.Attempt = 0
				}
				rules = append(rules, strikeRule{rule, attempt})
			}
		}
	}
	return rules
}

// strikeAtPoints has a worker act at each of the first n combinations, over and over if there are fewer.
func strikeAtPoints(ctx context.Context, s *Suite, n int, t *tally) error {
	rules := pointRules()
	next := make(chan strikeRule, n)
	for i := range n {
		next <- rules[i%len(rules)]
	}
	return s.split(ctx, n, 1, func(ctx context.Context, _ int) error {
		rule := <-next
		return s.inScene(ctx, s.ground, "point_"+rule.Point, t, func(c *scene) error {
			return c.strike(ctx, rule, t)
		})
	})
}

// strike starts a worker that meets a rule among tasks of some deeds, several by default, and another one once it has.
func (c *scene) strike(ctx context.Context, rule strikeRule, t *tally, deeds ...Deed) error {
	attempt := rule.attempt
	if rule.Point == "after-tick-insert" {
		c.setting.Cron = "* * * * * *"
	}
	if rule.Point == "in-takeback" {
		if err := c.leaveOrphans(ctx, attempt); err != nil {
			return err
		}
	}
	victim, err := c.start(ctx, rule.Rule)
	if err != nil {
		return err
	}
	slow := 0
	if rule.Action == pause.Stop {
		slow = 2500 // so that it wakes while its tasks run elsewhere
	}
	if len(deeds) > 0 {
		slow *= 2
	} else {
		deeds = []Deed{Write, NoOp, Flaky, FlakyOp}
	}
	// A worker that loses its lease before an attempt has started does not come by with that one.
	for hit, tries := false, 1; !hit; tries++ {
		for _, deed := range deeds {
			if _, err := c.enqueue(ctx, 5, deed, func(_ int, p *Params) { p.Fails, p.Slow = 1, slow }); err != nil {
				return err
			}
		}
		if _, err := c.enqueue(ctx, 2, Fail, nil, anchor.WithRetryPolicy("100ms", attempt)); err != nil {
			return err
		}
		select {
		case <-victim.hit:
			hit = true
		case <-time.After(3 * time.Second):
			if tries == 10 {
				return fmt.Errorf("%v, attempt %d, was not reached by %d times as many tasks as lead there", rule.Rule, attempt, tries)
			}
		}
	}
	t.ran(1)
	ids, err := c.workerIDs(ctx, victim)
	if err != nil {
		return err
	}
	struck := time.Now()
	if _, err := c.start(ctx); err != nil {
		return err
	}
	switch rule.Action {
	case pause.Kill:
		<-victim.ended
		var d deaths
		d.note(struck, ids)
		c.inspect = d.measure(c.suite, t)
	case pause.Stop:
		if err := c.begunAgain(ctx, ids); err != nil {
			return err
		}
		if err := victim.signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	if c.setting.Cron != "" {
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		return c.endTicks(ctx)
	}
	return nil
}

// begunAgain waits until all that stopped workers held is in other hands, or has ended.
func (c *scene) begunAgain(ctx context.Context, workers []string) error {
	rows, err := c.db.Query(ctx, "select id from anchor_tasks_hot where status = 'running' and worker_id = any ($1::uuid[])", workers)
	if err != nil {
		return err
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	if err := sleep(ctx, lease); err != nil {
		return err
	}
	return until(ctx, 30*time.Second, "another start of what a stopped worker held", func() (bool, error) {
		n, err := c.count(ctx, "select count(*) from anchor_tasks_hot where id = any ($1) and (status <> 'running' or worker_id = any ($2::uuid[]))", held, workers)
		return n == 0, err
	})
}

// leaveOrphans has a worker die with tasks in its hands, in the given attempt.
func (c *scene) leaveOrphans(ctx context.Context, attempt int) error {
	p, err := c.start(ctx)
	if err != nil {
		return err
	}
	if _, err := c.enqueue(ctx, 3, Hold, func(_ int, p *Params) { p.Fails = attempt - 1 }); err != nil {
		return err
	}
	if err := until(ctx, 20*time.Second, "three running tasks", func() (bool, error) {
		n, err := c.count(ctx, "select count(*) from anchor_tasks_hot where status = 'running' and attempts = $1", attempt)
		return n == 3, err
	}); err != nil {
		return err
	}
	p.kill()
	return nil
}

// endTicks stops the schedule, and holds it to one instance a tick (I7).
func (c *scene) endTicks(ctx context.Context) error {
	if err := c.client.PauseCron(ctx, TaskName); err != nil {
		return err
	}
	rows, err := c.db.Query(ctx, `select attributes->>'scheduledFor', count(*) from anchor_tasks
where attributes->>'scheduledFor' is not null group by 1 order by (attributes->>'scheduledFor')::timestamptz`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var before time.Time
	ticks := 0
	for rows.Next() {
		var text string
		var instances int
		if err := rows.Scan(&text, &instances); err != nil {
			return err
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return err
		}
		if instances != 1 {
			c.violation("I7", "the tick %s has %d instances", text, instances)
		}
		if ticks > 0 && !at.Equal(before.Add(time.Second)) {
			c.violation("I7", "the tick %s follows %v, although every second is one and all are caught up with", text, before)
		}
		before = at
		ticks++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if ticks == 0 {
		c.violation("I7", "no tick has an instance")
	}
	return nil
}
