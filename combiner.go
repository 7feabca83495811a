package anchor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const (
	// combinedRows and combinedBytes bound one combined statement.
	combinedRows  = 1000
	combinedBytes = 4 << 20

	// enqueueTimeout bounds a combined statement, whose callers each have their own context.
	enqueueTimeout = 8 * time.Second
)

// combiner lets concurrent callers share a statement and its commit. The first caller that finds no flush
// under way starts one; who arrives meanwhile goes with the next. There is no timer, so a caller alone waits
// for nobody, and no goroutine once nobody waits.
type combiner struct {
	write func(ctx context.Context, tasks []*newTask) error

	mu       sync.Mutex
	waiting  []*combined
	flushing bool
}

// combined is one caller's task. The flush owns it from the moment it leaves waiting until done is closed.
type combined struct {
	task *newTask
	err  error
	done chan struct{}
}

func newCombiner(write func(ctx context.Context, tasks []*newTask) error) *combiner {
	return &combiner{write: write}
}

// enqueue returns once the task is durable, with its id set, or was refused. When ctx ends first it returns
// ctx's error, joined with ErrOutcomeUnknown if the statement was on its way.
func (c *combiner) enqueue(ctx context.Context, task *newTask) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The flush outlives a caller that leaves, so it never shares the caller's newTask.
	own := *task
	entry := &combined{task: &own, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, entry)
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
	c.mu.Unlock()
	select {
	case <-entry.done:
		task.id = own.id
		return entry.err
	case <-ctx.Done():
	}
	if c.withdraw(entry) {
		return ctx.Err()
	}
	select {
	case <-entry.done:
		task.id = own.id
		return entry.err
	default:
		return errors.Join(ctx.Err(), ErrOutcomeUnknown)
	}
}

// withdraw takes entry back if no flush has it yet.
func (c *combiner) withdraw(entry *combined) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, waiting := range c.waiting {
		if waiting == entry {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (c *combiner) flush() {
	for {
		// The callers of the flush before are about to enqueue again: let them, so that they go together.
		runtime.Gosched()
		batch := c.next()
		if batch == nil {
			return
		}
		tasks := make([]*newTask, len(batch))
		for i, entry := range batch {
			tasks[i] = entry.task
		}
		err := c.writeBatch(tasks)
		if err != nil && len(batch) > 1 && isDataError(err) {
			for i, entry := range batch {
				entry.err = c.writeBatch(tasks[i : i+1])
			}
		} else {
			for _, entry := range batch {
				entry.err = err
			}
		}
		for _, entry := range batch {
			close(entry.done)
		}
	}
}

// next takes the next batch, nil once nobody waits.
func (c *combiner) next() []*combined {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.flushing = false
		return nil
	}
	n, size := 0, 0
	for n < len(c.waiting) && n < combinedRows && (n == 0 || size < combinedBytes) {
		size += len(c.waiting[n].task.params)
		n++
	}
	batch := c.waiting[:n:n]
	c.waiting = append([]*combined(nil), c.waiting[n:]...)
	return batch
}

func (c *combiner) writeBatch(tasks []*newTask) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("anchor: enqueue: panic: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), enqueueTimeout)
	defer cancel()
	return c.write(ctx, tasks)
}
