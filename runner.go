package anchor

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// registeredTask is a definition as one client runs it.
type registeredTask struct {
	*taskDefinition
	policy      taskPolicy
	description string
	inFile      bool          // the policy is not, or not only, what Go declares
	cron        *declaredCron // nil: no declared schedule
	job         *cronJob      // what cron stands for
	metrics     *taskMetrics  // nil: none
}

// Run enqueues the task and returns its id once it is durable. Concurrent calls share a statement and its
// commit, each with its own id or error; a tagged task goes alone.
//
// errors.Is(err, X) is true for X of: [ErrTaskNotRegistered] when c does not know the task, [ErrInvalidParams]
// ([*ValidationError]), [ErrTaskAlreadyExists] ([*TaskExistsError]), [ErrOutcomeUnknown] when the answer of
// the database was lost or ctx ended before it came, [ErrNotMigrated].
func (t *Task[P]) Run(ctx context.Context, c *Client, params *P, opts ...RunOption) (int64, error) {
	if params == nil {
		return 0, nilParams(t.definition())
	}
	return c.run(ctx, t.definition(), params, opts)
}

// RunWithTx enqueues the task as a part of the caller's transaction: it exists if and only if tx commits.
// After [ErrTaskAlreadyExists] or [ErrInvalidParams], or another mistake in what it is given, tx is usable as before. An
// error of the database, such as [ErrNotMigrated], aborts tx as any failed statement does. In the transaction of a handler
// it commits with the handler's task.
//
// An enqueuer of a unique tag that another open transaction has just taken waits for that to end.
func (t *Task[P]) RunWithTx(ctx context.Context, c *Client, tx pgx.Tx, params *P, opts ...RunOption) (int64, error) {
	if params == nil {
		return 0, nilParams(t.definition())
	}
	return c.runTx(ctx, tx, t.definition(), params, opts)
}

// RunMany enqueues a task for each of params, all or none, and returns their ids in the same order. It is the
// fastest way to enqueue many. [WithUniqueTag] is refused for more than one.
func (t *Task[P]) RunMany(ctx context.Context, c *Client, params []*P, opts ...RunOption) ([]int64, error) {
	return runMany(ctx, c, nil, t.definition(), params, opts)
}

// RunManyWithTx is [Task.RunMany] as a part of the caller's transaction.
func (t *Task[P]) RunManyWithTx(ctx context.Context, c *Client, tx pgx.Tx, params []*P, opts ...RunOption) ([]int64, error) {
	if noTx(tx) {
		return nil, errNilTx
	}
	return runMany(ctx, c, tx, t.definition(), params, opts)
}

var errNoDefinition = fmt.Errorf("%w: it was not made by Define", ErrTaskNotRegistered)

var errNilTx = errors.New("anchor: tx is nil")

// noTx is true of nil, and of a nil pointer in an interface.
func noTx(tx pgx.Tx) bool {
	v := reflect.ValueOf(tx)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

func nilParams(def *taskDefinition) error {
	if def == nil {
		return errNoDefinition
	}
	return invalidParams(def.name, "", "params is nil")
}

func idsOf(tasks []*newTask) []int64 {
	ids := make([]int64, len(tasks))
	for i, task := range tasks {
		ids[i] = task.id
	}
	return ids
}

func (c *Client) run(ctx context.Context, def *taskDefinition, params any, opts []RunOption) (int64, error) {
	return c.runOne(ctx, def, params, opts, false, func(ctx context.Context, task *newTask) error {
		if task.tag == "" {
			return c.combiner.enqueue(ctx, task)
		}
		return c.store.enqueue(ctx, []*newTask{task})
	})
}

func (c *Client) runTx(ctx context.Context, tx pgx.Tx, def *taskDefinition, params any, opts []RunOption) (int64, error) {
	if noTx(tx) {
		return 0, errNilTx
	}
	return c.runOne(ctx, def, params, opts, true, func(ctx context.Context, task *newTask) error {
		return c.store.enqueueTx(ctx, tx, []*newTask{task})
	})
}

func (c *Client) runOne(ctx context.Context, def *taskDefinition, params any, opts []RunOption, inTx bool, write func(context.Context, *newTask) error) (int64, error) {
	registered, options, err := c.resolve(def, opts)
	if err != nil {
		return 0, err
	}
	ctx = c.enqueueStarts(ctx, registered, &options, 1, inTx)
	task, err := registered.newTask(params, &options)
	if err == nil {
		err = write(ctx, task)
	}
	if err != nil {
		c.enqueueFailed(ctx, err)
		return 0, err
	}
	c.enqueueEnds(ctx, registered, task)
	return task.id, nil
}

func runMany[P any](ctx context.Context, c *Client, tx pgx.Tx, def *taskDefinition, params []*P, opts []RunOption) ([]int64, error) {
	if len(params) == 0 {
		return nil, nil
	}
	registered, options, err := c.resolve(def, opts)
	if err != nil {
		return nil, err
	}
	ctx = c.enqueueStarts(ctx, registered, &options, len(params), tx != nil)
	tasks, err := prepareMany(registered, params, &options)
	switch {
	case err != nil:
	case tx != nil:
		err = c.store.enqueueTx(ctx, tx, tasks)
	default:
		err = c.store.enqueue(ctx, tasks)
	}
	if err != nil {
		c.enqueueFailed(ctx, err)
		return nil, err
	}
	c.enqueueEnds(ctx, registered, tasks...)
	return idsOf(tasks), nil
}

// prepareMany validates and encodes every one of params; the first ten that are wrong are reported together.
func prepareMany[P any](registered *registeredTask, params []*P, options *runOptions) ([]*newTask, error) {
	if options.tag != "" && len(params) > 1 {
		return nil, fmt.Errorf("anchor: task %q: WithUniqueTag allows one task, not %d", registered.name, len(params))
	}
	tasks := make([]*newTask, len(params))
	var errs []error
	for i, p := range params {
		err := error(nilParams(registered.taskDefinition))
		if p != nil {
			tasks[i], err = registered.newTask(p, options)
		}
		if err == nil {
			continue
		}
		var invalid *ValidationError
		if errors.As(err, &invalid) {
			invalid.Index = i
		}
		if errs = append(errs, fmt.Errorf("params[%d]: %w", i, err)); len(errs) == 10 {
			break
		}
	}
	return tasks, errors.Join(errs...)
}

func (c *Client) resolve(def *taskDefinition, opts []RunOption) (*registeredTask, runOptions, error) {
	if c == nil {
		return nil, runOptions{}, errors.New("anchor: the client is nil")
	}
	if def == nil {
		return nil, runOptions{}, errNoDefinition
	}
	registered, ok := c.tasks[def.name]
	if !ok || registered.taskDefinition != def {
		return nil, runOptions{}, fmt.Errorf("%w: %q", ErrTaskNotRegistered, def.name)
	}
	options, err := resolveRunOptions(registered.policy, opts)
	if err != nil {
		return nil, runOptions{}, fmt.Errorf("anchor: task %q: %w", def.name, err)
	}
	return registered, options, nil
}

func (r *registeredTask) newTask(params any, o *runOptions) (*newTask, error) {
	raw, err := r.encode(params)
	if err != nil {
		return nil, err
	}
	attributes := taskAttributes{ScheduledFor: o.scheduledFor, Trace: o.trace}
	// Other clients may have no task file, or another one: what was asked for is then stored as such.
	if o.retrySet && (r.inFile || o.retry.text != r.policy.retry.text) {
		attributes.Retry = o.retry.text
	}
	if o.timeoutSet && (r.inFile || o.timeout != r.policy.timeout) {
		attributes.Timeout = o.timeout.String()
	}
	return &newTask{
		name: r.name, queue: o.queue, priority: int16(o.priority), maxAttempts: int32(o.maxAttempts),
		params: raw, attributes: attributes.encode(), delay: o.delay, startAt: o.startAt, tag: o.tag, scope: o.scope,
	}, nil
}
