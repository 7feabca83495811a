package anchortest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// Harness is a client with a worker that runs when it is told to. It is made by [Run] and [RunPostgres], and its
// methods are for the goroutine of the test; the faults may be called by handlers as well.
type Harness struct {
	// Client is what the program under test takes. Do not call Work of it; [Harness.Drain] does.
	Client *anchor.Client

	t     testing.TB
	ctx   context.Context
	watch *watch
	store *anchor.MemoryStore // nil over a database
	pool  *pgxpool.Pool       // nil in memory
	poll  time.Duration
	most  int // attempts in one Drain

	known  map[string]bool // the names of the tasks
	begun  []pgx.Tx        // by Begin
	atRest *rest           // nil over a database
}

// Run runs a test over a store in memory, in a [testing/synctest] bubble: time stands still while something runs,
// starts at midnight of 2000-01-01 UTC, and is moved by [Harness.Advance]. The client knows tasks. The jitter of
// retries is the same in every run. Nothing outside is needed, and t may be parallel; but within test there is no
// t.Run and no t.Parallel.
//
// The failure of a test prints the timeline of its tasks. A test that leaves a goroutine behind fails with the
// goroutine named, and so does one that leaves a transaction of [Harness.Begin] open or has asked for a fault that
// never happened.
func Run(t *testing.T, test func(t *testing.T, h *Harness), tasks ...anchor.AnyTask) {
	t.Helper()
	if test == nil {
		t.Fatal("anchortest: Run: test is nil")
	}
	t.Context().Done() // made in the bubble, its channel could not be closed outside of it
	var atRest rest
	var bubble atomic.Value // its name, a string
	bubble.Store("")
	name := func() string { return bubble.Load().(string) }
	defer atRest.guard(name, stuckAfter)()
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if name() == "" || !strings.HasPrefix(fmt.Sprint(reason), "deadlock: ") {
			panic(reason)
		}
		t.Fatalf("anchortest: %v; these goroutines are left:\n%s", reason, leftIn(name()))
	}()
	synctest.Test(t, func(t *testing.T) {
		bubble.Store(ownBubble())
		store := anchor.NewMemoryStore()
		h := newHarness(t, store, tasks)
		h.store, h.poll, h.atRest = store, time.Hour, &atRest
		h.watch.recording, h.watch.stepwise = true, true
		t.Cleanup(h.finish)
		h.declare()
		test(t, h)
	})
}

func newHarness(t testing.TB, store anchor.Store, tasks []anchor.AnyTask) *Harness {
	t.Helper()
	h := &Harness{t: t, ctx: t.Context(), watch: newWatch(), known: map[string]bool{}, most: maxDrained}
	watched := seam.Anchor.Watch(store, h.watch).(anchor.Store)
	client, err := anchor.New(watched, anchor.WithTasks(tasks...), anchor.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatalf("anchortest: %v", err)
	}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	seam.Anchor.Tune(client, func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64()
	}, h.watch.attemptFailed)
	h.Client = client
	for _, task := range tasks {
		h.known[task.Name()] = true
	}
	return h
}

// unknown tells of a task that was not given to the harness: nothing of it could ever be found. It is "" for others.
func (h *Harness) unknown(name string) string {
	switch {
	case h.known[name]:
		return ""
	case name == "":
		return "anchortest: the task is nil"
	}
	return fmt.Sprintf("anchortest: the harness does not know task %s: give it to Run", name)
}

// declare lets a worker store the schedules that the tasks declare.
func (h *Harness) declare() {
	h.drive(0)
}

// Begin starts a transaction, for RunWithTx and for what the program writes itself. In memory it records its
// statements as that of a handler does; over a database it is one of the pool's. One that is open when the test ends is
// rolled back, and fails the test.
func (h *Harness) Begin() pgx.Tx {
	h.t.Helper()
	var tx pgx.Tx
	var err error
	if h.pool != nil {
		tx, err = h.pool.Begin(h.ctx)
	} else if tx, err = h.store.Begin(h.ctx); err == nil {
		tx = newRecordedTx(h.watch, tx, 0)
	}
	if err != nil {
		h.t.Fatalf("anchortest: Begin: %v", err)
	}
	h.begun = append(h.begun, tx)
	return tx
}

// ownBubble is what the stack traces of this goroutine's bubble have in their first line.
func ownBubble() string {
	var buffer [256]byte
	header, _, _ := strings.Cut(string(buffer[:runtime.Stack(buffer[:], false)]), "\n")
	_, bubble, _ := strings.Cut(header, "synctest bubble ")
	number, _, found := strings.Cut(bubble, "]")
	if !found {
		return ""
	}
	return "synctest bubble " + number + "]"
}

// leftIn tells of each goroutine of a bubble what it does and who started it.
func leftIn(bubble string) string {
	buffer := make([]byte, 1<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	var left strings.Builder
	for trace := range strings.SplitSeq(string(buffer), "\n\n") {
		header, frames, _ := strings.Cut(trace, "\n")
		if !strings.Contains(header, bubble) || strings.Contains(trace, "testing/synctest.Test(") {
			continue
		}
		fmt.Fprintf(&left, "%s\n%s\n\n", header, strings.TrimSpace(frames))
	}
	return left.String()
}
