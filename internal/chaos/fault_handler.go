//go:build unix

package chaos

import (
	"context"
	"slices"
	"time"

	"github.com/anchor-go/anchor"
)

// misbehaviour has handlers do what no handler should, among others that behave. A deed that fails must have used its
// attempts one by one, and freed its slot each time.
func misbehaviour(deeds ...Deed) func(ctx context.Context, s *Suite, n int, t *tally) error {
	return func(ctx context.Context, s *Suite, n int, t *tally) error {
		const each = 10
		isolations := []string{"", "repeatable read", "serializable"}
		turn := make(chan string, n)
		for i := range n {
			turn <- isolations[i%len(isolations)]
		}
		return s.split(ctx, n, each*len(deeds), func(ctx context.Context, n int) error {
			return s.inScene(ctx, s.ground, "handler", t, func(c *scene) error {
				// What the deeds do on purpose.
				c.allow = []string{"22012", "23505", "25006", "25P02", "AN002"}
				if slices.Contains(deeds, Deadlock) {
					c.allow = append(c.allow, "40P01")
				}
				c.setting.Isolation = <-turn
				c.setting.Concurrency = 4 // fewer than there are bad ones: slots must come back
				var bad []int64
				for i := range n {
					deed := deeds[i%len(deeds)]
					attempts := anchor.WithRetryPolicy("50ms", 2)
					if deed == Deadlock {
						attempts = anchor.WithRetryPolicy("20ms", 200)
					}
					ids, err := c.enqueue(ctx, 1, deed, func(_ int, p *Params) { p.Note = true }, attempts)
					if err != nil {
						return err
					}
					bad = append(bad, ids...)
				}
				if _, err := c.enqueue(ctx, 50, Write, nil); err != nil {
					return err
				}
				if _, err := c.start(ctx); err != nil {
					return err
				}
				t.ran(n)
				c.inspect = func(h *history, v *verdict) {
					v.checkStarts(h, bad)
				}
				return nil
			})
		})
	}
}

// deaf has handlers ignore the end of their context for longer than they may: the slot comes back, the task is retried,
// and nothing of the attempt is applied.
func deaf(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 8, func(ctx context.Context, n int) error {
		return s.inScene(ctx, s.ground, "deaf", t, func(c *scene) error {
			c.allow = []string{"25P03"} // the idle limit of a transaction that a handler leaves alone
			c.setting.Concurrency = 4
			// Each is over its timeout by more than the 5 s of grace, and fails.
			ids, err := c.enqueue(ctx, n, Deaf, func(_ int, p *Params) { p.Millis, p.Note = 9000, true },
				anchor.WithRetryPolicy("50ms", 1), anchor.WithTimeout(500*time.Millisecond))
			if err != nil {
				return err
			}
			c.open()
			if _, err := c.enqueue(ctx, 20, Write, nil); err != nil {
				return err
			}
			if _, err := c.start(ctx); err != nil {
				return err
			}
			t.ran(n)
			c.inspect = func(h *history, v *verdict) {
				for _, id := range ids {
					if last := h.tasks[id][len(h.tasks[id])-1]; last.status != "failed" {
						v.add("I2", "task %d, whose handler was deaf, is %s", id, last.status)
					}
				}
				v.checkStarts(h, ids)
			}
			return nil
		})
	})
}
