package anchor

import (
	"context"
	"errors"
	"fmt"
)

// declaredCron is what [Task.Cron] declares.
type declaredCron struct {
	expression string
	timeZone   string
	params     any // a pointer to the task's P, nil when there is none
	options    cronOptions
	mistake    error // in the options and in that there are no params
}

// check tells what is wrong with the expression, and with what it makes of the instances.
func (d *declaredCron) check(run *runOptions) error {
	var errs []error
	if run.delaySet || !run.startAt.IsZero() {
		errs = append(errs, errors.New("WithRunOptions: WithDelay and WithStartAt do not fit an instance, which is due at its tick"))
	}
	_, err := parseCronExpression(d.expression, d.timeZone)
	return errors.Join(append(errs, err)...)
}

// Cron declares the task's schedule, whose name is the task's, and returns the task. It is part of the
// declaration: call it once, before [New], which reports its mistakes. params are those of every instance; do not
// change them afterwards.
//
// expression has five fields (minute, hour, day of month, month, day of week), six with seconds first, or is one of
// @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and "@every 90s", whose ticks are the multiples
// of the interval since the Unix epoch.
//
// Every worker keeps the schedule in step with the database. A declaration that the schedule has not had yet takes
// effect with the first worker that starts with it, whatever an operator has changed meanwhile; but a pause stays,
// unless WithEnabled is what has changed. From then on an operator's changes stay until the declaration changes
// again: a schedule that was deleted is not made again, one that was paused is not resumed. The declaration is the
// expression, the parameters, the options and the task's own queue, priority, timeout and retry policy. A
// declaration that was replaced once, be it that of an old binary beside a new one or of code that was rolled back,
// takes effect when no live worker has the present one any more. So workers of two versions never fight, and end
// with the code that is left.
//
// A schedule that no live worker declares any more is not deleted, but [Client.Crons] shows it as orphaned, and it
// does not tick; when a worker declares it again it catches up as [WithCatchUp] says.
func (t *Task[P]) Cron(expression string, params *P, opts ...CronOption) *Task[P] {
	options, err := resolveCronOptions(opts)
	if t.def.cron != nil {
		already := errors.New("the task has a schedule already; more of them are made by Schedule")
		t.def.mistake(fmt.Errorf("Cron: %w", errors.Join(already, err)))
		return t
	}
	t.def.cron = &declaredCron{expression: expression, timeZone: options.timeZone, options: options, mistake: err}
	if params == nil {
		t.def.cron.mistake = errors.Join(err, errors.New("params is nil"))
	} else {
		t.def.cron.params = params
	}
	return t
}

// Schedule creates the schedule of that name, or updates the one there is, whatever its task was: there may be any
// number for one task, each with its parameters and time zone. name is 1 to 200 bytes without spaces; expression is
// as [Task.Cron] tells. It returns once that is durable. Options that are not given have their defaults, but a pause
// stays unless [WithEnabled] is given. What is not changed goes on undisturbed, so calling it at every start of the
// program loses no tick; a changed expression or time zone ticks from now on.
//
// A declared schedule that c does not declare is a declared one no longer: code that moves from [Task.Cron] to Schedule
// takes it over, and old workers beside it leave it alone.
//
// The instances get the task's options as they are now, with [WithRunOptions] on top. Any worker ticks, whether it
// has the task's handler or not.
//
// errors.Is(err, X) is true for X of: [ErrTaskNotRegistered], [ErrInvalidParams] ([*ValidationError]),
// [ErrOutcomeUnknown], [ErrNotMigrated].
func (t *Task[P]) Schedule(ctx context.Context, c *Client, name, expression string, params *P, opts ...CronOption) error {
	if params == nil {
		return nilParams(t.def)
	}
	return c.schedule(ctx, t.def, name, expression, params, opts)
}

func (c *Client) schedule(ctx context.Context, def *taskDefinition, name, expression string, params any, opts []CronOption) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("anchor: schedule: %w", err)
	}
	options, mistake := resolveCronOptions(opts)
	registered, run, err := c.resolve(def, options.run)
	var task *newTask
	if err == nil {
		task, err = registered.newTask(params, &run)
	}
	declared := &declaredCron{expression: expression, timeZone: options.timeZone, params: params, options: options}
	if mistake = errors.Join(mistake, declared.check(&run)); mistake != nil {
		return errors.Join(fmt.Errorf("anchor: schedule %q: %w", name, mistake), err)
	}
	if err != nil {
		return err
	}
	wanted := newCronJob(name, declared, task)
	return c.store.changeCron(ctx, name, func(job *cronJob) (bool, error) {
		before := *job
		fresh := !job.exists()
		job.cronTemplate = wanted.cronTemplate
		job.deleted = false
		if job.declaration != "" && !c.declares(name) {
			job.setDeclaration("")
		}
		if fresh || options.enabledSet {
			job.enabled = options.enabled
		}
		return true, job.reschedule(&before)
	})
}

// declares tells whether this client's code declares the schedule of a name.
func (c *Client) declares(name string) bool {
	task := c.tasks[name]
	return task != nil && task.job != nil
}

// newCronJob is the schedule that d, which has no mistakes, describes, with instances like task.
func newCronJob(name string, d *declaredCron, task *newTask) *cronJob {
	return &cronJob{
		name: name, enabled: d.options.enabled,
		cronTemplate: cronTemplate{
			taskName: task.name, expression: d.expression, timeZone: d.timeZone, catchUp: d.options.catchUp,
			params: task.params, attributes: task.attributes, queue: task.queue, priority: task.priority,
			maxAttempts: task.maxAttempts, tag: task.tag, scope: task.scope,
		},
	}
}
