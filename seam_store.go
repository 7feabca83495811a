package anchor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/seam"
)

// watchedStore is a store under the eyes of the test harness.
type watchedStore struct {
	Store
	watch seam.Watcher
}

func (s *watchedStore) enqueue(ctx context.Context, tasks []*newTask) error {
	if err := s.Store.enqueue(ctx, tasks); err != nil {
		return err
	}
	s.watch.Enqueued(nil, seamTasks(tasks))
	return nil
}

func (s *watchedStore) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	if err := s.Store.enqueueTx(ctx, innermost(tx), tasks); err != nil {
		return err
	}
	s.watch.Enqueued(tx, seamTasks(tasks))
	return nil
}

func (s *watchedStore) cancel(ctx context.Context, tx pgx.Tx, id int64) error {
	if err := s.Store.cancel(ctx, innermost(tx), id); err != nil {
		return err
	}
	s.watch.Cancelled(tx, id)
	return nil
}

func (s *watchedStore) retry(ctx context.Context, id int64) error {
	if err := s.Store.retry(ctx, id); err != nil {
		return err
	}
	s.watch.Retried(id)
	return nil
}

func (s *watchedStore) openSession(ctx context.Context, w workerRecord) (session, error) {
	inner, err := s.Store.openSession(ctx, w)
	if err != nil {
		return nil, err
	}
	watched := &watchedSession{
		session: inner, store: s.watch, names: w.names, workerID: w.id,
		hints: make(chan wakeup, memoryHints), closing: make(chan struct{}),
	}
	watched.watch = s.watch.Opened(ctx, watched.hint)
	watched.forwarding.Go(watched.forward)
	return watched, nil
}

// watchedSession is a worker's session under the eyes of the test harness.
type watchedSession struct {
	session
	store seam.Watcher
	watch seam.Session
	names []string

	hints      chan wakeup
	closing    chan struct{}
	forwarding sync.WaitGroup

	mu       sync.Mutex // held for takeBack, which a claim may call as well
	taken    bool       // what dead workers had was looked for
	workerID string
}

// forward passes the store's hints on until the session is closed.
func (s *watchedSession) forward() {
	for {
		select {
		case hint := <-s.session.wakeups():
			select {
			case s.hints <- hint:
			case <-s.closing:
				return
			}
		case <-s.closing:
			return
		}
	}
}

func (s *watchedSession) wakeups() <-chan wakeup { return s.hints }

// hint makes the worker claim again.
func (s *watchedSession) hint() {
	select {
	case s.hints <- wakeup{}:
	default: // there is one already
	}
}

func (s *watchedSession) close(ctx context.Context) error {
	close(s.closing)
	s.forwarding.Wait()
	return s.session.close(ctx)
}

func (s *watchedSession) heartbeat(ctx context.Context, over bool) (heartbeat, error) {
	return s.session.heartbeat(ctx, over || s.watch.LeaseLost())
}

func (s *watchedSession) adopt(workerID string) {
	s.session.adopt(workerID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workerID = workerID
}

func (s *watchedSession) claim(ctx context.Context, req claimRequest) (claimed, error) {
	if !s.watch.Driven() {
		answer, err := s.session.claim(ctx, req)
		s.claimed(answer.tasks)
		return answer, err
	}
	if !s.watch.MayClaim() {
		return claimed{}, nil
	}
	if again, ok := s.watch.Redeliver().(*claimedTask); ok {
		duplicate := *again
		s.mu.Lock()
		duplicate.workerID = s.workerID
		s.mu.Unlock()
		s.claimed([]*claimedTask{&duplicate})
		return claimed{tasks: []*claimedTask{&duplicate}}, nil
	}
	if !s.taken {
		s.taken = true
		back, err := s.takeBack(ctx, s.names, takeBackLimit)
		if err != nil || len(back.exhausted) > 0 {
			return claimed{tasks: back.exhausted}, err
		}
	}
	req.limit, req.firstHand, req.sweep, req.fresh = 1, 1, true, true
	answer, err := s.session.claim(ctx, req)
	s.claimed(answer.tasks)
	if err == nil && len(answer.tasks) == 0 {
		s.watch.NoneDue()
	}
	return claimed{tasks: answer.tasks}, err
}

func (s *watchedSession) claimed(tasks []*claimedTask) {
	for _, task := range tasks {
		s.watch.Claimed(seamAttempt(task))
	}
}

func (s *watchedSession) takeBack(ctx context.Context, names []string, limit int) (takenBack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	back, err := s.session.takeBack(ctx, names, limit)
	s.claimed(back.exhausted)
	return back, err
}

// ended reports the end of an attempt, after which the next may be claimed.
func (s *watchedSession) ended(task *claimedTask, end seam.End) {
	s.watch.Ended(seamAttempt(task), end)
	s.hint()
}

func (s *watchedSession) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	kept := make([]finishedAttempt, 0, len(batch))
	for _, finished := range batch {
		if s.watch.Dead(seamAttempt(finished.task)) {
			s.ended(finished.task, seam.End{Outcome: seam.Lost})
		} else {
			kept = append(kept, finished)
		}
	}
	if len(kept) == 0 {
		return nil, nil
	}
	lost, err := s.session.finish(ctx, kept)
	if err != nil {
		return lost, err
	}
	gone := make(map[int64]bool, len(lost))
	for _, id := range lost {
		gone[id] = true
	}
	for _, finished := range kept {
		end := seam.End{Outcome: seam.Lost}
		if !gone[finished.task.id] {
			end = seam.End{Outcome: seamOutcomes[finished.outcome], Message: finished.message, After: finished.after, Snoozed: finished.asked}
		}
		s.ended(finished.task, end)
	}
	return lost, nil
}

var seamOutcomes = [...]seam.Outcome{
	outcomeCompleted: seam.Completed, outcomeRetried: seam.Retried, outcomeFailed: seam.Failed,
	outcomeReleased: seam.Released, outcomeCancelled: seam.Cancelled,
}

func (s *watchedSession) fail(ctx context.Context, task *claimedTask, end finalFailure) error {
	attempt := seamAttempt(task)
	if s.watch.Dead(attempt) {
		s.ended(task, seam.End{Outcome: seam.Lost})
		return ErrClaimLost
	}
	if hook := end.hook; hook != nil {
		end.hook = func(ctx context.Context, tx pgx.Tx) error {
			err := hook(ctx, s.watch.Tx(attempt, tx, true))
			s.watch.Hook(attempt, err)
			return err
		}
	}
	err := s.session.fail(ctx, task, end)
	switch {
	case err == nil:
		if len(end.next) > 0 {
			s.store.Enqueued(nil, seamTasks(end.next))
		}
		s.ended(task, seam.End{Outcome: seam.Failed, Message: end.message})
	case errors.Is(err, ErrClaimLost):
		s.ended(task, seam.End{Outcome: seam.Lost})
	}
	return err
}

func (s *watchedSession) begin(task *claimedTask, idle time.Duration) attemptTx {
	inner := s.session.begin(task, idle)
	attempt := seamAttempt(task)
	return &watchedTx{attemptTx: inner, session: s, task: task, attempt: attempt, seen: s.watch.Tx(attempt, inner.handler(), false)}
}

// watchedTx is an attempt's transaction under the eyes of the test harness.
type watchedTx struct {
	attemptTx
	session *watchedSession
	task    *claimedTask
	attempt seam.Attempt
	seen    pgx.Tx
}

func (t *watchedTx) handler() pgx.Tx { return t.seen }

func (t *watchedTx) endUnused() bool {
	return !t.session.watch.Used(t.attempt) && t.attemptTx.endUnused()
}

func (t *watchedTx) complete(ctx context.Context) error {
	if err := t.session.watch.Commit(t.attempt); err != nil {
		t.abandon()
		if errors.Is(err, seam.ErrDied) {
			return ErrClaimLost
		}
		return err
	}
	err := t.attemptTx.complete(ctx)
	switch {
	case err == nil:
		t.session.ended(t.task, seam.End{Outcome: seam.Completed})
	case errors.Is(err, ErrClaimLost):
		t.session.ended(t.task, seam.End{Outcome: seam.Lost})
	}
	return err
}

func (t *watchedTx) abandon() {
	t.attemptTx.abandon()
	t.buried()
}

func (t *watchedTx) sever() {
	t.attemptTx.sever()
	t.buried()
}

// buried reports the end of an attempt whose worker died: nobody else will.
func (t *watchedTx) buried() {
	if t.session.watch.Dead(t.attempt) {
		t.session.ended(t.task, seam.End{Outcome: seam.Lost})
	}
}

func (t *watchedTx) endedByHandler() bool {
	tx, ok := t.attemptTx.(interface{ endedByHandler() bool })
	return ok && tx.endedByHandler()
}
