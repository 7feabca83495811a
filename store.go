package anchor

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Store keeps the tasks: [PGStore] or [MemoryStore]. Only this package implements it.
//
// Every method is safe for concurrent use. An error that is not one of this package's sentinels says that
// the store could not be reached or refused; nothing was half-written then.
type Store interface {
	// Migrate brings the schema to the version that this library needs. It is safe to call from many
	// processes at once, and does nothing when there is nothing to do.
	Migrate(ctx context.Context) error

	// enqueue writes tasks durably, all or none, and sets their ids. A unique tag that is held answers
	// *TaskExistsError. Workers are woken once it is durable.
	enqueue(ctx context.Context, tasks []*newTask) error
	// enqueueTx does the same within tx, and leaves tx usable after *TaskExistsError.
	enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error

	// task answers ErrTaskNotFound; tasks answers what TaskQuery describes.
	task(ctx context.Context, id int64) (*TaskInfo, error)
	tasks(ctx context.Context, q TaskQuery) ([]*TaskInfo, error)
	stats(ctx context.Context) (*Stats, error)
	// explain answers ErrTaskNotFound, too.
	explain(ctx context.Context, id int64) (*taskFacts, error)
	workerInfos(ctx context.Context) ([]*WorkerInfo, error)

	// cancel ends a pending task, or asks the worker of a running one to. tx is nil outside a transaction.
	cancel(ctx context.Context, tx pgx.Tx, id int64) error
	retry(ctx context.Context, id int64) error
	releaseTag(ctx context.Context, tag string) error
	setPaused(ctx context.Context, queue string, paused bool) error

	cronStore
	// runCron makes an instance of a schedule now, for a time that is no tick. It answers ErrCronNotFound or
	// *TaskExistsError when there is none.
	runCron(ctx context.Context, name string, at time.Time) (int64, error)

	// openSession registers a worker and gives it what it needs for its life.
	openSession(ctx context.Context, w workerRecord) (session, error)
}

// cronStore keeps the schedules. Both a store and a session are one; a session's has its own connections.
type cronStore interface {
	// crons answers the schedules of these names, nil for all, in order of name; deleted ones, too.
	crons(ctx context.Context, names []string) ([]*cronJob, error)
	// changeCron lets change see the schedule of a name, an empty one when there is none, and writes what it makes
	// of it if it answers true; nothing is lost that others change at that time. change may be called again. The
	// next tick is written only if change set another, the results of ticks never are. A schedule that is marked
	// as deleted is removed unless it is declared. Workers are told.
	changeCron(ctx context.Context, name string, change func(job *cronJob) (bool, error)) error
}

// session is what one call of Client.Work has of a store. Each method is called by one goroutine at a time,
// different ones concurrently, but for begin and fail, which any number may call at once.
type session interface {
	// heartbeat renews the lease. When it is over in the caller's eyes, or another worker has taken the tasks, it
	// registers a new worker instead, and what was claimed under another id than beat.workerID is left to be taken
	// back. The session claims for the new one once adopt was called with its id, and not before: a claim that its
	// caller cannot tell for its own would be nobody's.
	heartbeat(ctx context.Context, over bool) (beat heartbeat, err error)
	adopt(workerID string)

	// claim takes ready tasks: status running, attempt counted, durable before it returns.
	claim(ctx context.Context, req claimRequest) (claimed, error)

	// finish writes how attempts ended. Each is guarded by its claim; lost holds the ids whose claim
	// was somebody else's by then. It waits for nobody for long: *heldError says that all was written but what
	// others' transactions hold.
	finish(ctx context.Context, batch []finishedAttempt) (lost []int64, err error)

	// begin gives an attempt its transaction. It costs nothing until a statement is sent through it.
	begin(task *claimedTask, idle time.Duration) attemptTx

	// fail records that a task has failed for good, in one transaction with its hook and the enqueue of next. It answers
	// ErrClaimLost when the claim is somebody else's. The error of the hook is recorded and changes nothing else.
	fail(ctx context.Context, task *claimedTask, end finalFailure) error

	// takeBack takes up to limit tasks from workers whose lease is over: those with attempts left are
	// pending again, those without go to this worker, to be failed by it, if their name is in names.
	takeBack(ctx context.Context, names []string, limit int) (takenBack, error)

	cronStore
	// dueCrons finds up to limit schedules that are due, but for those of the ids in without. An orphaned one is not.
	dueCrons(ctx context.Context, without []int64, limit int) (dueCrons, error)
	// tick makes the instances of ticks and moves each schedule to its next tick, all in one, for those schedules
	// that are as they were when they were read and still due by the store's clock; ticked are these. An instance
	// whose tick has had one is left out. Workers are woken. It answers errTickBusy rather than wait long for a unique tag.
	tick(ctx context.Context, ticks []cronTick) (ticked []cronTicked, err error)

	// sample answers how deep the queues are, in a sample of this or another worker that is no older than maxAge, if
	// it can be had. queues are those that matter, should there be too many. nil: there is none yet.
	sample(ctx context.Context, maxAge time.Duration, queues []string) (*depthSample, error)

	// prune drops what has been kept long enough.
	prune(ctx context.Context) error

	// wakeups carries hints: tasks may be ready, or a running one was cancelled. It is never closed.
	wakeups() <-chan wakeup

	// close ends the session. What is still claimed is left to the lease.
	close(ctx context.Context) error
}

// attemptTx is the transaction of one attempt. The pgx.Tx that a handler sees never commits or rolls back
// by itself.
type attemptTx interface {
	// handler is what the handler is given.
	handler() pgx.Tx
	// endUnused ends the transaction if nothing was sent through it, and tells whether that is so: then there is
	// nothing to commit, and what the handler left behind finds it over.
	endUnused() bool
	// complete writes the task's completion, guarded by its claim, and commits. It answers ErrClaimLost, or
	// an error that says why the transaction could not commit. When it returns, the outcome is certain or
	// the error is ErrOutcomeUnknown.
	complete(ctx context.Context) error
	// abandon rolls back once the handler has returned. It never fails: a connection that does not answer is
	// closed. It may be called more than once.
	abandon()
	// sever does the same while the handler is still running, and concurrently with it.
	sever()
}

// newTask is a task to be written.
type newTask struct {
	id          int64 // set by the store
	name        string
	queue       string
	priority    int16
	maxAttempts int32
	params      []byte // a JSON object
	attributes  []byte // JSON of taskAttributes, nil when it is empty
	delay       time.Duration
	startAt     time.Time // zero: delay counts
	tag         string    // "" is none
	scope       UniqueScope
}

// taskAttributes is what a task has that differs from its definition.
type taskAttributes struct {
	Retry        string            `json:"retry,omitempty"`
	Timeout      string            `json:"timeout,omitempty"`
	ScheduledFor time.Time         `json:"scheduledFor,omitzero"`
	Trace        map[string]string `json:"trace,omitempty"` // what a Tracer has travel with the task
}

func (a taskAttributes) encode() []byte {
	if a.Retry == "" && a.Timeout == "" && a.ScheduledFor.IsZero() && len(a.Trace) == 0 {
		return nil
	}
	raw, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings and a time within the years 1 to 9999
	}
	return raw
}

// claimedTask is a task that this worker holds.
type claimedTask struct {
	id          int64
	token       int64 // this claim's alone
	name        string
	queue       string
	priority    int16
	attempt     int32 // of this claim, counted from 1
	maxAttempts int32
	params      []byte
	attributes  []byte
	tag         string
	createdAt   time.Time
	nextRun     time.Time
	startedAt   time.Time
	workerID    string
	received    time.Time // when this process had it, by its own clock
	// exhausted marks a task of a dead worker without attempts left: it is here to be failed, not to be run.
	exhausted bool

	claim   *heldClaim // of a store that counts them
	settled int32      // used by settle
}

func (t *claimedTask) info() *TaskInfo {
	info := &TaskInfo{
		ID: t.id, Name: t.name, Queue: t.queue, Priority: int(t.priority), Status: StatusRunning,
		Attempts: int(t.attempt), MaxAttempts: int(t.maxAttempts), Params: append(json.RawMessage(nil), t.params...),
		UniqueTag: t.tag, CreatedAt: t.createdAt, NextRun: t.nextRun, StartedAt: t.startedAt, WorkerID: t.workerID,
	}
	if len(t.attributes) > 0 {
		var attributes taskAttributes
		if json.Unmarshal(t.attributes, &attributes) == nil {
			info.ScheduledFor = attributes.ScheduledFor
		}
	}
	return info
}

// workerRecord is how a worker introduces itself.
type workerRecord struct {
	id    string // a UUID
	host  string
	pid   int
	lease time.Duration
	names []string // the tasks that it has handlers for
	// queues that it works on; empty is every one
	queues []string
	slots  int
	crons  map[string]string // the declared schedules, by name, and their declarations
}

type heartbeat struct {
	// workerID is whom this session is to claim for from now on.
	workerID string
	// cancelled are the running tasks of this worker that somebody asked to cancel.
	cancelled []int64
}

// claimRequest says what a worker wants.
type claimRequest struct {
	names  []string
	queues []string // empty: all
	// limit bounds the whole, firstHand those of it that were tried before or must not be tried again: they
	// are claimed only when a slot is near, so that an attempt is not spent by a crash while they wait.
	limit     int
	firstHand int
	// hinted are queues that something has happened to.
	hinted []string
	// sweep asks to look at every queue from the beginning, in this and the next claims.
	sweep bool
	// fresh asks to look as if it were for the first time.
	fresh bool
}

// claimed is the answer to a claimRequest.
type claimed struct {
	tasks []*claimedTask
	// more says that tasks were left that could be claimed: for want of room, or because others are at them.
	more bool
	// again is how soon to look once more, because this look was not a thorough one; 0 is no sooner than usual.
	again time.Duration
}

type outcome uint8

const (
	outcomeCompleted outcome = iota
	outcomeRetried           // failed, with attempts left: message and after are set
	outcomeFailed            // failed for good, without a hook: message is set
	outcomeReleased          // never started: pending again, attempt not counted
	outcomeCancelled         // ended after Cancel: message is set
)

// finishedAttempt is how an attempt ended.
type finishedAttempt struct {
	task    *claimedTask
	outcome outcome
	message string
	after   time.Duration
	asked   bool // retried when the handler asked for it
	held    bool // by somebody else's transaction, when it was to be written before
	unsure  bool // an earlier try may have been committed
}

// finalFailure is how a task failed for good.
type finalFailure struct {
	message string
	idle    time.Duration                              // how long the database keeps the transaction if nothing is heard
	hook    func(ctx context.Context, tx pgx.Tx) error // nil: none
	hookErr error                                      // what the hook has failed with before, where it is not called again
	next    []*newTask                                 // have no tag
}

type takenBack struct {
	// count is how many tasks were taken from dead workers.
	count int
	// exhausted are now this worker's, to be failed with their hook.
	exhausted []*claimedTask
}

// heldError tells which tasks could not be finished because others' transactions hold their rows.
type heldError struct{ ids []int64 }

func (e *heldError) Error() string {
	return fmt.Sprintf("anchor: %d tasks are held by others' transactions", len(e.ids))
}

// wakeup is a hint. Losing one costs a poll interval at most.
type wakeup struct {
	queue     string
	cancelled int64 // 0: none
	crons     bool  // a schedule was changed
}
