package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor/internal/seam"
)

// historyCaller is one of those who use the store at a time.
type historyCaller struct {
	*historyRound
	*rand.Rand
	who int
}

// told is what a call was answered: the operations that it stands for, unless it was none.
func (c *historyCaller) told(call func() ([]historyNote, error)) error {
	asked := c.clock.Add(1)
	if c.IntN(2) == 0 {
		runtime.Gosched() // others come first
	}
	notes, err := call()
	answered := c.clock.Add(1)
	for _, n := range notes {
		c.note(n, c.who, asked, answered)
	}
	return err
}

func (c *historyCaller) call() error {
	calls := []struct {
		what   string
		weight int
		do     func() error
	}{
		{"enqueue", 2, c.enqueue},
		{"claim", 8, c.claim},
		{"finish", 8, c.finish},
		{"complete", 3, c.complete},
		{"fail", 2, c.fail},
		{"cancel", 4, c.cancel},
		{"retry", 4, c.retry},
		{"releaseTag", 1, c.releaseTag},
		{"heartbeat", 2, c.heartbeat},
		{"die", 1, func() error { return c.die(c.anySession()) }},
		{"takeBack", 4, c.takeBack},
		{"read", 2, c.read},
	}
	sum := 0
	for _, call := range calls {
		sum += call.weight
	}
	at := c.IntN(sum)
	for _, call := range calls {
		if at -= call.weight; at < 0 {
			if err := call.do(); err != nil {
				return fmt.Errorf("%s by %d: %w", call.what, c.who, err)
			}
			return nil
		}
	}
	panic("unreachable")
}

func (c *historyCaller) anySession() *historySession { return c.sessions[c.IntN(len(c.sessions))] }

func (c *historyCaller) anyTask() historyTask {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tasks[c.IntN(len(c.tasks))]
}

// anyClaim is one of the newest three, or any.
func (c *historyCaller) anyClaim() (historyClaim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.claims)
	if n == 0 {
		return historyClaim{}, false
	}
	if c.IntN(3) > 0 {
		n = min(n, 3)
	}
	return c.claims[len(c.claims)-1-c.IntN(n)], true
}

func (c *historyCaller) newTask(tag string) (*newTask, modelTask, bool) {
	m := modelTask{name: "a", queue: "q", max: 1 + c.IntN(3), tag: tag}
	task := &newTask{name: m.name, queue: m.queue, maxAttempts: int32(m.max), params: []byte(`{}`), tag: m.tag}
	if c.IntN(8) == 0 {
		task.delay, m.due = time.Hour, modelNever
	}
	whileLive := tag != "" && c.IntN(2) == 0
	if whileLive {
		task.scope = UniqueWhileLive
	}
	return task, m, whileLive
}

// added is the note of a task that was enqueued.
func (c *historyCaller) added(task *newTask, m modelTask, whileLive bool) historyNote {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tasks = append(c.tasks, historyTask{task.id, task.tag})
	return historyNote{operation: enqueuedTask(task.id, m, whileLive), id: task.id}
}

func (c *historyCaller) enqueue() error {
	task, m, whileLive := c.newTask([]string{"", "t"}[c.IntN(2)])
	inTx := c.IntN(3) == 0
	return c.told(func() ([]historyNote, error) {
		err := c.write(task, inTx)
		var exists *TaskExistsError
		if errors.As(err, &exists) {
			return []historyNote{{operation: heldTag(task.tag, exists.ID), tag: task.tag}}, nil
		}
		if err != nil {
			return nil, err
		}
		return []historyNote{c.added(task, m, whileLive)}, nil
	})
}

func (c *historyCaller) write(task *newTask, inTx bool) error {
	ctx := context.Background()
	if !inTx {
		return c.store.enqueue(ctx, []*newTask{task})
	}
	tx, err := seam.Anchor.Begin(ctx, c.store)
	if err != nil {
		return err
	}
	if err := c.store.enqueueTx(ctx, tx, []*newTask{task}); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}

// hold keeps claims, and notes them.
func (c *historyCaller) hold(s *historySession, tasks []*claimedTask, operation func(id, token int64, attempt int, worker string) operation) []historyNote {
	c.mu.Lock()
	defer c.mu.Unlock()
	var notes []historyNote
	for _, task := range tasks {
		c.claims = append(c.claims, historyClaim{task, s})
		notes = append(notes, historyNote{operation: operation(task.id, task.token, int(task.attempt), task.workerID), id: task.id})
	}
	return notes
}

func (c *historyCaller) claim() error {
	s, limit := c.anySession(), 1+c.IntN(2)
	s.claiming.Lock()
	defer s.claiming.Unlock()
	return c.told(func() ([]historyNote, error) {
		got, err := s.claim(context.Background(), claimRequest{names: []string{"a"}, queues: []string{"q"}, limit: limit, firstHand: limit, sweep: true, fresh: true})
		if errors.Is(err, ErrClaimLost) || sqlState(err) == stateClaimLost {
			return nil, nil // the lease of the session's worker is over, and it has no other one yet
		}
		return c.hold(s, got.tasks, claimedOne), err
	})
}

func (c *historyCaller) takeBack() error {
	s := c.anySession()
	s.t.Lock()
	defer s.t.Unlock()
	return c.told(func() ([]historyNote, error) {
		taken, err := s.takeBack(context.Background(), []string{"a"}, 1000)
		return append(c.hold(s, taken.exhausted, retaken), historyNote{ofEach: lookedForDead}), err
	})
}

func (c *historyCaller) finish() error {
	how := []outcome{outcomeCompleted, outcomeCompleted, outcomeRetried, outcomeRetried, outcomeFailed, outcomeReleased, outcomeCancelled}[c.IntN(7)]
	later := c.IntN(4) == 0
	var batch []finishedAttempt
	for range 1 + c.IntN(2) {
		claim, ok := c.anyClaim()
		if !ok || claim.exhausted && how == outcomeReleased || slices.ContainsFunc(batch, func(f finishedAttempt) bool { return f.task.id == claim.id }) {
			continue
		}
		if how == outcomeCompleted && !c.completes(claim, false) {
			continue
		}
		f := finishedAttempt{task: claim.claimedTask, outcome: how}
		if how != outcomeCompleted && how != outcomeReleased {
			f.message = fmt.Sprintf("error of attempt %d", claim.attempt)
		}
		if later {
			f.after = time.Hour
		}
		batch = append(batch, f)
	}
	if len(batch) == 0 {
		return nil
	}
	s := c.anySession()
	s.finishing.Lock()
	defer s.finishing.Unlock()
	return c.told(func() ([]historyNote, error) {
		lost, err := s.finish(context.Background(), slices.Clone(batch))
		var held *heldError
		if errors.As(err, &held) {
			err = nil
		}
		var notes []historyNote
		for _, f := range batch {
			if held != nil && slices.Contains(held.ids, f.task.id) {
				continue // nothing was done to it
			}
			notes = append(notes, historyNote{
				operation: finished(f.task.id, f.task.token, how, f.message, "", later, slices.Contains(lost, f.task.id)), id: f.task.id,
			})
		}
		return notes, err
	})
}

// ended is what a call that has ended an attempt in a transaction was answered, in which a child was enqueued.
func (c *historyCaller) ended(claim historyClaim, how outcome, message, hookMessage string, err error, child *newTask, m modelTask, born bool) ([]historyNote, error) {
	note := historyNote{operation: finished(claim.id, claim.token, how, message, hookMessage, false, errors.Is(err, ErrClaimLost)), id: claim.id}
	switch {
	case err == nil && born:
		return []historyNote{note, c.added(child, m, false)}, nil
	case err == nil, errors.Is(err, ErrClaimLost):
		return []historyNote{note}, nil
	case isConflict(err):
		return nil, nil // nothing was done
	case reaped(err):
		note.unsure = true
		birth := historyNote{operation: enqueuedTask(child.id, m, false), id: child.id}
		birth.unsure = true
		if child.id == 0 {
			return []historyNote{note}, nil
		}
		return []historyNote{note, birth}, nil
	}
	return nil, err
}

// reaped tells that a connection was ended, as the one who takes back does with those of the dead.
func reaped(err error) bool {
	return err != nil && (sqlState(err) == "57P01" || outcomeUnknown(err) || pgconn.SafeToRetry(err) || errors.Is(err, errHandlerConnClosed))
}

// completes tells whether an attempt may be completed: by one transaction, or by any number of batches. A transaction that
// has lost its connection finds out by the token whether it was committed, so that nothing else may complete by that.
func (c *historyCaller) completes(claim historyClaim, tx bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.inTx[claim.token]
	if !known {
		c.inTx[claim.token] = tx
	}
	return !known || !tx && !before
}

// complete ends an attempt in its own transaction, which has enqueued a task.
func (c *historyCaller) complete() error {
	claim, ok := c.anyClaim()
	if !ok || !c.completes(claim, true) {
		return nil
	}
	ctx := context.Background()
	child, m, _ := c.newTask("")
	return c.told(func() ([]historyNote, error) {
		attempt := claim.session.begin(claim.claimedTask, time.Minute)
		defer attempt.abandon()
		err := c.store.enqueueTx(ctx, attempt.handler(), []*newTask{child})
		if reaped(err) {
			return nil, nil
		}
		if err == nil {
			err = attempt.complete(ctx)
		}
		return c.ended(claim, outcomeCompleted, "", "", err, child, m, true)
	})
}

// fail ends a task for good, with a hook that enqueues a task and may fail.
func (c *historyCaller) fail() error {
	claim, ok := c.anyClaim()
	if !ok {
		return nil
	}
	child, m, _ := c.newTask("")
	var hookErr error
	hookMessage := ""
	if c.IntN(2) == 0 {
		hookErr = errors.New("no luck")
		hookMessage = hookMessagePrefix + hookErr.Error()
	}
	called := 0
	hook := func(ctx context.Context, tx pgx.Tx) error {
		called++
		return errors.Join(c.store.enqueueTx(ctx, tx, []*newTask{child}), hookErr)
	}
	return c.told(func() ([]historyNote, error) {
		err := claim.session.fail(context.Background(), claim.claimedTask, finalFailure{message: "failed", idle: time.Minute, hook: hook})
		// In memory, the claim may be lost while the hook runs: then nothing of that is applied.
		if err == nil && called != 1 {
			return nil, fmt.Errorf("the hook was called %d times", called)
		}
		return c.ended(claim, outcomeFailed, "failed", hookMessage, err, child, m, hookErr == nil)
	})
}

func (c *historyCaller) cancel() error {
	id := c.anyTask().id
	return c.told(func() ([]historyNote, error) {
		err := c.store.cancel(context.Background(), nil, id)
		note := historyNote{operation: cancelled(id, err), id: id}
		if errors.Is(err, ErrTaskNotCancellable) {
			err = nil
		}
		return []historyNote{note}, err
	})
}

func (c *historyCaller) retry() error {
	id := c.anyTask().id
	return c.told(func() ([]historyNote, error) {
		err := c.store.retry(context.Background(), id)
		note := historyNote{operation: retried(id, err), id: id}
		if errors.Is(err, ErrTaskNotRetryable) || errors.Is(err, ErrTaskAlreadyExists) {
			err = nil
		}
		return []historyNote{note}, err
	})
}

func (c *historyCaller) releaseTag() error {
	return c.told(func() ([]historyNote, error) {
		return []historyNote{{operation: releasedTag("t"), tag: "t"}}, c.store.releaseTag(context.Background(), "t")
	})
}

func (c *historyCaller) read() error {
	id := c.anyTask().id
	return c.told(func() ([]historyNote, error) {
		info, err := c.store.task(context.Background(), id)
		if err != nil {
			return nil, err
		}
		return []historyNote{{operation: read(id, info.Status, info.Attempts), id: id}}, nil
	})
}

func (c *historyCaller) heartbeat() error {
	s := c.anySession()
	s.beating.Lock()
	defer s.beating.Unlock()
	return c.told(func() ([]historyNote, error) {
		beat, err := renew(context.Background(), s.session, false)
		if err == nil && beat.workerID != s.id {
			err = errors.New("a session with a lease of an hour has become another worker")
		}
		worker := s.id
		return []historyNote{{worker: worker, ofEach: func(id int64) operation {
			return beaten(worker, id, slices.Contains(beat.cancelled, id))
		}}}, err
	})
}

// die lets the lease of a session's worker be over: it goes on as another one.
func (c *historyCaller) die(s *historySession) error {
	s.beating.Lock()
	defer s.beating.Unlock()
	return c.told(func() ([]historyNote, error) {
		beat, err := renew(context.Background(), s.session, true)
		note := historyNote{operation: died(s.id), worker: s.id}
		s.id = beat.workerID
		return []historyNote{note}, err
	})
}
