package anchortest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// ErrCommitFailed is what an attempt ends with whose commit [Harness.FailCommit] has made fail.
var ErrCommitFailed = errors.New("anchortest: the commit has failed, as FailCommit asked for")

// faults are what the test has asked to go wrong, by the names of tasks.
type faults struct {
	crashes    map[string]int
	commits    map[string]int
	duplicates map[string]int
	loseNext   bool
	leaseLost  bool
	redeliver  []seam.Attempt
	duplicate  int64 // the token of what is being delivered again
}

// What an attempt is lost by.
const (
	workerDied = "the worker died"
	leaseOver  = "the worker lost its lease"
)

func (f *faults) init() {
	f.crashes, f.commits, f.duplicates = map[string]int{}, map[string]int{}, map[string]int{}
}

// kills tells what the worker of an attempt that begins is to be lost by in it, "" for nothing.
func (f *faults) kills(a seam.Attempt) string {
	if f.loseNext {
		f.loseNext, f.leaseLost = false, true
		return leaseOver
	}
	if spend(f.crashes, a.Name) {
		return workerDied
	}
	return ""
}

func (f *faults) failsCommit(a seam.Attempt) bool { return spend(f.commits, a.Name) }

func (f *faults) completed(a seam.Attempt) {
	if spend(f.duplicates, a.Name) {
		f.redeliver = append(f.redeliver, a)
	}
}

func (f *faults) redelivery() any {
	if len(f.redeliver) == 0 {
		return nil
	}
	next := f.redeliver[0]
	f.redeliver = f.redeliver[1:]
	f.duplicate = next.Token
	return next.Claim
}

// pending lists what has not happened.
func (f *faults) pending() []string {
	var pending []string
	for _, fault := range []struct {
		name  string
		armed map[string]int
	}{{"CrashNext", f.crashes}, {"DuplicateDelivery", f.duplicates}, {"FailCommit", f.commits}} {
		for _, task := range slices.Sorted(maps.Keys(fault.armed)) {
			for range fault.armed[task] {
				pending = append(pending, fmt.Sprintf("%s(%s)", fault.name, task))
			}
		}
	}
	for _, a := range f.redeliver {
		pending = append(pending, fmt.Sprintf("DuplicateDelivery(%s)", a.Name))
	}
	if f.loseNext {
		pending = append(pending, "LoseLease")
	}
	return pending
}

// neverHappened lists the faults that the test has asked for in vain.
func (h *Harness) neverHappened() []string {
	w := h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	faults := w.faults.pending()
	for _, a := range w.sql.answers {
		if a.err == nil || a.given {
			continue
		}
		fault := fmt.Sprintf("FailStatement(%q)", a.part)
		if h.pool != nil {
			fault += ", which is for Run,"
		}
		faults = append(faults, fault)
	}
	return faults
}

func spend(armed map[string]int, name string) bool {
	if armed[name] == 0 {
		return false
	}
	armed[name]--
	return true
}

// CrashNext makes the worker die in the next attempt of task, at the moment when its handler returns: what the
// handler did elsewhere has happened, what it wrote through its tx has not, and nobody knows how it ended. Another
// worker takes the task back within the same [Harness.Drain]. Each call stands for one crash.
func (h *Harness) CrashNext(task anchor.AnyTask) {
	h.t.Helper()
	h.arm(h.watch.faults.crashes, task)
}

// DuplicateDelivery makes the next attempt of task that completes happen once more after that, as if a worker that
// was taken for dead came back with it: the handler runs with the same task again, and what it writes through its tx
// is refused. Each call stands for one more delivery.
func (h *Harness) DuplicateDelivery(task anchor.AnyTask) {
	h.t.Helper()
	h.arm(h.watch.faults.duplicates, task)
}

// FailCommit makes the next attempt of task whose handler returns nil fail at its commit, with [ErrCommitFailed]:
// nothing that it wrote through its tx is applied, and it is retried as the task's policy says. Each call stands for
// one commit.
func (h *Harness) FailCommit(task anchor.AnyTask) {
	h.t.Helper()
	h.arm(h.watch.faults.commits, task)
}

func (h *Harness) arm(fault map[string]int, task anchor.AnyTask) {
	h.t.Helper()
	if task == nil {
		h.t.Error("anchortest: the task is nil")
		return
	}
	if unknown := h.unknown(task.Name()); unknown != "" {
		h.t.Error(unknown) // this may be a handler's goroutine
		return
	}
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	fault[task.Name()]++
}

// LoseLease ends the lease of the worker under its running attempt, or under the next one when none runs. The
// handler's context ends with the cause [anchor.ErrClaimLost] at the next heartbeat, within 5 seconds of virtual
// time; what it wrote through its tx is refused, whatever it returns; another worker runs the task again.
func (h *Harness) LoseLease() {
	w := h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running) == 0 {
		w.faults.loseNext = true
		return
	}
	w.faults.leaseLost = true
	for token := range w.running {
		w.dead[token] = leaseOver
	}
}
