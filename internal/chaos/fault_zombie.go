//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// zombies stops workers for three leases while others run their tasks, and wakes them.
func zombies(ctx context.Context, s *Suite, n int, t *tally) error {
	const rounds = 10
	return s.split(ctx, n, rounds, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "zombie", t, func(c *scene) error {
			if err := c.keep(ctx, 2); err != nil {
				return err
			}
			for range n {
				if err := c.zombie(ctx, t); err != nil {
					return err
				}
				t.ran(1)
			}
			return nil
		})
	})
}

// zombie stops a worker that holds tasks: one whose handler waits for the end of its context, some in the middle of
// their work, and some that are about to end.
func (c *scene) zombie(ctx context.Context, t *tally) error {
	held, err := c.enqueue(ctx, 1, Hold, func(_ int, p *Params) { p.Note = true })
	if err != nil {
		return err
	}
	id := held[0]
	var pid int
	if err := until(ctx, 20*time.Second, "the start of a handler", func() (bool, error) {
		n, err := c.count(ctx, "select coalesce(max(pid), 0) from starts where task_id = $1", id)
		pid = n
		return n != 0, err
	}); err != nil {
		return err
	}
	if err := c.mixture(ctx, 40); err != nil {
		return err
	}
	var zombie *process
	for _, p := range c.processes() {
		if p.pid() == pid {
			zombie = p
		}
	}
	if zombie == nil {
		return fmt.Errorf("no worker has process id %d", pid)
	}
	if err := sleep(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	if err := zombie.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	stopped := time.Now()
	err = c.outlive(ctx, id, pid, stopped)
	woken := time.Now()
	if err := errors.Join(err, zombie.signal(syscall.SIGCONT)); err != nil {
		return err
	}
	var late float64
	err = until(ctx, 10*time.Second, "the end of the zombie's context", func() (bool, error) {
		var found bool
		err := c.db.QueryRow(ctx, `select count(*) > 0, coalesce(extract(epoch from min(at)), 0)::float8 from woken where task_id = $1 and attempt = 1`, id).Scan(&found, &late)
		return found, err
	})
	if err != nil {
		c.violation("I8", "%v", err)
		return nil
	}
	took := time.Duration((late - float64(woken.UnixNano())/1e9) * float64(time.Second))
	t.recovered(took)
	if took > lease/3+c.suite.slack() {
		c.violation("I8", "a zombie's handler was told %v after it woke", took.Round(time.Millisecond))
	}
	return nil
}

// outlive waits for three leases, after which the task must have been run elsewhere and the zombie's locks be free.
func (c *scene) outlive(ctx context.Context, id int64, pid int, stopped time.Time) error {
	if err := sleep(ctx, time.Until(stopped.Add(3*lease))); err != nil {
		return err
	}
	if err := until(ctx, stillness, "the task of a zombie run elsewhere", func() (bool, error) {
		n, err := c.count(ctx, "select count(*) from anchor_tasks where id = $1 and status = 'completed'", id)
		return n == 1, err
	}); err != nil {
		c.violation("I8", "%v", err)
	}
	n, err := c.count(ctx, `select count(*) from pg_stat_activity where datname = current_database() and application_name = $1 and state like 'idle in transaction%'`,
		fmt.Sprintf("worker %d", pid))
	if err != nil {
		return err
	}
	if n > 0 {
		c.violation("I8", "%d transactions of a zombie are open after three leases", n)
	}
	return nil
}
