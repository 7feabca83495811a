package anchortest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/seam"
)

// watch sees all that happens to the harness's store, and holds the faults. It is safe for concurrent use.
type watch struct {
	start     time.Time
	changed   chan struct{} // a hint: idle may answer something else
	recording bool          // handlers get a transaction that records

	stepwise bool // a claim waits until it is granted

	mu        sync.Mutex
	driving   bool
	mayRun    int    // how many more attempts may be claimed
	granted   bool   // the next claim, if stepwise
	claim     func() // makes the present worker claim
	nothing   bool   // is due, as of the newest claim
	died      bool   // the present worker
	endless   error  // of a hook that is called again and again
	ended     Outcomes
	running   map[int64]seam.Attempt // by token
	dead      map[int64]string       // tokens of attempts whose worker is lost, and by what
	errs      map[int64]error        // by task, of the newest attempt
	hooks     map[int64][]error      // by task: what each call returned
	hookCalls map[int64]int          // by token
	completed map[string]int64       // the newest task, by name
	moved     time.Duration          // of a database: how far the tasks' time is ahead

	faults faults
	events timeline
	sql    statements
}

func newWatch() *watch {
	w := &watch{
		start: time.Now(), changed: make(chan struct{}, 1),
		running: map[int64]seam.Attempt{}, dead: map[int64]string{}, errs: map[int64]error{}, hooks: map[int64][]error{}, hookCalls: map[int64]int{},
		completed: map[string]int64{},
	}
	w.faults.init()
	w.events.init()
	w.sql.init()
	return w
}

func (w *watch) hint() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// begin is false when tasks are being run already.
func (w *watch) begin(limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.driving {
		return false
	}
	w.driving, w.mayRun, w.granted, w.claim, w.nothing, w.died, w.endless, w.ended = true, limit, false, nil, false, false, nil, Outcomes{}
	return true
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.driving = false
}

// result is what was counted so far, and whether another worker has to take the place of one that died.
func (w *watch) result() (outcomes Outcomes, died bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	died = w.died && w.mayRun > 0
	w.died, w.nothing, w.granted, w.claim, w.faults.leaseLost = false, false, false, nil, false
	return w.ended, died
}

// stuck is why waiting for the present worker is in vain, nil when it is not.
func (w *watch) stuck() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.endless
}

// idle tells whether the worker has done what there is to do.
func (w *watch) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.running) == 0 && (w.nothing || w.died || w.mayRun <= 0)
}

// grant lets the worker claim. It is false when it may already, or has not begun.
func (w *watch) grant() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stepwise || w.granted || w.claim == nil || len(w.running) > 0 {
		return false
	}
	w.granted = true
	w.claim()
	return true
}

func (w *watch) shift() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved
}

func (w *watch) attemptFailed(id int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs[id] = err
}

// Enqueued implements [seam.Watcher].
func (w *watch) Enqueued(tx pgx.Tx, tasks []seam.Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if recorded, ok := tx.(*recordedTx); ok {
		recorded.log.tasks = append(recorded.log.tasks, tasks...)
		return
	}
	w.nothing = false
	w.noteEnqueued(tasks)
}

// Cancelled implements [seam.Watcher].
func (w *watch) Cancelled(tx pgx.Tx, id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if recorded, ok := tx.(*recordedTx); ok {
		recorded.log.cancelled = append(recorded.log.cancelled, id)
		return
	}
	w.noteCancelled(id)
}

// Retried implements [seam.Watcher].
func (w *watch) Retried(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nothing = false
	w.note(id, "pending again by Retry")
}

// Opened implements [seam.Watcher].
func (w *watch) Opened(ctx context.Context, claim func()) seam.Session {
	driven := ctx.Value(drivenKey{}) != nil
	if driven {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.claim = claim
	}
	return &watchedWorker{watch: w, driven: driven}
}

// watchedWorker implements [seam.Session].
type watchedWorker struct {
	*watch
	driven bool
}

func (w *watchedWorker) Driven() bool { return w.driven }

func (w *watchedWorker) MayClaim() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	may := len(w.running) == 0 && !w.died && w.mayRun > 0 && (w.granted || !w.stepwise)
	w.granted = w.granted && !may
	return may
}

func (w *watchedWorker) Redeliver() any {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faults.redelivery()
}

func (w *watchedWorker) Claimed(a seam.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mayRun--
	w.nothing = false
	w.running[a.Token] = a
	w.noteClaimed(a)
	if a.Exhausted {
		return
	}
	if by := w.faults.kills(a); by != "" {
		w.dead[a.Token] = by
	}
}

func (w *watchedWorker) NoneDue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nothing = len(w.running) == 0
	w.hint()
}

func (w *watchedWorker) LeaseLost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.faults.leaseLost
	w.faults.leaseLost = false
	return lost
}

func (w *watchedWorker) Tx(a seam.Attempt, tx pgx.Tx, hook bool) pgx.Tx {
	if !w.recording {
		return tx
	}
	recorded := newRecordedTx(w.watch, tx, a.ID)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rollback(w.sql.open[a.Token]) // the handler's, if this is the hook's
	recorded.log.hook = hook
	w.sql.open[a.Token] = recorded.log
	return recorded
}

func (w *watchedWorker) Used(a seam.Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead[a.Token] != "" || w.faults.commits[a.Name] > 0 || w.sql.open[a.Token].used()
}

func (w *watchedWorker) Commit(a seam.Attempt) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.dead[a.Token] != "":
		return seam.ErrDied
	case w.faults.failsCommit(a):
		return ErrCommitFailed
	}
	return nil
}

func (w *watchedWorker) Dead(a seam.Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead[a.Token] != ""
}

func (w *watchedWorker) Hook(a seam.Attempt, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks[a.ID] = append(w.hooks[a.ID], err)
	w.noteHook(a, err)
	w.hookCalls[a.Token]++
	if err != nil && w.hookCalls[a.Token] >= maxHookCalls {
		w.endless = fmt.Errorf("the failure hook of %s was called %d times and meets trouble of the server that does not end: %w", a.Name, maxHookCalls, err)
		w.hint()
	}
	if err != nil {
		w.rollback(w.sql.open[a.Token])
	}
}

func (w *watchedWorker) Ended(a seam.Attempt, end seam.End) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.hint()
	if _, ok := w.running[a.Token]; !ok {
		return
	}
	delete(w.running, a.Token)
	log := w.sql.open[a.Token]
	delete(w.sql.open, a.Token)
	w.noteEnded(a, end)
	if end.Outcome == seam.Completed || end.Outcome == seam.Failed && log != nil && log.hook {
		w.commit(log)
	} else {
		w.rollback(log)
	}
	switch end.Outcome {
	case seam.Completed:
		w.ended.Completed++
		w.completed[a.Name] = a.ID
		w.faults.completed(a)
	case seam.Failed:
		w.ended.Failed++
	case seam.Cancelled:
		w.ended.Cancelled++
	case seam.Lost:
		w.ended.Lost++
		w.died = w.died || w.dead[a.Token] != ""
	case seam.Retried:
		if end.Snoozed {
			w.ended.Snoozed++
		} else {
			w.ended.Retried++
		}
	}
}
