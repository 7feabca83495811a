//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/anchor-go/anchor/internal/testdb"
)

// shutdownStates are what a server says that ends or starts, and to clients whose backends end.
var shutdownStates = []string{"57P01", "57P02", "57P03", "08006", "08P01", "3D000"}

// crashServer crashes the whole server under load: an immediate stop, or kill -9 of a backend, which makes the server
// end all others and recover.
func crashServer(ctx context.Context, s *Suite, n int, t *tally) error {
	const crashes = 15
	return s.split(ctx, n, crashes, func(ctx context.Context, n int) (err error) {
		g, err := s.otherGround(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.cluster.Stop()) }()
		return s.inScene(ctx, g, "crash", t, func(c *scene) error {
			c.allow = shutdownStates
			if err := c.keep(ctx, 2); err != nil {
				return err
			}
			for i := range n {
				if err := c.mixture(ctx, 60); err != nil {
					return err
				}
				if err := sleep(ctx, time.Duration(200+rand.IntN(300))*time.Millisecond); err != nil {
					return err
				}
				if err := c.crash(ctx, i%2 == 0); err != nil {
					return err
				}
				if err := c.worksAgain(ctx, t); err != nil {
					return err
				}
				t.ran(1)
			}
			return nil
		})
	})
}

func (c *scene) crash(ctx context.Context, immediate bool) error {
	if immediate {
		return c.ground.cluster.Restart(ctx, testdb.Immediate)
	}
	pid, err := c.count(ctx, `select pid from pg_stat_activity where datname = current_database() and application_name like 'worker %'
order by random() limit 1`)
	if err != nil {
		return err
	}
	conn, err := c.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := killBackend(pid); err != nil {
		return err
	}
	// The suite's own connections die with the others.
	if _, err := conn.Exec(ctx, "select pg_sleep(60)"); err == nil {
		return errors.New("the server has outlived the death of a backend")
	}
	return until(ctx, time.Minute, "the server's recovery", func() (bool, error) {
		c.db.Reset() // a connection that is not ended yet may still answer
		n, err := c.count(ctx, "select 1")
		return err == nil && n == 1, nil
	})
}

// worksAgain holds that workers run a new task within 5 s of the server's being ready.
func (c *scene) worksAgain(ctx context.Context, t *tally) error {
	ready := time.Now()
	c.db.Reset()
	ids, err := c.enqueue(ctx, 1, Write, nil)
	if err != nil {
		return err
	}
	if err := until(ctx, stillness, "a task run after the server's crash", func() (bool, error) {
		n, err := c.count(ctx, "select count(*) from anchor_tasks where id = $1 and status = 'completed'", ids[0])
		return n == 1, err
	}); err != nil {
		c.violation("I8", "%v", err)
		return nil
	}
	took := time.Since(ready)
	t.recovered(took)
	if took > 5*time.Second+c.suite.slack() {
		c.violation("I8", "workers ran nothing for %v after the server was ready", took.Round(time.Millisecond))
	}
	return nil
}

// endBackends ends connections of workers, of any of them, one by one.
func endBackends(ctx context.Context, s *Suite, n int, t *tally) error {
	const ends = 50
	return s.split(ctx, n, ends, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "backend", t, func(c *scene) error {
			workers := []*process{}
			for range 2 {
				p, err := c.start(ctx)
				if err != nil {
					return err
				}
				workers = append(workers, p)
			}
			if err := c.mixture(ctx, 6*n); err != nil {
				return err
			}
			for done := 0; done < n; {
				if err := sleep(ctx, time.Duration(20+rand.IntN(60))*time.Millisecond); err != nil {
					return err
				}
				ended, err := c.count(ctx, `select count(pg_terminate_backend(pid)) from (
  select pid from pg_stat_activity where datname = current_database() and application_name like 'worker %' order by random() limit 1) a`)
				if err != nil {
					return err
				}
				t.ran(ended)
				done += ended
			}
			for _, p := range workers {
				if p.hasEnded() {
					c.violation("I8", "a worker process has ended with a backend: %v", p.cmd.ProcessState)
				}
			}
			return nil
		})
	})
}

// starve takes all connections of the server for a while, when workers need new ones.
func starve(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 5, func(ctx context.Context, n int) (err error) {
		g, err := s.otherGround(ctx, "max_connections=40", "superuser_reserved_connections=3")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.cluster.Stop()) }()
		return s.inScene(ctx, g, "starve", t, func(c *scene) error {
			c.allow = append([]string{"53300"}, shutdownStates...)
			// Superusers have connections in reserve: workers must not.
			if err := c.asWorkerRole(ctx); err != nil {
				return err
			}
			c.setting.Connections = 2
			if err := c.keep(ctx, 1); err != nil {
				return err
			}
			for range n {
				if err := c.mixture(ctx, 30); err != nil {
					return err
				}
				if err := c.takeConnections(ctx, 3*lease); err != nil {
					return err
				}
				if err := c.worksAgain(ctx, t); err != nil {
					return err
				}
				t.ran(1)
			}
			return nil
		})
	})
}

// asWorkerRole makes workers that start from now on connect as a role that is no superuser.
func (c *scene) asWorkerRole(ctx context.Context) error {
	_, err := c.db.Exec(ctx, `do $$ begin if not exists (select from pg_roles where rolname = 'chaos_worker') then create role chaos_worker login; end if; end $$;
grant usage on schema public to chaos_worker;
grant all on all tables in schema public to chaos_worker;
grant all on all sequences in schema public to chaos_worker`)
	c.setting.URL += "&user=chaos_worker"
	return err
}

// takeConnections ends the workers' backends and holds all connections that a plain role can have.
func (c *scene) takeConnections(ctx context.Context, d time.Duration) error {
	held, err := holdConnections(ctx, c.setting.URL, func() error {
		_, err := c.db.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'worker %'")
		return err
	})
	defer held.release()
	if err != nil {
		return fmt.Errorf("take all connections: %w", err)
	}
	return sleep(ctx, d)
}
