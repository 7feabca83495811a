// Package protocol is what the benchmark and the processes that it measures say to each other: a [Spec] as an
// argument, then one JSON object a line, commands in on stdin and events out on stdout. The program in graphile/
// speaks it as well.
package protocol

import "time"

// The roles of a process.
const (
	// Migrate makes the queue's tables.
	Migrate = "migrate"
	// Work runs tasks until it is told to stop.
	Work = "work"
	// Enqueue lets callers enqueue one task after the other for a while.
	Enqueue = "enqueue"
	// Bulk enqueues a number of tasks in batches, one after the other.
	Bulk = "bulk"
	// Pickup enqueues one task at a time into an idle queue.
	Pickup = "pickup"
	// Pace enqueues one task after the other at a steady rate.
	Pace = "pace"
	// Steady works as Work does, and keeps the backlog at one size meanwhile.
	Steady = "steady"
)

// What the handler of Work does.
const (
	// Noop only counts.
	Noop = "noop"
	// Insert writes a row of its own in the transaction that completes the task.
	Insert = "insert"
	// Latency notes how long ago the task was enqueued.
	Latency = "latency"
	// Sleep sleeps as long as the payload says and notes when it began.
	Sleep = "sleep"
)

// Commands.
const (
	Go    = "go"    // begin
	Usage = "usage" // answer with an event of that name
	Stop  = "stop"  // drain and exit
)

// Events.
const (
	Ready   = "ready"   // set up, waits for Go
	Started = "started" // Work is about to start
	Tick    = "tick"    // Done is how many handlers have started by now
	Handled = "handled" // as many handlers as Count says have started
	Done    = "done"    // a role that ends by itself has ended
	Stopped = "stopped" // Work has drained
	Failed  = "failed"  // Error says why
)

// Spec is what one process is to do.
type Spec struct {
	Peer string `json:"peer"`
	Role string `json:"role"`
	// Address is where the queue's server is: a PostgreSQL URL, or a unix socket of Redis.
	Address string `json:"address"`

	Handler string `json:"handler,omitempty"`
	// Count is how many tasks the role is about, First the number of the first of them.
	Count int64 `json:"count,omitempty"`
	First int64 `json:"first,omitempty"`
	// Batch is how many tasks go in one call, Callers how many call at a time.
	Batch   int `json:"batch,omitempty"`
	Callers int `json:"callers,omitempty"`
	// Duration bounds Enqueue and Pace, PerSecond is the rate of Pace.
	Duration  time.Duration `json:"duration,omitempty"`
	PerSecond float64       `json:"perSecond,omitempty"`
	// Pool is the size of the connection pool; 0 leaves the driver's default.
	Pool int `json:"pool,omitempty"`
	// Slots is how many handlers run at once; 0 leaves what the peer's settings say.
	Slots int `json:"slots,omitempty"`
	// InTx makes Pickup enqueue in a transaction of the caller.
	InTx bool `json:"inTx,omitempty"`
	// Naps is how long each task of Bulk sleeps, in milliseconds.
	Naps int64 `json:"naps,omitempty"`
	// Seen names a file that Work writes when it stops: one byte a task, how often it was handled here.
	Seen string `json:"seen,omitempty"`
	// Quiet lets Work tell nothing by itself, so that what is measured is the queue's own.
	Quiet bool `json:"quiet,omitempty"`
	// Profile names a file for a CPU profile from Go to the end.
	Profile string `json:"profile,omitempty"`
}

// Event is what a process tells. At is its time in nanoseconds since 1970.
type Event struct {
	Event string `json:"event"`
	At    int64  `json:"at"`
	Done  int64  `json:"done,omitempty"`
	// Elapsed and CPU are nanoseconds; CPU is of the whole process, user and system.
	Elapsed int64     `json:"elapsed,omitempty"`
	CPU     int64     `json:"cpu,omitempty"`
	Mallocs uint64    `json:"mallocs,omitempty"`
	Samples []float64 `json:"samples,omitempty"` // milliseconds
	Error   string    `json:"error,omitempty"`
}

// Payload is what every task carries, each its own.
type Payload struct {
	N       int64  `json:"n"`
	Email   string `json:"email"`
	Text    string `json:"text"`
	SentAt  int64  `json:"sentAt"` // nanoseconds since 1970
	SleepMS int64  `json:"sleepMs"`
}
