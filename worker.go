package anchor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultConcurrency     = 100
	maxConcurrency         = 100_000
	defaultPollInterval    = time.Second
	defaultLease           = 15 * time.Second
	defaultShutdownTimeout = 30 * time.Second

	// defaultHandlerGrace is how long a handler may go on after its context has ended before its task is taken away.
	defaultHandlerGrace = 5 * time.Second
	// shutdownGrace is the same at the end of the shutdown timeout.
	shutdownGrace = 500 * time.Millisecond
	// writingGrace is how long writing how attempts ended may take behind that.
	writingGrace = 500 * time.Millisecond
	// signOffGrace is the part of that which is left for signing off.
	signOffGrace = 200 * time.Millisecond
)

// WorkOption is an option of [Client.Work].
type WorkOption interface {
	fmt.Stringer
	applyWork(*workOptions) error
}

type workOptions struct {
	concurrency     int
	queues          []string
	pollInterval    time.Duration
	lease           time.Duration
	shutdownTimeout time.Duration
	handlerGrace    time.Duration
	sampleInterval  time.Duration
}

type workOption struct {
	text string
	set  func(*workOptions) error
}

func (o workOption) String() string                    { return o.text }
func (o workOption) applyWork(opts *workOptions) error { return o.set(opts) }

// WithConcurrency sets how many handlers run at once, 1 to 100,000. A handler that uses its tx needs a connection
// of the store's pool meanwhile: all of them but one may be taken so, which is left for [Task.Run] and queries, unless
// the pool has only one. Inside a handler, enqueue with [Task.RunWithTx], which needs none. Defaults to 100.
func WithConcurrency(n int) WorkOption {
	return workOption{fmt.Sprintf("WithConcurrency(%d)", n), func(o *workOptions) error {
		if n < 1 || n > maxConcurrency {
			return fmt.Errorf("concurrency %d is not between 1 and %d", n, maxConcurrency)
		}
		o.concurrency = n
		return nil
	}}
}

// WithQueues works only on these queues, and on the deliveries of the registered tasks' webhooks ([WebhookOnFailed]).
// Defaults to every queue.
func WithQueues(names ...string) WorkOption {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quotedShort(name)
	}
	return workOption{fmt.Sprintf("WithQueues(%s)", quoted), func(o *workOptions) error {
		if len(names) == 0 {
			return errors.New("no queue is given")
		}
		var errs []error
		for _, name := range names {
			errs = append(errs, checkText("queue", name, maxQueueLength))
		}
		o.queues = names
		return errors.Join(errs...)
	}}
}

// WithPollInterval sets how often the worker looks for tasks that no notification told it of, jittered by a tenth;
// from 10ms to an hour. Tasks that become due are found this way. Defaults to 1s.
func WithPollInterval(d time.Duration) WorkOption {
	return durationOption("WithPollInterval", d, 10*time.Millisecond, time.Hour, func(o *workOptions) *time.Duration { return &o.pollInterval })
}

// WithLease sets how long a worker that does not answer keeps its tasks: so long after a crash, and a little more,
// others run them again. From 500ms to an hour; it is renewed every third of it. Defaults to 15s.
func WithLease(d time.Duration) WorkOption {
	return durationOption("WithLease", d, 500*time.Millisecond, time.Hour, func(o *workOptions) *time.Duration { return &o.lease })
}

// WithShutdownTimeout sets how long running handlers may take to end once ctx is done; then their contexts are
// cancelled with the cause [ErrShutdown]. From 0 to a day. Defaults to 30s.
func WithShutdownTimeout(d time.Duration) WorkOption {
	return durationOption("WithShutdownTimeout", d, 0, 24*time.Hour, func(o *workOptions) *time.Duration { return &o.shutdownTimeout })
}

func durationOption(name string, d, least, most time.Duration, field func(*workOptions) *time.Duration) WorkOption {
	return workOption{fmt.Sprintf("%s(%v)", name, d), func(o *workOptions) error {
		if d < least || d > most {
			return fmt.Errorf("%v is not between %v and %v", d, least, most)
		}
		*field(o) = d
		return nil
	}}
}

// Work claims tasks and runs their handlers until ctx is done. Then it claims no more, gives back what it has not
// started (no attempt is counted), waits for running handlers as long as [WithShutdownTimeout] says, and returns.
// Nothing of it runs after that, but for handlers that ignore their context, and the end of connections to a database that
// does not answer. It may be called more than once at a time, in any number of processes.
//
// It returns nil once it was told to stop, and an error when it cannot start: for bad options, when no registered
// task has a handler, when the database cannot be reached or errors.Is(err, ErrNotMigrated). Once started, it outlives
// any trouble of the database.
func (c *Client) Work(ctx context.Context, opts ...WorkOption) error {
	options := workOptions{
		concurrency: defaultConcurrency, pollInterval: defaultPollInterval,
		lease: defaultLease, shutdownTimeout: defaultShutdownTimeout, handlerGrace: defaultHandlerGrace,
		sampleInterval: defaultSampleInterval,
	}
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyWork(&options); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	options.queues = c.withDeliveries(options.queues)
	names := c.handled()
	if len(names) == 0 {
		errs = append(errs, errors.New("no registered task has a handler"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("anchor: Work: %w", err)
	}
	host, _ := os.Hostname()
	record := workerRecord{
		id: newWorkerID(), host: host, pid: os.Getpid(), lease: options.lease, names: names, queues: options.queues,
		slots: options.concurrency, crons: map[string]string{},
	}
	declared := c.declaredCrons()
	for _, job := range declared {
		record.crons[job.name] = job.declaration
	}
	began := time.Now()
	session, err := c.store.openSession(ctx, record)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	w := &worker{
		client: c, session: session, options: options, names: names,
		logger: c.logger.With(slog.String("worker", record.id)), timed: c.metrics != nil || c.logCompleted,
	}
	w.intake = newIntake(options.concurrency, func() { w.executors.Go(w.execute) })
	w.lease.renewed(record.id, began.Add(options.lease))
	w.finisher = newFinisher(w)
	w.ticker = newTicker(w, declared)
	for _, queue := range options.queues {
		c.metrics.nameQueue(queue)
	}
	c.metrics.workBegins(w)
	defer c.metrics.workEnds(w)
	return w.run(ctx)
}

// handled are the names of the tasks that this client has handlers for, in order: claims of the same names share fronts.
func (c *Client) handled() []string {
	var names []string
	for name, task := range c.tasks {
		if task.run != nil && !(c.undelivered && strings.HasPrefix(name, webhookPrefix)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// withDeliveries adds to the queues those that the webhooks' deliveries go to. No queues are all.
func (c *Client) withDeliveries(queues []string) []string {
	if len(queues) == 0 {
		return nil
	}
	all := slices.Clone(queues)
	for _, task := range c.tasks {
		if task.delivery == nil {
			continue
		}
		if queue := c.tasks[task.delivery.name].policy.queue; !slices.Contains(all, queue) {
			all = append(all, queue)
		}
	}
	return all
}

// worker is one call of Work.
type worker struct {
	client  *Client
	session session
	options workOptions
	names   []string
	logger  *slog.Logger
	timed   bool // how long handlers run is of interest, not only how long those do that fail

	intake   *intake
	finisher *finisher
	ticker   *ticker
	lease    leaseState
	running  runningSet
	stuck    atomic.Int64 // handlers that go on after their task was taken away
	depth    atomic.Pointer[depthSample]

	executors sync.WaitGroup
	aside     sync.WaitGroup // settles what was taken away
	// end is done when the shutdown has taken as long as it may: nothing more is written then.
	end context.Context
}

// run is the one place where a worker's goroutines start and end: the fetcher and the ticker end first, then the handlers, then
// what writes how they ended, then the lease.
func (w *worker) run(ctx context.Context) error {
	base := context.WithoutCancel(ctx)
	handlers, cancelHandlers := context.WithCancelCause(base)
	defer cancelHandlers(nil)
	w.running.base = handlers

	background, stopBackground := context.WithCancel(base)
	patience, cancelPatience := endsAfter(ctx, w.options.shutdownTimeout)
	defer cancelPatience()
	end, cancelEnd := endsAfter(ctx, w.options.shutdownTimeout+shutdownGrace+writingGrace-signOffGrace)
	defer cancelEnd()
	w.end = end
	var upkeep sync.WaitGroup
	upkeep.Go(func() { w.keepLease(background) })
	upkeep.Go(func() { w.maintain(background) })
	watching, stopWatching := context.WithCancel(base)
	var watch sync.WaitGroup
	watch.Go(func() { w.watch(watching) })
	finishing, stopFinishing := context.WithCancel(base)
	var finisher sync.WaitGroup
	finisher.Go(func() { w.finisher.run(finishing, end) })

	var ticker sync.WaitGroup
	ticker.Go(func() { w.ticker.run(ctx) })

	w.fetch(ctx)
	ticker.Wait()

	for _, task := range w.intake.close() {
		w.giveBack(task)
	}
	w.drain(patience, cancelHandlers)
	stopWatching()
	watch.Wait()
	w.settleAside()
	stopFinishing()
	finisher.Wait()
	stopBackground()
	upkeep.Wait()
	if err := w.session.close(end); err != nil {
		w.trouble("the worker could not sign off, its lease will end by itself", err)
	}
	return nil
}

// drain waits for the handlers, once patience has ended without any.
func (w *worker) drain(patience context.Context, cancelHandlers context.CancelCauseFunc) {
	ended := make(chan struct{})
	go func() { w.executors.Wait(); close(ended) }()
	select {
	case <-ended:
		return
	case <-patience.Done():
	}
	cancelHandlers(ErrShutdown)
	select {
	case <-ended:
		return
	case <-time.After(shutdownGrace):
	}
	for _, a := range w.running.all() {
		w.takeAway(a, fmt.Errorf("the handler did not return within %v of the end of the shutdown timeout", shutdownGrace))
	}
}

// settleAside waits for what was taken away to be settled, unless a failure hook takes too long for that.
func (w *worker) settleAside() {
	ended := make(chan struct{})
	go func() { w.aside.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(shutdownGrace):
	case <-w.end.Done():
	}
}

// giveBack returns a task that was not started.
func (w *worker) giveBack(task *claimedTask) {
	if task.exhausted {
		return // there is no attempt to give back; the end of the lease frees it
	}
	w.finisher.add(finishedAttempt{task: task, outcome: outcomeReleased})
}

// newWorkerID is a random UUID (version 4).
func newWorkerID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// errAttr is an error of this library or the database's for the log. What handlers return is not logged as text:
// it may hold what their parameters held.
func errAttr(err error) slog.Attr { return slog.String("error", err.Error()) }
