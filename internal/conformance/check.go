// Package conformance is the contract of a store as a list of cases, each one rule.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// Case is one rule of the contract. It goes through the public API only. Cases may share a store and run at once:
// each has queues, tasks and tags of its own.
type Case struct {
	Name        string // unique, of lower-case letters and dashes
	Explanation string // the rule, in a sentence
	Steps       func(c *Check)
}

// Cases returns all cases. Those that wait longest, for ticks, leases and retries, come first: the others run meanwhile.
func Cases() []Case {
	return slices.Concat(scheduleCases, leaseCases, retryCases, manageCases, enqueueCases, badDataCases, tagCases, transactionCases, workCases, hookCases, queryCases, explainCases)
}

// Run runs a case on a store and returns what it found wrong. patience bounds each wait for what must happen.
func (c Case) Run(ctx context.Context, store anchor.Store, patience time.Duration) []string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	check := &Check{ctx: ctx, store: store, patience: patience, prefix: c.Name + "-" + strings.ToLower(rand.Text()[:6])}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer check.cleanUp()
		defer func() {
			if value := recover(); value != nil && value != any(stopped{}) {
				check.Errorf("panic: %v\n%s", value, debug.Stack())
			}
		}()
		c.Steps(check)
	}()
	<-done
	return check.failures
}

// stopped ends a case.
type stopped struct{}

// Params are the parameters of the cases' tasks.
type Params struct {
	N    int     `json:"n"`
	Text string  `json:"text,omitempty"`
	F    float64 `json:"f,omitempty"`
	Any  any     `json:"any,omitempty"`
}

type handler = anchor.Handler[Params]

func succeed(context.Context, pgx.Tx, *Params) error { return nil }

var errBroken = errors.New("broken")

func breakDown(context.Context, pgx.Tx, *Params) error { return errBroken }

// Check is what a case works with. Its methods are for the case's goroutine, but for Errorf.
type Check struct {
	ctx      context.Context
	store    anchor.Store
	patience time.Duration
	prefix   string // of names, queues and tags
	defined  int
	client   *anchor.Client
	cleanups []func()

	mu       sync.Mutex
	failures []string
}

// Errorf notes a failure.
func (c *Check) Errorf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

// Fatalf notes a failure and ends the case.
func (c *Check) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	panic(stopped{})
}

func (c *Check) must(err error) {
	if err != nil {
		c.Fatalf("unexpected error: %v", err)
	}
}

func (c *Check) wantError(err, want error) {
	if !errors.Is(err, want) {
		c.Errorf("error %v, want %v", err, want)
	}
}

// wantRefused is for mistakes that no sentinel stands for.
func (c *Check) wantRefused(what string, err error) {
	if err == nil {
		c.Errorf("%s was accepted, want an error", what)
	}
}

func (c *Check) equal(what string, want, got any) {
	if diff := cmp.Diff(want, got); diff != "" {
		c.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (c *Check) cleanUp() {
	for _, cleanup := range slices.Backward(c.cleanups) {
		cleanup()
	}
}

func (c *Check) eventually(what string, condition func() bool) {
	deadline := time.After(c.patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			c.Fatalf("not in time: %s", what)
		case <-ticker.C:
		}
	}
}

func (c *Check) queue() string          { return c.prefix }
func (c *Check) tag(name string) string { return c.prefix + "/" + name }

// task declares a task in the case's queue. It is tried once more, soon, unless an option says otherwise.
func (c *Check) task(handle handler, opts ...anchor.TaskOption) *anchor.Task[Params] {
	c.defined++
	defaults := []anchor.TaskOption{anchor.WithQueue(c.queue()), anchor.WithRetryPolicy("1ms", 2), anchor.WithTimeout("1m")}
	return anchor.Define(fmt.Sprintf("%s-%d", c.prefix, c.defined), handle, append(defaults, opts...)...)
}

// know makes a client of the case's tasks.
func (c *Check) know(tasks ...anchor.AnyTask) {
	client, err := anchor.New(c.store, anchor.WithTasks(tasks...), anchor.WithLogger(slog.New(slog.DiscardHandler)))
	c.must(err)
	c.client = client
}

// one declares a single task and makes a client of it.
func (c *Check) one(handle handler, opts ...anchor.TaskOption) *anchor.Task[Params] {
	task := c.task(handle, opts...)
	c.know(task)
	return task
}

func (c *Check) enqueue(task *anchor.Task[Params], opts ...anchor.RunOption) int64 {
	return c.enqueueWith(task, Params{}, opts...)
}

func (c *Check) enqueueWith(task *anchor.Task[Params], params Params, opts ...anchor.RunOption) int64 {
	id, err := task.Run(c.ctx, c.client, &params, opts...)
	c.must(err)
	return id
}

// work calls Work and returns what stops it. It is stopped at the end of the case.
func (c *Check) work(opts ...anchor.WorkOption) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	client := c.client
	go func() {
		ended <- client.Work(ctx, append([]anchor.WorkOption{anchor.WithPollInterval(50 * time.Millisecond), anchor.WithConcurrency(10)}, opts...)...)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				c.Errorf("Work: %v", err)
			}
		case <-time.After(c.patience):
			c.Errorf("Work did not return")
		}
	})
	c.cleanups = append(c.cleanups, stop)
	return stop
}

func (c *Check) info(id int64) *anchor.TaskInfo {
	info, err := c.client.Task(c.ctx, id)
	c.must(err)
	return info
}

// ended waits for a task to end.
func (c *Check) ended(id int64) *anchor.TaskInfo {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience)
	defer cancel()
	info, err := c.client.Wait(ctx, id)
	c.must(err)
	return info
}

// endsAs waits for a task to end and checks its status.
func (c *Check) endsAs(id int64, want anchor.Status) *anchor.TaskInfo {
	info := c.ended(id)
	if info.Status != want {
		c.Errorf("task %d ended as %s, want %s; errors: %v", id, info.Status, want, messages(info))
	}
	return info
}

func (c *Check) wantStatus(id int64, want anchor.Status) {
	if got := c.info(id).Status; got != want {
		c.Errorf("task %d is %s, want %s", id, got, want)
	}
}

// worked enqueues a task, works on it and returns how it ended.
func (c *Check) worked(task *anchor.Task[Params], opts ...anchor.RunOption) *anchor.TaskInfo {
	id := c.enqueue(task, opts...)
	c.work()
	return c.ended(id)
}

// begin starts a transaction. It is rolled back at the end of the case, unless it has ended by then.
func (c *Check) begin() pgx.Tx {
	tx, err := seam.Anchor.Begin(c.ctx, c.store)
	c.must(err)
	c.cleanups = append(c.cleanups, func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// pending counts the pending tasks of a declaration.
func (c *Check) pending(task *anchor.Task[Params]) int {
	infos, err := c.client.Tasks(c.ctx, anchor.TaskQuery{Name: task.Name(), Status: []anchor.Status{anchor.StatusPending}})
	c.must(err)
	return len(infos)
}

// fence returns once a task that is enqueued now, in a queue of its own, was worked on: what was ready before, and
// could be claimed, has been by then. fence must be a task that the client knows.
func (c *Check) fence(fence *anchor.Task[Params]) {
	for range 2 {
		c.endsAs(c.enqueue(fence, anchor.WithQueue(c.prefix+"-fence"), anchor.WithPriority(100)), anchor.StatusCompleted)
	}
}

func messages(info *anchor.TaskInfo) []string {
	all := []string{}
	for _, e := range info.Errors {
		all = append(all, e.Message)
	}
	return all
}

// wantMessages checks that there are so many errors, each with a text in it.
func (c *Check) wantMessages(info *anchor.TaskInfo, parts ...string) {
	got := messages(info)
	if len(got) != len(parts) {
		c.Errorf("task %d has the errors %q, want %d", info.ID, got, len(parts))
		return
	}
	for i, part := range parts {
		if !strings.Contains(got[i], part) {
			c.Errorf("error %d of task %d is %q, want %q in it", i+1, info.ID, got[i], part)
		}
	}
}

// values collects what handlers saw. It is safe for concurrent use.
type values[T any] struct {
	mu  sync.Mutex
	all []T
}

func (v *values[T]) add(value T) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, value)
	return len(v.all)
}

func (v *values[T]) list() []T {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]T{}, v.all...)
}
