package anchor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Cancel ends a pending task at once, its status is cancelled when Cancel returns. A running one is asked to
// end: its worker cancels the handler's context with the cause [ErrCancelled], at once where the worker can
// listen and within a third of its lease otherwise. A handler that returns an error then leaves the task
// cancelled; one that returns nil has completed it. The failure hook is not called. A unique tag of scope
// [UniqueWhileLive] is released.
//
// errors.Is(err, ErrTaskNotFound) or errors.Is(err, ErrTaskNotCancellable) is true when there is nothing to cancel.
func (c *Client) Cancel(ctx context.Context, id int64) error {
	return c.store.cancel(ctx, nil, id)
}

// CancelWithTx is [Client.Cancel] as a part of the caller's transaction: nothing is cancelled unless it
// commits. Its errors leave tx usable.
func (c *Client) CancelWithTx(ctx context.Context, tx pgx.Tx, id int64) error {
	if noTx(tx) {
		return errNilTx
	}
	return c.store.cancel(ctx, tx, id)
}

// Retry makes a failed or cancelled task pending and due now, with its attempts counted from 0; the errors on
// record stay. A unique tag that the task no longer holds is taken again, in the scope [UniqueWhileLive].
//
// errors.Is(err, ErrTaskNotFound), errors.Is(err, ErrTaskNotRetryable) or, when another task holds the tag by
// now, errors.Is(err, ErrTaskAlreadyExists) is true when the task stays as it is.
func (c *Client) Retry(ctx context.Context, id int64) error {
	return c.store.retry(ctx, id)
}

// ReleaseTag frees a unique tag, so that another task may take it. The task that held it is not touched. A
// tag that nobody holds is no error.
func (c *Client) ReleaseTag(ctx context.Context, tag string) error {
	if err := checkText("unique tag", tag, maxTagLength); err != nil {
		return fmt.Errorf("anchor: ReleaseTag: %w", err)
	}
	return c.store.releaseTag(ctx, tag)
}

// PauseQueue stops the claiming of the queue's tasks in every worker, until [Client.ResumeQueue]. Running
// tasks are not touched; tasks may still be enqueued.
func (c *Client) PauseQueue(ctx context.Context, queue string) error {
	return c.setPaused(ctx, "PauseQueue", queue, true)
}

// ResumeQueue ends a pause. A queue that is not paused is no error.
func (c *Client) ResumeQueue(ctx context.Context, queue string) error {
	return c.setPaused(ctx, "ResumeQueue", queue, false)
}

func (c *Client) setPaused(ctx context.Context, method, queue string, paused bool) error {
	if err := checkText("queue", queue, maxQueueLength); err != nil {
		return fmt.Errorf("anchor: %s: %w", method, err)
	}
	return c.store.setPaused(ctx, queue, paused)
}
