package anchortest

import (
	"errors"

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
	redeliver  []any
}

func (f *faults) init() {
	f.crashes, f.commits, f.duplicates = map[string]int{}, map[string]int{}, map[string]int{}
}

// kills tells whether the worker of an attempt that begins is to die in it.
func (f *faults) kills(a seam.Attempt) bool {
	if f.loseNext {
		f.loseNext, f.leaseLost = false, true
		return true
	}
	return spend(f.crashes, a.Name)
}

func (f *faults) failsCommit(a seam.Attempt) bool { return spend(f.commits, a.Name) }

func (f *faults) completed(a seam.Attempt) {
	if spend(f.duplicates, a.Name) {
		f.redeliver = append(f.redeliver, a.Claim)
	}
}

func (f *faults) redelivery() any {
	if len(f.redeliver) == 0 {
		return nil
	}
	next := f.redeliver[0]
	f.redeliver = f.redeliver[1:]
	return next
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
func (h *Harness) CrashNext(task anchor.AnyTask) { h.arm(h.watch.faults.crashes, task) }

// DuplicateDelivery makes the next attempt of task that completes happen once more after that, as if a worker that
// was taken for dead came back with it: the handler runs with the same task again, and what it writes through its tx
// is refused. Each call stands for one more delivery.
func (h *Harness) DuplicateDelivery(task anchor.AnyTask) { h.arm(h.watch.faults.duplicates, task) }

// FailCommit makes the next attempt of task whose handler returns nil fail at its commit, with [ErrCommitFailed]:
// nothing that it wrote through its tx is applied, and it is retried as the task's policy says. Each call stands for
// one commit.
func (h *Harness) FailCommit(task anchor.AnyTask) { h.arm(h.watch.faults.commits, task) }

func (h *Harness) arm(fault map[string]int, task anchor.AnyTask) {
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
		w.dead[token] = true
	}
}
