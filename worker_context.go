package anchor

import (
	"context"
	"sync"
	"time"
)

// attemptContext is the context of one attempt. Most of what a context costs is paid when it is first asked for
// something: a handler that never looks at it pays nothing.
type attemptContext struct {
	base     context.Context
	task     *claimedTask
	deadline time.Time

	mu      sync.Mutex
	inner   context.Context
	cancel  context.CancelCauseFunc
	release context.CancelFunc
	ended   bool
	cause   error // why it was ended before inner was made
}

var _ context.Context = (*attemptContext)(nil)

func (c *attemptContext) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancelCause(c.base)
		c.inner, c.release = context.WithDeadlineCause(c.inner, c.deadline, ErrTimeout)
		if c.ended {
			c.cancel(c.cause)
			c.release()
		}
	}
	return c.inner
}

// end cancels the context, the first time with a cause that counts.
func (c *attemptContext) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.cause = true, cause
	if c.inner != nil {
		c.cancel(cause)
		c.release()
	}
}

// endedBy is what ended the context early, nil while nothing did.
func (c *attemptContext) endedBy() error {
	c.mu.Lock()
	inner, ended, cause := c.inner, c.ended, c.cause
	c.mu.Unlock()
	switch {
	case inner != nil:
		return context.Cause(inner)
	case ended:
		return cause
	case context.Cause(c.base) != nil:
		return context.Cause(c.base)
	case !time.Now().Before(c.deadline):
		return ErrTimeout
	}
	return nil
}

func (c *attemptContext) Deadline() (time.Time, bool) { return c.deadline, true }
func (c *attemptContext) Done() <-chan struct{}       { return c.context().Done() }
func (c *attemptContext) Err() error                  { return c.context().Err() }

// Value hands everything but the task to the inner context, through which the context package finds the cause.
func (c *attemptContext) Value(key any) any {
	if key == (taskContextKey{}) {
		return c.task
	}
	return c.context().Value(key)
}
