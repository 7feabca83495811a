package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
)

// collect is a handler that adds N of its parameters.
func collect(ran *values[int]) handler {
	return func(_ context.Context, _ pgx.Tx, p *Params) error {
		ran.add(p.N)
		return nil
	}
}

func failWith(text string) handler {
	return func(context.Context, pgx.Tx, *Params) error { return errors.New(text) }
}

var workCases = []Case{
	{"completion", "A task whose handler returns nil has completed, in one attempt, by a worker.", func(c *Check) {
		info := c.worked(c.one(succeed))
		c.equal("status", anchor.StatusCompleted, info.Status)
		c.equal("attempts", 1, info.Attempts)
		c.equal("errors", 0, len(info.Errors))
		if info.WorkerID == "" || info.StartedAt.IsZero() || info.FinishedAt.Before(info.StartedAt) {
			c.Errorf("worker %q, started %v, finished %v", info.WorkerID, info.StartedAt, info.FinishedAt)
		}
	}},
	{"priority", "Of what is ready the lowest priority runs first.", func(c *Check) {
		var ran values[int]
		task := c.one(collect(&ran))
		for _, priority := range []int{5, -5, 100, 0, -100} {
			c.enqueueWith(task, Params{N: priority}, anchor.WithPriority(priority))
		}
		c.work(anchor.WithConcurrency(1))
		c.eventually("all ran", func() bool { return len(ran.list()) == 5 })
		c.equal("order", []int{-100, -5, 0, 5, 100}, ran.list())
	}},
	{"first-in-first-out", "Of one priority the task that is due first runs first.", func(c *Check) {
		var ran values[int]
		task := c.one(collect(&ran))
		for n := range 5 {
			c.enqueueWith(task, Params{N: n})
		}
		c.work(anchor.WithConcurrency(1))
		c.eventually("all ran", func() bool { return len(ran.list()) == 5 })
		c.equal("order", []int{0, 1, 2, 3, 4}, ran.list())
	}},
	{"not-before-due", "A task does not start before it is due.", func(c *Check) {
		info := c.worked(c.one(succeed), anchor.WithDelay(100*time.Millisecond))
		if info.StartedAt.Before(info.NextRun) {
			c.Errorf("due at %v, started at %v", info.NextRun, info.StartedAt)
		}
	}},
	{"later-is-not-now", "A task that is due later is not claimed with those that are due.", func(c *Check) {
		task, fence := c.task(succeed), c.task(succeed)
		c.know(task, fence)
		c.work()
		id := c.enqueue(task, anchor.WithDelay(time.Hour))
		c.fence(fence)
		c.wantStatus(id, anchor.StatusPending)
	}},
	{"no-handler", "A worker leaves alone what it has no handler for.", func(c *Check) {
		task, fence := c.task(nil), c.task(succeed)
		c.know(task, fence)
		id := c.enqueue(task)
		c.work()
		c.fence(fence)
		c.wantStatus(id, anchor.StatusPending)
	}},
	{"work-queues", "A worker of some queues leaves the others alone.", func(c *Check) {
		task := c.one(succeed)
		other := c.enqueue(task, anchor.WithQueue(c.prefix+"-other"))
		c.work(anchor.WithQueues(c.queue(), c.prefix+"-fence"))
		c.endsAs(c.enqueue(task), anchor.StatusCompleted)
		c.fence(task)
		c.wantStatus(other, anchor.StatusPending)
	}},
	{"pause", "A paused queue is not worked on until it is resumed.", func(c *Check) {
		task := c.one(succeed)
		c.must(c.client.PauseQueue(c.ctx, c.queue()))
		id := c.enqueue(task)
		c.work()
		c.fence(task)
		c.wantStatus(id, anchor.StatusPending)
		c.must(c.client.ResumeQueue(c.ctx, c.queue()))
		c.endsAs(id, anchor.StatusCompleted)
	}},
	{"resume-of-what-runs", "Resuming a queue that is not paused is no error.", func(c *Check) {
		c.one(nil)
		c.must(c.client.ResumeQueue(c.ctx, c.queue()))
	}},
	{"handler-sees-params", "A handler gets the parameters of its task.", func(c *Check) {
		var ran values[Params]
		task := c.one(func(_ context.Context, _ pgx.Tx, p *Params) error {
			ran.add(*p)
			return nil
		})
		want := Params{N: 3, Text: "ü\"", Any: []any{"x", 1.0}}
		id := c.enqueueWith(task, want)
		c.work()
		c.endsAs(id, anchor.StatusCompleted)
		c.equal("params", []Params{want}, ran.list())
	}},
	{"handler-sees-task", "A handler finds its task in its context.", func(c *Check) {
		var seen values[string]
		task := c.one(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			info, ok := anchor.TaskFromContext(ctx)
			if !ok {
				return errors.New("no task")
			}
			if seen.add(fmt.Sprint(info.ID, info.Name, info.Queue, info.Status, info.Attempts, info.MaxAttempts, info.UniqueTag)) == 1 {
				return errBroken
			}
			return nil
		})
		info := c.worked(task, anchor.WithUniqueTag(c.tag("t")))
		want := []string{}
		for attempt := 1; attempt <= 2; attempt++ {
			want = append(want, fmt.Sprint(info.ID, task.Name(), c.queue(), anchor.StatusRunning, attempt, 2, c.tag("t")))
		}
		c.equal("tasks", want, seen.list())
	}},
	{"each-task-once", "Two workers that share a queue run each of its tasks once.", func(c *Check) {
		var ran values[int]
		task := c.one(collect(&ran))
		var many []*Params
		for n := range 100 {
			many = append(many, &Params{N: n})
		}
		ids, err := task.RunMany(c.ctx, c.client, many)
		c.must(err)
		c.work()
		c.work()
		for _, id := range ids {
			c.endsAs(id, anchor.StatusCompleted)
		}
		c.equal("runs", 100, len(ran.list()))
	}},
	{"shutdown-waits", "A worker that is told to stop waits for its handlers.", func(c *Check) {
		started, release := make(chan struct{}), make(chan struct{})
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			close(started)
			<-release
			return nil
		})
		id := c.enqueue(task)
		stop := c.work()
		c.receive("the handler has started", started)
		time.AfterFunc(20*time.Millisecond, func() { close(release) })
		stop()
		c.wantStatus(id, anchor.StatusCompleted)
	}},
	{"shutdown-timeout", "A handler that is cut short by the shutdown has its task tried again.", func(c *Check) {
		started := make(chan struct{})
		var causes values[error]
		task := c.one(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			close(started)
			<-ctx.Done()
			causes.add(context.Cause(ctx))
			return ctx.Err()
		})
		id := c.enqueue(task)
		stop := c.work(anchor.WithShutdownTimeout(0))
		c.receive("the handler has started", started)
		stop()
		c.wantStatus(id, anchor.StatusPending)
		if got := causes.list(); len(got) != 1 || !errors.Is(got[0], anchor.ErrShutdown) {
			c.Errorf("causes %v, want ErrShutdown", got)
		}
	}},
}

// receive waits for a channel to be closed.
func (c *Check) receive(what string, from <-chan struct{}) {
	select {
	case <-from:
	case <-time.After(c.patience):
		c.Fatalf("not in time: %s", what)
	}
}

var retryCases = []Case{
	{"retry", "A failed attempt is on record, and the next one may complete the task.", func(c *Check) {
		var attempts values[int]
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			if attempts.add(1) < 3 {
				return errBroken
			}
			return nil
		}, anchor.WithRetryPolicy("1ms", 5))
		info := c.worked(task)
		c.equal("status", anchor.StatusCompleted, info.Status)
		c.equal("attempts", 3, info.Attempts)
		c.wantMessages(info, "broken", "broken")
		for i, e := range info.Errors {
			c.equal("attempt of the error", i+1, e.Attempt)
		}
	}},
	{"max-attempts", "A task fails for good after its last attempt.", func(c *Check) {
		var attempts values[int]
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			return fmt.Errorf("broken %d", attempts.add(1))
		})
		info := c.worked(task, anchor.WithRetryPolicy("1ms", 4))
		c.equal("status", anchor.StatusFailed, info.Status)
		c.equal("attempts", 4, info.Attempts)
		c.wantMessages(info, "broken 1", "broken 2", "broken 3", "broken 4")
		if info.FinishedAt.IsZero() {
			c.Errorf("FinishedAt is zero")
		}
	}},
	{"unlimited-attempts", "A task of -1 attempts goes on.", func(c *Check) {
		var attempts values[int]
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			if attempts.add(1) < 15 {
				return errBroken
			}
			return nil
		}, anchor.WithRetryPolicy("1ms", -1))
		info := c.worked(task)
		c.equal("status", anchor.StatusCompleted, info.Status)
		c.equal("max attempts", -1, info.MaxAttempts)
	}},
	{"retry-distance", "A failed task is due again as its policy says, with a fifth of jitter at most.", func(c *Check) {
		task := c.one(breakDown, anchor.WithRetryPolicy("1h", 2))
		id := c.enqueue(task)
		c.work()
		c.eventually("the attempt has failed", func() bool { return len(c.info(id).Errors) == 1 })
		info := c.info(id)
		c.equal("status", anchor.StatusPending, info.Status)
		if d := info.NextRun.Sub(info.Errors[0].At); d < time.Hour || d > 72*time.Minute {
			c.Errorf("due again after %v, want 1h to 1h12m", d)
		}
	}},
	{"fatal", "A fatal error ends the task at once.", func(c *Check) {
		info := c.worked(c.one(func(context.Context, pgx.Tx, *Params) error { return anchor.Fatal(errBroken) }, anchor.WithRetryPolicy("1ms", 5)))
		c.equal("status", anchor.StatusFailed, info.Status)
		c.equal("attempts", 1, info.Attempts)
		c.wantMessages(info, "broken")
	}},
	{"retry-after", "RetryAfter sets when the next attempt is due, without jitter.", func(c *Check) {
		task := c.one(func(context.Context, pgx.Tx, *Params) error { return anchor.RetryAfter(time.Hour, errBroken) })
		id := c.enqueue(task)
		c.work()
		c.eventually("the attempt has failed", func() bool { return len(c.info(id).Errors) == 1 })
		info := c.info(id)
		if d := info.NextRun.Sub(info.Errors[0].At); d < time.Hour-time.Second || d > time.Hour+time.Second {
			c.Errorf("due again after %v, want 1h", d)
		}
	}},
	{"retry-after-counts", "RetryAfter in the last attempt fails the task.", func(c *Check) {
		info := c.worked(c.one(func(context.Context, pgx.Tx, *Params) error { return anchor.RetryAfter(0, errBroken) }))
		c.equal("status", anchor.StatusFailed, info.Status)
		c.equal("attempts", 2, info.Attempts)
	}},
	{"panic", "A panic is a failed attempt.", func(c *Check) {
		info := c.worked(c.one(func(context.Context, pgx.Tx, *Params) error { panic("oh no") }))
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, "panic: oh no", "panic: oh no")
	}},
	{"goexit", "A handler that ends its goroutine has failed its attempt.", func(c *Check) {
		info := c.worked(c.one(func(context.Context, pgx.Tx, *Params) error {
			runtime.Goexit()
			return nil
		}))
		c.equal("status", anchor.StatusFailed, info.Status)
		c.equal("attempts", 2, info.Attempts)
	}},
	{"timeout", "An attempt that takes too long is told, and has failed.", func(c *Check) {
		task := c.one(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), anchor.ErrTimeout) {
				return errors.New("another cause")
			}
			return ctx.Err()
		}, anchor.WithTimeout("10ms"))
		info := c.worked(task)
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, anchor.ErrTimeout.Error(), anchor.ErrTimeout.Error())
	}},
}

var hookCases = []Case{
	{"hook", "The failure hook is called once, after the last attempt, with what it failed with.", func(c *Check) {
		var failures values[anchor.Failure]
		task := c.task(breakDown).OnFailed(func(_ context.Context, _ pgx.Tx, f anchor.Failure, p *Params) error {
			failures.add(f)
			if p == nil || p.N != 4 {
				return errors.New("wrong params")
			}
			return nil
		})
		c.know(task)
		id := c.enqueueWith(task, Params{N: 4})
		c.work()
		info := c.endsAs(id, anchor.StatusFailed)
		c.wantMessages(info, "broken", "broken")
		got := failures.list()
		if len(got) != 1 {
			c.Fatalf("the hook was called %d times, want once", len(got))
		}
		if f := got[0]; f.TaskID != id || f.Name != task.Name() || f.Queue != c.queue() || f.Attempt != 2 || !errors.Is(f.Err, errBroken) || f.At.IsZero() {
			c.Errorf("failure %+v", f)
		}
	}},
	{"hook-commits", "What a hook enqueues through its tx is there once its task has failed.", func(c *Check) {
		task, child := c.hooked(nil)
		c.equal("status", anchor.StatusFailed, c.worked(task).Status)
		c.equal("pending children", 1, c.pending(child))
	}},
	{"hook-fails", "A hook that fails is on record, has written nothing, and leaves its task failed.", func(c *Check) {
		task, child := c.hooked(func() error { return errors.New("hook trouble") })
		info := c.worked(task)
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, "broken", "broken", "hook trouble")
		c.equal("pending children", 0, c.pending(child))
	}},
	{"hook-panics", "A hook that panics is as one that fails.", func(c *Check) {
		task, child := c.hooked(func() error { panic("hook trouble") })
		info := c.worked(task)
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, "broken", "broken", "hook trouble")
		c.equal("pending children", 0, c.pending(child))
	}},
	{"hook-called-again", "A hook that meets trouble of the server is called again, and nothing of that is on record.", func(c *Check) {
		var calls values[int]
		task, child := c.hooked(func() error {
			if calls.add(1) < 3 {
				return fmt.Errorf("hook: %w", &pgconn.PgError{Code: "53100", Message: "no space left on device"})
			}
			return nil
		})
		info := c.worked(task)
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, "broken", "broken")
		c.equal("calls", 3, len(calls.list()))
		c.equal("pending children", 1, c.pending(child))
	}},
	{"hook-meets-conflicts", "A hook that only ever meets conflicts with other transactions fails in the end.", func(c *Check) {
		var calls values[int]
		task, child := c.hooked(func() error {
			calls.add(1)
			return &pgconn.PgError{Code: "40001", Message: "could not serialize access"}
		})
		info := c.worked(task)
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, "broken", "broken", "could not serialize access")
		if n := len(calls.list()); n < 2 {
			c.Errorf("the hook was called %d times, want more", n)
		}
		c.equal("pending children", 0, c.pending(child))
	}},
	{"hook-of-a-success", "The hook of a task that completes is not called.", func(c *Check) {
		var attempts, hooks values[int]
		task := c.task(func(context.Context, pgx.Tx, *Params) error {
			if attempts.add(1) == 1 {
				return errBroken
			}
			return nil
		}).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *Params) error {
			hooks.add(1)
			return nil
		})
		c.know(task)
		c.equal("status", anchor.StatusCompleted, c.worked(task).Status)
		c.equal("calls", 0, len(hooks.list()))
	}},
	{"hook-takes-the-tag", "A hook may enqueue a successor of its task's tag of scope UniqueWhileLive.", func(c *Check) {
		child := c.task(nil)
		task := c.task(breakDown).OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, _ *Params) error {
			_, err := child.RunWithTx(ctx, c.client, tx, &Params{}, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
			return err
		})
		c.know(task, child)
		info := c.worked(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
		c.wantMessages(info, "broken", "broken")
		c.equal("pending children", 1, c.pending(child))
	}},
}

// hooked declares a task that fails, and whose hook enqueues a child through its tx and then ends as after says.
func (c *Check) hooked(after func() error) (task, child *anchor.Task[Params]) {
	child = c.task(nil)
	task = c.task(breakDown).OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, _ *Params) error {
		if _, err := child.RunWithTx(ctx, c.client, tx, &Params{}); err != nil || after == nil {
			return err
		}
		return after()
	})
	c.know(task, child)
	return task, child
}
