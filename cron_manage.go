package anchor

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// CronInfo is one schedule as it was when it was read. Times are in the schedule's zone, and zero where they do not
// apply.
type CronInfo struct {
	Name       string          `json:"name"`
	TaskName   string          `json:"taskName"`
	Expression string          `json:"cronExpression"`
	TimeZone   string          `json:"timeZone"`
	Params     json.RawMessage `json:"params"` // a JSON object
	Queue      string          `json:"queue"`
	Enabled    bool            `json:"enabled"` // false: paused
	CatchUp    CatchUp         `json:"catchUp"`
	// NextRun is the next tick. It is zero while the schedule does not tick: paused, orphaned, or with a problem.
	NextRun time.Time `json:"nextRun,omitzero"`
	// LastTick is the newest tick that was dealt with.
	LastTick time.Time `json:"lastTick,omitzero"`
	// TaskID is the newest instance, 0 when there was none.
	TaskID int64 `json:"taskId,omitzero"`
	// Skipped counts the ticks that got no instance: what catching up left out, at most 100,000 at a time, and
	// those that found their unique tag held.
	Skipped int64 `json:"skipped,omitzero"`
	// Declared schedules come from [Task.Cron], the others from [Task.Schedule].
	Declared bool `json:"declared"`
	// Orphaned schedules were declared, but no worker that is alive declares them: they left the code, or the
	// workers of that code are down. While no worker is alive at all, none is called orphaned.
	Orphaned bool `json:"orphaned,omitzero"`
	// Problem is why the schedule was stopped, for example an expression in the table that is none. Changing or
	// resuming the schedule clears it.
	Problem   string    `json:"problem,omitzero"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"` // by anything but a tick
}

// Crons returns all schedules in order of their names.
func (c *Client) Crons(ctx context.Context) ([]*CronInfo, error) {
	jobs, err := c.store.crons(ctx, nil)
	if err != nil {
		return nil, err
	}
	infos := make([]*CronInfo, 0, len(jobs))
	for _, job := range jobs {
		if job.exists() {
			infos = append(infos, job.info())
		}
	}
	return infos, nil
}

func (j *cronJob) info() *CronInfo {
	info := &CronInfo{
		Name: j.name, TaskName: j.taskName, Expression: j.expression, TimeZone: j.timeZone,
		Params: append(json.RawMessage(nil), j.params...), Queue: j.queue, Enabled: j.enabled, CatchUp: j.catchUp,
		LastTick: j.inZone(j.lastTick), TaskID: j.taskID, Skipped: j.skipped, Declared: j.declaration != "",
		Orphaned: j.orphaned, Problem: j.problem, CreatedAt: j.inZone(j.created), UpdatedAt: j.inZone(j.updated),
	}
	if j.ticking() && !j.orphaned {
		info.NextRun = j.inZone(j.nextRun)
	}
	return info
}

// PauseCron stops a schedule until [Client.ResumeCron]: when it returns, no more instances come. Those that are
// there are not touched. A schedule that is paused already is no error. errors.Is(err, ErrCronNotFound) is true when
// there is none of that name.
func (c *Client) PauseCron(ctx context.Context, name string) error {
	return c.changeCron(ctx, name, func(job *cronJob) (bool, error) {
		changed := job.enabled
		job.enabled = false
		return changed, nil
	})
}

// ResumeCron ends a pause, or what [CronInfo].Problem tells of if that is mended. The schedule goes on with its next
// tick from now; it does not catch up. One that is not paused is no error. errors.Is(err, ErrCronNotFound) is true
// when there is none of that name.
func (c *Client) ResumeCron(ctx context.Context, name string) error {
	return c.changeCron(ctx, name, func(job *cronJob) (bool, error) {
		if job.ticking() {
			return false, nil
		}
		before := *job
		job.enabled = true
		return true, job.reschedule(&before)
	})
}

// UpdateCron gives a schedule another expression, which ticks from now on; a paused one stays so. In a declared
// schedule the change stays until the declaration in the code changes. errors.Is(err, ErrCronNotFound) is true when
// there is none of that name.
func (c *Client) UpdateCron(ctx context.Context, name, expression string) error {
	return c.changeCron(ctx, name, func(job *cronJob) (bool, error) {
		before := *job
		job.expression = expression
		return true, job.reschedule(&before)
	})
}

// DeleteCron removes a schedule. Its instances are not touched. A declared one is not made again before its
// declaration in the code changes. errors.Is(err, ErrCronNotFound) is true when there is none of that name.
func (c *Client) DeleteCron(ctx context.Context, name string) error {
	return c.changeCron(ctx, name, func(job *cronJob) (bool, error) {
		job.deleted = true
		return true, nil
	})
}

// RunCronNow makes an instance of a schedule now, also of one that is paused, and returns its id. It is beside the
// ticks, which come as before; its ScheduledFor is the time of the call. errors.Is(err, ErrCronNotFound) is true when
// there is none of that name, and errors.Is(err, ErrTaskAlreadyExists) when the instance's unique tag is held.
func (c *Client) RunCronNow(ctx context.Context, name string) (int64, error) {
	jobs, err := c.store.crons(ctx, []string{name})
	if err != nil {
		return 0, err
	}
	if len(jobs) == 0 || !jobs[0].exists() {
		return 0, noCron(name)
	}
	return c.store.runCron(ctx, name, jobs[0].inZone(jobs[0].now))
}

// changeCron changes a schedule that exists.
func (c *Client) changeCron(ctx context.Context, name string, change func(job *cronJob) (bool, error)) error {
	return c.store.changeCron(ctx, name, func(job *cronJob) (bool, error) {
		if !job.exists() {
			return false, noCron(name)
		}
		return change(job)
	})
}

func noCron(name string) error { return fmt.Errorf("%w: %.200q", ErrCronNotFound, name) }
