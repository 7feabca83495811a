//go:build unix

package chaos

import (
	"context"
	"math/rand/v2"
	"time"
)

// killTicking kills workers that all tick one schedule of every second, n times.
func killTicking(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 20, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "schedule", t, func(c *scene) error {
			c.setting.Cron = "* * * * * *"
			if err := c.keep(ctx, 4); err != nil {
				return err
			}
			for range n {
				// Shortly around the tick.
				wait := time.Until(time.Now().Truncate(time.Second).Add(time.Second)) + time.Duration(rand.IntN(40)-10)*time.Millisecond
				if err := sleep(ctx, wait); err != nil {
					return err
				}
				if all := c.processes(); len(all) > 0 {
					all[rand.IntN(len(all))].kill()
					t.ran(1)
				}
			}
			if err := sleep(ctx, 2*lease); err != nil {
				return err
			}
			return c.endTicks(ctx)
		})
	})
}
