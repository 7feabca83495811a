package conformance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

const noTask = 1 << 60 // an id that no task has

var manageCases = []Case{
	{"cancel-pending", "A pending task that is cancelled never runs.", func(c *Check) {
		var ran values[int]
		task, fence := c.task(collect(&ran)), c.task(succeed)
		c.know(task, fence)
		id := c.enqueue(task)
		c.must(c.client.Cancel(c.ctx, id))
		c.wantStatus(id, anchor.StatusCancelled)
		c.work()
		c.fence(fence)
		c.equal("runs", 0, len(ran.list()))
		if info := c.info(id); info.FinishedAt.IsZero() || info.Attempts != 0 {
			c.Errorf("finished at %v after %d attempts", info.FinishedAt, info.Attempts)
		}
	}},
	{"cancel-running", "The handler of a task that is cancelled is told; its error leaves the task cancelled.", func(c *Check) {
		started := make(chan struct{})
		task := c.one(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			close(started)
			<-ctx.Done()
			return context.Cause(ctx)
		})
		id := c.enqueue(task)
		c.work(anchor.WithLease(3 * time.Second))
		c.receive("the handler has started", started)
		c.must(c.client.Cancel(c.ctx, id))
		info := c.endsAs(id, anchor.StatusCancelled)
		c.wantMessages(info, anchor.ErrCancelled.Error())
	}},
	{"cancel-running-that-succeeds", "A handler that succeeds although its task is cancelled completes it.", func(c *Check) {
		started, release := make(chan struct{}), make(chan struct{})
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			close(started)
			<-release
			return nil
		})
		id := c.enqueue(task)
		c.work()
		c.receive("the handler has started", started)
		c.must(c.client.Cancel(c.ctx, id))
		close(release)
		c.endsAs(id, anchor.StatusCompleted)
	}},
	{"cancel-ended", "A task that has ended cannot be cancelled.", func(c *Check) {
		info := c.worked(c.one(succeed))
		c.wantError(c.client.Cancel(c.ctx, info.ID), anchor.ErrTaskNotCancellable)
	}},
	{"cancel-twice", "A task that was cancelled cannot be cancelled again.", func(c *Check) {
		id := c.enqueue(c.one(nil))
		c.must(c.client.Cancel(c.ctx, id))
		c.wantError(c.client.Cancel(c.ctx, id), anchor.ErrTaskNotCancellable)
	}},
	{"cancel-unknown", "Cancelling what is not there is an error.", func(c *Check) {
		c.one(nil)
		c.wantError(c.client.Cancel(c.ctx, noTask), anchor.ErrTaskNotFound)
	}},
	{"cancel-does-not-call-the-hook", "The failure hook of a task that is cancelled is not called.", func(c *Check) {
		var hooks values[int]
		started := make(chan struct{})
		task := c.task(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			close(started)
			<-ctx.Done()
			return context.Cause(ctx)
		}).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *Params) error {
			hooks.add(1)
			return nil
		})
		c.know(task)
		id := c.enqueue(task)
		c.work(anchor.WithLease(3 * time.Second))
		c.receive("the handler has started", started)
		c.must(c.client.Cancel(c.ctx, id))
		c.endsAs(id, anchor.StatusCancelled)
		c.equal("calls", 0, len(hooks.list()))
	}},
	{"retry-failed", "A failed task that is retried runs again with all of its attempts; its errors stay.", func(c *Check) {
		var attempts values[int]
		task := c.one(func(context.Context, pgx.Tx, *Params) error {
			if attempts.add(1) < 4 {
				return errBroken
			}
			return nil
		})
		id := c.enqueue(task)
		c.work()
		c.endsAs(id, anchor.StatusFailed)
		c.must(c.client.Retry(c.ctx, id))
		info := c.endsAs(id, anchor.StatusCompleted)
		c.equal("attempts", 2, info.Attempts)
		c.wantMessages(info, "broken", "broken", "broken")
	}},
	{"retry-cancelled", "A cancelled task can be retried.", func(c *Check) {
		task := c.one(succeed)
		id := c.enqueue(task, anchor.WithDelay(time.Hour))
		c.must(c.client.Cancel(c.ctx, id))
		c.must(c.client.Retry(c.ctx, id))
		c.wantStatus(id, anchor.StatusPending)
		c.work()
		c.endsAs(id, anchor.StatusCompleted)
	}},
	{"retry-completed", "A task that has completed cannot be retried.", func(c *Check) {
		info := c.worked(c.one(succeed))
		c.wantError(c.client.Retry(c.ctx, info.ID), anchor.ErrTaskNotRetryable)
	}},
	{"retry-pending", "A pending task cannot be retried.", func(c *Check) {
		c.wantError(c.client.Retry(c.ctx, c.enqueue(c.one(nil))), anchor.ErrTaskNotRetryable)
	}},
	{"retry-unknown", "Retrying what is not there is an error.", func(c *Check) {
		c.one(nil)
		c.wantError(c.client.Retry(c.ctx, noTask), anchor.ErrTaskNotFound)
	}},
	{"retry-takes-the-tag", "A task that is retried takes its tag again, unless another task holds it.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
		c.must(c.client.Cancel(c.ctx, id))
		other := c.enqueue(task, anchor.WithUniqueTag(c.tag("t"), anchor.UniqueWhileLive))
		c.wantExists(c.client.Retry(c.ctx, id), c.tag("t"), other)
		c.wantStatus(id, anchor.StatusCancelled)
		c.must(c.client.Cancel(c.ctx, other))
		c.must(c.client.Retry(c.ctx, id))
		c.wantHeld(task, c.tag("t"), id)
	}},
}

var queryCases = []Case{
	{"task-unknown", "Reading a task that is not there is an error.", func(c *Check) {
		c.one(nil)
		_, err := c.client.Task(c.ctx, noTask)
		c.wantError(err, anchor.ErrTaskNotFound)
	}},
	{"query", "Tasks are found by name, queue, tag and status, newest first.", func(c *Check) {
		one, two := c.task(nil), c.task(nil)
		c.know(one, two)
		a := c.enqueue(one)
		b := c.enqueue(one, anchor.WithQueue(c.prefix+"-2"), anchor.WithUniqueTag(c.tag("t")))
		d := c.enqueue(two)
		c.must(c.client.Cancel(c.ctx, d))
		for _, test := range []struct {
			what  string
			query anchor.TaskQuery
			want  []int64
		}{
			{"name", anchor.TaskQuery{Name: one.Name()}, []int64{b, a}},
			{"queue", anchor.TaskQuery{Queue: c.queue()}, []int64{d, a}},
			{"tag", anchor.TaskQuery{UniqueTag: c.tag("t")}, []int64{b}},
			{"name and status", anchor.TaskQuery{Name: two.Name(), Status: []anchor.Status{anchor.StatusCancelled}}, []int64{d}},
			{"none", anchor.TaskQuery{Name: two.Name(), Status: []anchor.Status{anchor.StatusPending, anchor.StatusFailed}}, []int64{}},
		} {
			infos, err := c.client.Tasks(c.ctx, test.query)
			c.must(err)
			c.equal("tasks by "+test.what, test.want, ids(infos))
		}
	}},
	{"pages", "Pages follow each other without a gap.", func(c *Check) {
		task := c.one(nil)
		all, err := task.RunMany(c.ctx, c.client, make5())
		c.must(err)
		slices.Reverse(all)
		got := []int64{}
		for query := (anchor.TaskQuery{Name: task.Name(), Limit: 2}); ; {
			page, err := c.client.Tasks(c.ctx, query)
			c.must(err)
			if len(page) == 0 {
				break
			}
			if len(page) > 2 {
				c.Fatalf("a page of %d, want 2 at most", len(page))
			}
			got = append(got, ids(page)...)
			query.Before = got[len(got)-1]
		}
		c.equal("tasks", all, got)
	}},
	{"bad-query", "A query for what cannot be is refused.", func(c *Check) {
		c.one(nil)
		for what, query := range map[string]anchor.TaskQuery{
			"an unknown status": {Status: []anchor.Status{"sleeping"}},
			"NUL in a name":     {Name: "a\x00"},
			"invalid UTF-8":     {UniqueTag: "\xff"},
			"a negative limit":  {Limit: -1},
			"a huge limit":      {Limit: 10_001},
			"a negative id":     {Before: -1},
		} {
			_, err := c.client.Tasks(c.ctx, query)
			c.wantRefused(what, err)
		}
	}},
	{"stats", "Stats count a queue's tasks by what they wait for.", func(c *Check) {
		task, failing := c.task(nil), c.task(breakDown, anchor.WithRetryPolicy("1ms", 1))
		c.know(task, failing)
		c.enqueue(task)
		c.enqueue(task)
		c.enqueue(task, anchor.WithDelay(time.Hour))
		id := c.enqueue(failing)
		c.work()
		c.endsAs(id, anchor.StatusFailed)
		var got anchor.QueueStats
		c.eventually("the oldest ready task has an age", func() bool {
			stats, err := c.client.Stats(c.ctx)
			c.must(err)
			i := slices.IndexFunc(stats.Queues, func(q anchor.QueueStats) bool { return q.Queue == c.queue() })
			if i < 0 {
				c.Fatalf("the queue is missing")
			}
			got = stats.Queues[i]
			return got.OldestReady > 0
		})
		got.OldestReady = 0
		c.equal("stats", anchor.QueueStats{Queue: c.queue(), Ready: 2, Scheduled: 1, Failed: 1}, got)
	}},
	{"stats-pause", "Stats tell of a queue that is paused.", func(c *Check) {
		c.one(nil)
		c.must(c.client.PauseQueue(c.ctx, c.queue()))
		stats, err := c.client.Stats(c.ctx)
		c.must(err)
		if !slices.ContainsFunc(stats.Queues, func(q anchor.QueueStats) bool { return q.Queue == c.queue() && q.Paused }) {
			c.Errorf("no paused queue in %+v", stats.Queues)
		}
		c.must(c.client.ResumeQueue(c.ctx, c.queue()))
	}},
	{"wait-ends-with-its-context", "Wait gives up when its context ends.", func(c *Check) {
		id := c.enqueue(c.one(nil))
		_, err := c.client.Wait(endedContext(c.ctx), id)
		if !errors.Is(err, context.Canceled) {
			c.Errorf("error %v, want context.Canceled", err)
		}
	}},
}

func make5() []*Params { return []*Params{{N: 1}, {N: 2}, {N: 3}, {N: 4}, {N: 5}} }

func ids(infos []*anchor.TaskInfo) []int64 {
	all := []int64{}
	for _, info := range infos {
		all = append(all, info.ID)
	}
	return all
}

// schedule finds a schedule by its name, nil when there is none.
func (c *Check) schedule(name string) *anchor.CronInfo {
	all, err := c.client.Crons(c.ctx)
	c.must(err)
	for _, info := range all {
		if info.Name == name {
			return info
		}
	}
	return nil
}

// scheduled makes a schedule that does not tick while the case lasts. It is deleted at the end of the case.
func (c *Check) scheduled(task *anchor.Task[Params], expression string, opts ...anchor.CronOption) string {
	name := c.prefix
	c.must(task.Schedule(c.ctx, c.client, name, expression, &Params{N: 9}, opts...))
	client := c.client
	c.cleanups = append(c.cleanups, func() { _ = client.DeleteCron(context.Background(), name) })
	return name
}

const newYear = "0 0 1 1 *"

var scheduleCases = []Case{
	{"schedule-ticks", "Two workers make one instance for each tick.", func(c *Check) {
		var ticks values[time.Time]
		task := c.one(func(ctx context.Context, _ pgx.Tx, _ *Params) error {
			info, _ := anchor.TaskFromContext(ctx)
			ticks.add(info.ScheduledFor)
			return nil
		})
		c.scheduled(task, "* * * * * *")
		c.work()
		c.work()
		c.eventually("it ticks twice", func() bool { return len(ticks.list()) >= 2 })
		seen := map[int64]bool{}
		for _, tick := range ticks.list() {
			if seen[tick.Unix()] {
				c.Errorf("tick %v has two instances", tick)
			}
			seen[tick.Unix()] = true
		}
	}},
	{"schedule", "A schedule is readable as it was made.", func(c *Check) {
		task := c.one(nil)
		name := c.scheduled(task, newYear, anchor.WithTimeZone("Europe/Berlin"), anchor.WithCatchUp(anchor.CatchUpNone))
		info := c.schedule(name)
		if info == nil {
			c.Fatalf("it is not listed")
		}
		if info.TaskName != task.Name() || info.Expression != newYear || info.TimeZone != "Europe/Berlin" || info.CatchUp != anchor.CatchUpNone || !info.Enabled || info.Declared {
			c.Errorf("schedule %+v", info)
		}
		if next := info.NextRun; next.Before(time.Now()) || next.Hour() != 0 || next.Month() != time.January {
			c.Errorf("the next tick is %v", next)
		}
	}},
	{"schedule-pause", "A paused schedule has no next tick until it is resumed.", func(c *Check) {
		name := c.scheduled(c.one(nil), newYear)
		c.must(c.client.PauseCron(c.ctx, name))
		if info := c.schedule(name); info == nil || info.Enabled || !info.NextRun.IsZero() {
			c.Errorf("paused: %+v", info)
		}
		c.must(c.client.ResumeCron(c.ctx, name))
		if info := c.schedule(name); info == nil || !info.Enabled || info.NextRun.IsZero() {
			c.Errorf("resumed: %+v", info)
		}
	}},
	{"schedule-update", "A schedule that is updated has the new expression; a bad one is refused.", func(c *Check) {
		name := c.scheduled(c.one(nil), newYear)
		c.must(c.client.UpdateCron(c.ctx, name, "0 0 1 2 *"))
		c.wantRefused("a bad expression", c.client.UpdateCron(c.ctx, name, "61 * * * *"))
		if info := c.schedule(name); info == nil || info.Expression != "0 0 1 2 *" || info.NextRun.Month() != time.February {
			c.Errorf("updated: %+v", info)
		}
	}},
	{"schedule-delete", "A schedule that is deleted is gone.", func(c *Check) {
		name := c.scheduled(c.one(nil), newYear)
		c.must(c.client.DeleteCron(c.ctx, name))
		if info := c.schedule(name); info != nil {
			c.Errorf("it is still there: %+v", info)
		}
		c.wantError(c.client.PauseCron(c.ctx, name), anchor.ErrCronNotFound)
	}},
	{"schedule-unknown", "What is done to a schedule that is not there is an error.", func(c *Check) {
		c.one(nil)
		name := c.tag("nothing")
		_, err := c.client.RunCronNow(c.ctx, name)
		for _, err := range []error{
			err, c.client.PauseCron(c.ctx, name), c.client.ResumeCron(c.ctx, name),
			c.client.UpdateCron(c.ctx, name, newYear), c.client.DeleteCron(c.ctx, name),
		} {
			c.wantError(err, anchor.ErrCronNotFound)
		}
	}},
	{"schedule-run-now", "An instance of a schedule can be had now.", func(c *Check) {
		task := c.one(succeed)
		name := c.scheduled(task, newYear)
		id, err := c.client.RunCronNow(c.ctx, name)
		c.must(err)
		c.work()
		info := c.endsAs(id, anchor.StatusCompleted)
		if info.Name != task.Name() || info.ScheduledFor.IsZero() {
			c.Errorf("the instance is %+v", info)
		}
	}},
}
