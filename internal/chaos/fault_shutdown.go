//go:build unix

package chaos

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"
)

// shutdownGrace is how long after its deadline a shutdown may end.
const shutdownGrace = time.Second

// shutdowns stop workers by SIGTERM under load, some of them by two, with handlers that go on past the deadline.
// What is measured ends when Work returns: the suite's own program then looks for what was left behind.
func shutdowns(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 20, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "shutdown", t, func(c *scene) error {
			c.setting.ShutdownTimeout = 500 * time.Millisecond
			var noted []int64
			load := func(n int) error {
				for _, deed := range []Deed{Write, NoOp} {
					ids, err := c.enqueue(ctx, n, deed, func(i int, p *Params) {
						p.Note = true
						if p.Millis = rand.IntN(300); i%20 == 0 {
							p.Millis = 1500
						}
					})
					if err != nil {
						return err
					}
					noted = append(noted, ids...)
				}
				return nil
			}
			c.inspect = func(h *history, v *verdict) { v.checkStarts(h, noted) }
			for i := range n {
				if err := load(20); err != nil {
					return err
				}
				p, err := c.start(ctx)
				if err != nil {
					return err
				}
				if err := sleep(ctx, time.Duration(50+rand.IntN(400))*time.Millisecond); err != nil {
					return err
				}
				if i%2 == 1 {
					if err := p.signal(syscall.SIGTERM); err != nil {
						return err
					}
					if err := sleep(ctx, 20*time.Millisecond); err != nil {
						return err
					}
					if p.hasEnded() {
						t.ran(1)
						continue
					}
				}
				began := time.Now()
				took, bye, err := p.stop(30 * time.Second)
				if err != nil {
					c.violation("I9", "a worker that was stopped: %v", err)
				} else {
					c.checkFarewell(bye)
					took = bye.Returned.Sub(began)
				}
				t.recovered(took)
				if took > c.setting.ShutdownTimeout+shutdownGrace+s.busy {
					c.violation("I8", "a shutdown with a deadline of %v took %v", c.setting.ShutdownTimeout, took.Round(time.Millisecond))
				}
				t.ran(1)
			}
			return c.keep(ctx, 1)
		})
	})
}
