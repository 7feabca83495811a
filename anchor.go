// Package anchor runs background tasks on PostgreSQL. Tasks are declared in Go, enqueued in the transaction whose work
// they continue, and run at least once; what a handler writes through its own transaction is applied exactly once.
//
//	type WelcomeParams struct {
//		UserID     int32  `json:"userId" jsonschema:"minimum=1"`
//		TemplateID string `json:"templateId"`
//	}
//
//	var SendWelcomeEmail = anchor.Define("SendWelcomeEmail", sendWelcomeEmail,
//		anchor.WithRetryPolicy("5m", 3),
//		anchor.WithTimeout("30s"),
//	)
//
//	func sendWelcomeEmail(ctx context.Context, tx pgx.Tx, p *WelcomeParams) error {
//		// ... send the email; what is written through tx commits together with the task's completion ...
//		_, err := tx.Exec(ctx, "update users set welcomed = true where id = $1", p.UserID)
//		return err
//	}
//
//	store := anchor.NewPGStore(pool) // or anchor.NewMemoryStore()
//	if err := store.Migrate(ctx); err != nil {
//		return err
//	}
//	client, err := anchor.New(store, anchor.WithTasks(SendWelcomeEmail))
//	_, err := SendWelcomeEmail.RunWithTx(ctx, client, tx, &WelcomeParams{id, "welcome"}, anchor.WithDelay(time.Second))
//	return client.Work(ctx) // until ctx is done
//
// # Tasks
//
// [Define] declares a task of a name, a [Handler] and options. [New] makes a [Client] of a [Store] and the tasks, and
// reports every mistake in them. [Task.Run] enqueues one task, [Task.RunMany] many, all or none; either returns once
// they are durable. The parameters are a struct, kept as JSON of at most 1 MiB.
//
// A task is pending, running, and at last completed, failed or cancelled. It goes to a queue ([WithQueue]), where the
// lower [WithPriority] comes first, then what was due first. [WithDelay] and [WithStartAt] make it due later,
// [WithUniqueTag] refuses a second one of its tag. [Client.Work] runs handlers, by default a hundred at a time, in as
// many processes as you like. [Client.Task], [Client.Tasks], [Client.Stats] and [Client.Workers] look, [Client.Explain]
// tells why a task is not running; [Client.Cancel], [Client.Retry] and [Client.PauseQueue] step in; [Client.Wait] waits
// for the end of a task. A client needs no tasks for any of this.
//
// A completed task is kept for 24 to 28 hours, a failed or cancelled one for 7 days, and dropped then by whichever worker runs.
// [MemoryStore] keeps the newest 100,000 completed ones at most.
//
// # Parameters
//
// A task's type is the truth of its parameters: a JSON Schema is reflected from it, with what its jsonschema tags say
// (minimum, enum, pattern, format and so on). Parameters that it forbids are refused before anything is written, with
// every violation ([ErrInvalidParams], [*ValidationError]); stored ones that it forbids by now, after a deploy, fail
// their task for good, unless [WithUpcaster] mends them. [CheckCompatible] tells in CI which changes of the types would
// break queued tasks, [Client.CheckQueued] counts those that are broken already.
//
// What a type does not know, it refuses: so a worker of the old version fails tasks that carry a new field, optional or
// not, for good. Deploy a new field in this order: first the type, to all workers, then what sets it. [CheckCompatible]
// with the two files swapped finds such changes.
//
// [Client.ExportYAML] writes the tasks as tasks.yaml. Operators may change the policies in it: [WithTaskFile] reads it,
// checks it whole against the types, and lets it override what Go declares.
//
// # Transactions
//
// [Task.RunWithTx] makes the task a part of the caller's transaction: it exists if and only if that commits. Nothing is
// sent to workers within it: they are given hints in the quarter of a second after the call, and find the task by polling
// when it commits later.
//
// A handler's tx is its task's own transaction. It begins with the first statement, so a handler that leaves it alone
// takes no connection. When the handler returns nil, its writes and the task's completion commit together, provided that
// the worker still holds the task; else nothing of them is applied. Commit and Rollback of it belong to the worker;
// Begin gives a savepoint, for statements that may fail. A handler that returns nil although a statement outside of a
// savepoint had failed has failed. Inside a handler, enqueue with RunWithTx and its tx: Run needs another connection.
//
// # Retries
//
// A handler that returns an error or panics has failed an attempt; so has one that goes on for 5 seconds after
// [WithTimeout] has ended its context. [WithRetryPolicy] says when the next attempt is due and how many there are, the
// first included. [Fatal] ends the task at once, [RetryAfter] sets the distance itself. After the last attempt the task
// has failed for good, and its [FailureHook] runs, set by [Task.OnFailed]: what it writes commits together with that
// status. [WebhookOnFailed] posts the failure to a URL, by a task that commits with it, too. [CheckResponse] makes an error
// of an HTTP response whose Retry-After the next attempt waits for. An attempt counts from its claim, which is durable before the handler starts, so one that a crash cuts off is
// counted. The errors' texts are kept with the task; neither they nor parameters are logged.
//
// # Schedules
//
// A task's Cron declares a schedule with it, Schedule sets one at run time: an expression of five fields, of six with
// seconds first, or a descriptor such as @daily, in a time zone. Each tick enqueues an instance of the task, at most
// one however many workers there are. A local time that a clock change skips runs once right after the gap, one that it
// repeats runs once; schedules of every minute or every hour go on in real time.
// What was missed while no worker was there is caught up with as [WithCatchUp] says. [TaskInfo].ScheduledFor is an
// instance's tick; [TaskFromContext] gives it to the handler. [Client.Crons], [Client.PauseCron] and their sisters are for
// whoever operates them.
//
// # Testing
//
// [MemoryStore] is a store with the same rules and nothing to install, within one process. It uses the process's clock, so
// in a bubble of testing/synctest a delay of an hour takes no time. Its tx carries tasks and no SQL: the methods that
// send statements answer [ErrNoTransaction]. [MemoryStore.Begin] starts a transaction for [Task.RunWithTx].
//
// # PgBouncer
//
// A worker listens on a connection of its own for as long as it lives, which PgBouncer in transaction mode cannot give
// it. There, make the store with [WithPollingOnly], and the pool with the query mode [pgx.QueryExecModeExec]
// (default_query_exec_mode=exec in its URL): new tasks are then found once a poll interval ([WithPollInterval]), and
// cancelling a running task reaches its handler within a third of the lease. Nothing else depends on a session.
//
// # Guarantees
//
// Promised, as long as the database keeps what it has committed:
//
//   - An enqueue that has returned without an error, or whose transaction has committed, is not lost.
//   - What a handler writes through its tx is applied exactly once for a task that completes, and not at all for an attempt
//     that fails, whatever happens to its worker: a crash, a pause, a lost network.
//   - Everything else that a handler does happens at least once. The task's id, from [TaskFromContext], is the key by which
//     others can tell a repetition.
//   - Attempts never exceed the maximum, crashes included.
//   - A failed task's status and what its hook writes commit together, once.
//   - Of one unique tag there are never two tasks that are pending or running, but for a tag that [Client.ReleaseTag] freed.
//   - The tasks of a worker that has died are pending again once its lease is over ([WithLease], 15 seconds by default) and
//     another worker has looked, which is every 3 seconds.
//
// Not promised:
//
//   - Order. Tasks are claimed by priority and time, but they run concurrently, and are retried. Run one after the other by
//     enqueuing the next from the handler of the one before.
//   - That a handler runs once. [WithTimeout] and a lost lease end its context; one that ignores it goes on, with nothing
//     left to write to.
//   - That a shutdown is free. Tasks that were not started go back uncounted. Handlers have [WithShutdownTimeout] to end; one
//     that was interrupted then has used an attempt, and runs again at once if it has another.
//   - The outcome of a write whose answer was lost, for enqueues: [ErrOutcomeUnknown] says so. Enqueue again with a unique tag
//     to be safe.
//   - Punctuality. A task that becomes due is found within a poll interval, by default a second, when a slot is free.
package anchor

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Client enqueues tasks and works on them. It is made by [New] and safe for concurrent use.
type Client struct {
	store    Store
	logger   *slog.Logger
	tasks    map[string]*registeredTask
	combiner *combiner

	random       func() float64            // of the jitter of retries
	failed       func(id int64, err error) // of tests: told what each failed attempt ended with
	metrics      *metrics                  // nil: none
	tracer       *safeTracer               // nil: none
	logCompleted bool
	undelivered  bool // of tests: deliveries to webhooks stay pending
}

// ClientOption is an option of [New].
type ClientOption interface {
	fmt.Stringer
	applyClient(*clientOptions) error
}

type clientOptions struct {
	tasks        []AnyTask
	logger       *slog.Logger
	taskFile     string // "" is none
	logCompleted bool
	registerer   prometheus.Registerer
	tracer       Tracer
}

type clientOption struct {
	text string
	set  func(*clientOptions) error
}

func (o clientOption) String() string                        { return o.text }
func (o clientOption) applyClient(opts *clientOptions) error { return o.set(opts) }

// WithTasks registers tasks: this client may enqueue them, and works on those that have a handler. It may be
// given more than once. Defaults to none.
func WithTasks(tasks ...AnyTask) ClientOption {
	return clientOption{
		text: fmt.Sprintf("WithTasks(%d tasks)", len(tasks)),
		set: func(o *clientOptions) error {
			o.tasks = append(o.tasks, tasks...)
			return nil
		},
	}
}

// WithLogger sets where failed attempts, final failures and trouble with the store are logged. Neither parameters nor
// the texts of handlers' errors ever are: the latter are on record with the task, in the Errors of [Client.Task].
// Defaults to [slog.Default].
func WithLogger(logger *slog.Logger) ClientOption {
	return clientOption{
		text: "WithLogger",
		set: func(o *clientOptions) error {
			if logger == nil {
				return errors.New("the logger is nil")
			}
			o.logger = logger
			return nil
		},
	}
}

// WithLogCompleted also logs a line at level info for each completed task. Defaults to none.
func WithLogCompleted() ClientOption {
	return clientOption{text: "WithLogCompleted", set: func(o *clientOptions) error { o.logCompleted = true; return nil }}
}

// New makes a client of a store. It does not touch the store. Every mistake in the options and in the tasks'
// declarations is reported, joined, each declaration's with the file and line of its [Define].
func New(store Store, opts ...ClientOption) (*Client, error) {
	var errs []error
	if store == nil {
		errs = append(errs, errors.New("the store is nil"))
	} else if declared, ok := store.(interface{ mistake() error }); ok {
		errs = append(errs, declared.mistake())
	}
	options := clientOptions{logger: slog.Default()}
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyClient(&options); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	c := &Client{
		store: store, logger: options.logger, logCompleted: options.logCompleted,
		tasks: make(map[string]*registeredTask, len(options.tasks)), random: jitter, failed: func(int64, error) {},
	}
	for i, task := range options.tasks {
		var def *taskDefinition
		if task != nil {
			def = task.definition()
		}
		if def == nil {
			errs = append(errs, fmt.Errorf("WithTasks: task %d is nil or was not made by Define", i+1))
			continue
		}
		errs = append(errs, c.register(def))
	}
	if options.taskFile != "" {
		errs = append(errs, c.applyTaskFile(options.taskFile)...)
	}
	errs = append(errs, c.compileCrons())
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("anchor: %w", err)
	}
	c.combiner = newCombiner(store.enqueue)
	if err := c.observe(&options); err != nil {
		return nil, fmt.Errorf("anchor: %w", err)
	}
	return c, nil
}

// register adds a task and, if it has a webhook, what that delivers by.
func (c *Client) register(def *taskDefinition) error {
	err := def.err()
	if err == nil {
		if err = def.schema.compile(); err != nil {
			err = fmt.Errorf("%s: task %q: %w", def.source, def.name, err)
		}
	}
	if other, ok := c.tasks[def.name]; ok {
		return errors.Join(err, fmt.Errorf("%s: task %q: the name is taken by the task at %s", def.source, def.name, other.source))
	}
	c.tasks[def.name] = &registeredTask{
		taskDefinition: def, policy: def.options.taskPolicy, description: def.options.description, cron: def.cron,
	}
	if def.delivery != nil {
		err = errors.Join(err, c.register(def.delivery))
	}
	return err
}
