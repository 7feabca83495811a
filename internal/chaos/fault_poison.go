//go:build unix

package chaos

import (
	"context"

	"github.com/anchor-go/anchor"
)

// poison enqueues tasks that kill their process among others. Every worker has one slot: what runs beside a poison task
// in one process is rightly charged with an attempt.
func poison(ctx context.Context, s *Suite, n int, t *tally) error {
	deeds := []Deed{ExitSelf, KillSelf, Devour}
	turn := make(chan Deed, n)
	for i := range n {
		turn <- deeds[i%len(deeds)]
	}
	return s.split(ctx, n, 1, func(ctx context.Context, _ int) error {
		deed := <-turn
		return s.inScene(ctx, s.ground, "poison", t, func(c *scene) error {
			c.setting.Concurrency = 1
			const attempts = 3
			if err := c.mixture(ctx, 50); err != nil {
				return err
			}
			ids, err := c.enqueue(ctx, 1, deed, nil, anchor.WithRetryPolicy("100ms", attempts))
			if err != nil {
				return err
			}
			if err := c.mixture(ctx, 50); err != nil {
				return err
			}
			c.inspect = func(h *history, v *verdict) {
				changes := h.tasks[ids[0]]
				if last := changes[len(changes)-1]; last.attempts != attempts {
					v.add("I4", "a poison task (%s) has ended after %d attempts, want %d", deed, last.attempts, attempts)
				}
			}
			t.ran(1)
			return c.keep(ctx, 2)
		})
	})
}
