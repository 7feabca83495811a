// Package subject is the measured side of the benchmark: one process that runs one role on one queue.
package subject

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// queue is what a role needs of a library. Methods that a library has nothing for answer errNotOffered.
type queue interface {
	migrate(ctx context.Context) error
	// enqueue writes one task and returns once it is as durable as the library makes it.
	enqueue(ctx context.Context, p *protocol.Payload) error
	enqueueMany(ctx context.Context, payloads []*protocol.Payload) error
	// enqueueTx writes one task in a transaction of the caller, and commits.
	enqueueTx(ctx context.Context, p *protocol.Payload) error
	// work starts a worker. stop drains it.
	work(ctx context.Context, h handler) (stop func() error, err error)
	close()
}

// handler is what a worker does with a task.
type handler struct {
	// handle is the whole of it, but for insert.
	handle func(p *protocol.Payload)
	// insert asks for a row of the task's own, in the transaction that completes it.
	insert bool
}

// insertEffect is the row that a handler writes, in the table that the benchmark makes.
const insertEffect = `insert into bench_effects (n, note) values ($1, $2)`

// open connects to the queue that the spec names.
func open(ctx context.Context, spec protocol.Spec) (queue, error) {
	switch spec.Peer {
	case "anchor":
		return openAnchor(ctx, spec)
	case "bare":
		return openBare(ctx, spec)
	case "river":
		return openRiver(ctx, spec, false)
	case "river-tuned":
		return openRiver(ctx, spec, true)
	case "asynq":
		return openAsynq(spec)
	}
	return nil, fmt.Errorf("unknown peer %q", spec.Peer)
}

// Run is the whole life of a measured process.
func Run(rawSpec string) error {
	ch := &channel{out: json.NewEncoder(os.Stdout), in: bufio.NewScanner(os.Stdin)}
	err := ch.run(rawSpec)
	if err != nil {
		ch.tell(protocol.Event{Event: protocol.Failed, Error: err.Error()})
	}
	return err
}

// channel is the process's end of the conversation.
type channel struct {
	mu  sync.Mutex
	out *json.Encoder
	in  *bufio.Scanner
}

func (c *channel) tell(e protocol.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	_ = c.out.Encode(e) // whoever does not listen any more has gone
}

// command waits for the next one; stdin that ends is a Stop.
func (c *channel) command() string {
	if c.in.Scan() {
		return c.in.Text()
	}
	return protocol.Stop
}

func (c *channel) run(rawSpec string) error {
	var spec protocol.Spec
	if err := json.Unmarshal([]byte(rawSpec), &spec); err != nil {
		return fmt.Errorf("read the spec: %w", err)
	}
	ctx := context.Background()
	q, err := open(ctx, spec)
	if err != nil {
		return err
	}
	defer q.close()
	if spec.Role == protocol.Migrate {
		if err := q.migrate(ctx); err != nil {
			return err
		}
		c.tell(protocol.Event{Event: protocol.Done})
		return nil
	}
	c.tell(protocol.Event{Event: protocol.Ready})
	if c.command() != protocol.Go {
		return nil
	}
	stopProfile, err := profile(spec.Profile)
	if err != nil {
		return err
	}
	defer stopProfile()
	switch spec.Role {
	case protocol.Work:
		return c.work(ctx, q, spec)
	case protocol.Steady:
		return c.steady(ctx, q, spec)
	case protocol.Enqueue:
		return c.enqueue(ctx, q, spec)
	case protocol.Bulk:
		return c.bulk(ctx, q, spec)
	case protocol.Pickup:
		return c.pickup(ctx, q, spec)
	case protocol.Pace:
		return c.pace(ctx, q, spec)
	}
	return fmt.Errorf("unknown role %q", spec.Role)
}

func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = file.Close() }, nil
}

// cpuTime is what this process has used, user and system.
func cpuTime() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}

// payload is task number n's own.
func payload(n int64) *protocol.Payload {
	return &protocol.Payload{
		N:      n,
		Email:  fmt.Sprintf("user-%d@example.com", n),
		Text:   fmt.Sprintf("order %08x of customer %d", uint32(n*2654435761), n%9973),
		SentAt: time.Now().UnixNano(),
	}
}
