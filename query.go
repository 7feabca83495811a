package anchor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	defaultPageSize = 100
	maxPageSize     = 10_000
)

// TaskQuery selects tasks for [Client.Tasks]. The zero value is the newest 100 of all.
type TaskQuery struct {
	// Name, Queue and UniqueTag select tasks of that name, queue or tag. "" is any.
	Name      string
	Queue     string
	UniqueTag string
	// Status selects tasks of any of these. Empty is any.
	Status []Status
	// Before is the keyset: tasks whose id is lower, the last id of the page before. 0 is from the newest.
	Before int64
	// Limit is the size of a page, 1 to 10,000. 0 is 100.
	Limit int
}

func (q *TaskQuery) check() error {
	var errs []error
	for _, status := range q.Status {
		switch status {
		case StatusPending, StatusRunning, StatusCompleted, StatusFailed, StatusCancelled:
		default:
			errs = append(errs, fmt.Errorf("status %q is none of pending, running, completed, failed, cancelled", status))
		}
	}
	for _, field := range []struct{ what, value string }{{"name", q.Name}, {"queue", q.Queue}, {"unique tag", q.UniqueTag}} {
		if field.value != "" {
			errs = append(errs, checkText(field.what, field.value, maxTagLength))
		}
	}
	if q.Limit < 0 || q.Limit > maxPageSize {
		errs = append(errs, fmt.Errorf("limit %d is not between 1 and %d, nor 0 for %d", q.Limit, maxPageSize, defaultPageSize))
	}
	if q.Before < 0 {
		errs = append(errs, fmt.Errorf("before %d is negative", q.Before))
	}
	if q.Limit == 0 {
		q.Limit = defaultPageSize
	}
	return errors.Join(errs...)
}

// Stats counts tasks by queue.
type Stats struct {
	// Queues has an entry for each queue that holds a task or is paused, in order of name.
	Queues []QueueStats `json:"queues"`
}

// QueueStats counts the tasks of one queue.
type QueueStats struct {
	Queue  string `json:"queue"`
	Paused bool   `json:"paused"`
	// PausedSince is zero when it is not paused.
	PausedSince time.Time `json:"pausedSince,omitzero"`
	// Ready are pending and due, Scheduled pending and not due yet.
	Ready     int64 `json:"ready"`
	Scheduled int64 `json:"scheduled"`
	Running   int64 `json:"running"`
	// Failed have failed for good and are still kept.
	Failed int64 `json:"failed"`
	// OldestReady is how long the oldest ready task has been due, 0 when there is none.
	OldestReady time.Duration `json:"oldestReady"`
}

// Task returns one task with its errors. errors.Is(err, ErrTaskNotFound) is true when there is none.
func (c *Client) Task(ctx context.Context, id int64) (*TaskInfo, error) {
	return c.store.task(ctx, id)
}

// Tasks returns a page of tasks with their errors, newest first. The next page is asked for with Before set
// to the last id of this one; tasks that come or go meanwhile do not shift the pages. Behind the last page is an
// empty one, never nil.
func (c *Client) Tasks(ctx context.Context, q TaskQuery) ([]*TaskInfo, error) {
	if err := q.check(); err != nil {
		return nil, fmt.Errorf("anchor: task query: %w", err)
	}
	return c.store.tasks(ctx, q)
}

// Stats counts the tasks of every queue. Its cost grows with the number of pending tasks.
func (c *Client) Stats(ctx context.Context) (*Stats, error) {
	return c.store.stats(ctx)
}

const (
	firstWaitInterval = 2 * time.Millisecond
	lastWaitInterval  = 500 * time.Millisecond
)

// Wait returns the task once it is completed, failed or cancelled, or an error when ctx ends first. It looks
// at growing intervals of up to half a second. errors.Is(err, ErrTaskNotFound) is true when there is no such
// task, or no longer.
func (c *Client) Wait(ctx context.Context, id int64) (*TaskInfo, error) {
	interval := firstWaitInterval
	for {
		task, err := c.store.task(ctx, id)
		if err != nil {
			return nil, err
		}
		if task.Status.Final() {
			return task, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("anchor: waiting for task %d: %w", id, context.Cause(ctx))
		case <-time.After(interval):
		}
		interval = min(interval*3/2, lastWaitInterval)
	}
}
