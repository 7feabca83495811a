package anchor

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// BrokenStores are stores in memory with one mistake each, by what the mistake is. The conformance suite has to find
// every one of them.
func BrokenStores() map[string]func() Store {
	return map[string]func() Store{
		"none":                  func() Store { return NewMemoryStore() },
		"forgets unique tags":   func() Store { return tagsForgotten{NewMemoryStore()} },
		"enqueues outside tx":   func() Store { return txIgnored{NewMemoryStore()} },
		"outlives a cut-off":    func() Store { return cutOffSurvived{NewMemoryStore()} },
		"outlives a deadlock":   func() Store { return deadlockSurvived{NewMemoryStore()} },
		"no guard by the claim": func() Store { return inSession(func(s session) session { return unguarded{s} }) },
		"retries at once":       func() Store { return inSession(func(s session) session { return impatient{s} }) },
		"hook of its own":       func() Store { return inSession(func(s session) session { return hookApart{s} }) },
		"claims again":          func() Store { return inSession(func(s session) session { return claimsTwice{s} }) },
		"ignores pauses":        func() Store { return pauseIgnored{NewMemoryStore()} },
		"drops errors":          func() Store { return inSession(func(s session) session { return errorsDropped{s} }) },
	}
}

type tagsForgotten struct{ *MemoryStore }

func (s tagsForgotten) enqueue(ctx context.Context, tasks []*newTask) error {
	if err := s.MemoryStore.enqueue(ctx, tasks); err != nil {
		return err
	}
	for _, task := range tasks {
		if err := s.releaseTag(ctx, task.tag); err != nil {
			return err
		}
	}
	return nil
}

type txIgnored struct{ *MemoryStore }

func (s txIgnored) enqueueTx(ctx context.Context, _ pgx.Tx, tasks []*newTask) error {
	return s.enqueue(ctx, tasks)
}

// cutOffSurvived goes on with a transaction in which a wait was cut off.
type cutOffSurvived struct{ *MemoryStore }

func (s cutOffSurvived) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	err := s.MemoryStore.enqueueTx(ctx, tx, tasks)
	if err != nil && ctx.Err() != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		tx.(*memoryTx).root().ended = false
	}
	return err
}

// deadlockSurvived goes on with a transaction that was aborted for a deadlock.
type deadlockSurvived struct{ *MemoryStore }

func (s deadlockSurvived) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	err := s.MemoryStore.enqueueTx(ctx, tx, tasks)
	if errors.Is(err, errMemoryDeadlock) {
		s.mu.Lock()
		defer s.mu.Unlock()
		tx.(*memoryTx).root().failedIn = nil
	}
	return err
}

type pauseIgnored struct{ *MemoryStore }

func (s pauseIgnored) setPaused(ctx context.Context, _ string, _ bool) error { return ctx.Err() }

// sessionBroken is a store whose sessions are broken.
type sessionBroken struct {
	*MemoryStore
	damage func(session) session
}

func inSession(damage func(session) session) Store { return sessionBroken{NewMemoryStore(), damage} }

func (s sessionBroken) openSession(ctx context.Context, w workerRecord) (session, error) {
	opened, err := s.MemoryStore.openSession(ctx, w)
	if err != nil {
		return nil, err
	}
	return s.damage(opened), nil
}

// unguarded applies what an attempt wrote whether or not its claim is over.
type unguarded struct{ session }

func (s unguarded) begin(task *claimedTask, idle time.Duration) attemptTx {
	return unguardedTx{s.session.begin(task, idle).(*memoryAttempt)}
}

type unguardedTx struct{ *memoryAttempt }

func (t unguardedTx) complete(context.Context) error {
	store := t.tx.store
	store.mu.Lock()
	defer store.mu.Unlock()
	now := time.Now()
	if held := store.held(t.task); held != nil {
		store.settle(held, StatusCompleted, now)
	}
	t.tx.apply(now)
	return nil
}

// impatient forgets how long a retry has to wait.
type impatient struct{ session }

func (s impatient) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	for i := range batch {
		batch[i].after = 0
	}
	return s.session.finish(ctx, batch)
}

// errorsDropped records no errors.
type errorsDropped struct{ session }

func (s errorsDropped) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	for i := range batch {
		batch[i].message = ""
	}
	return s.session.finish(ctx, batch)
}

// hookApart runs the hook in a transaction of the hook's own, which is committed even if the hook fails.
type hookApart struct{ session }

func (s hookApart) fail(ctx context.Context, task *claimedTask, end finalFailure) error {
	if hook := end.hook; hook != nil {
		end.hook = func(ctx context.Context, _ pgx.Tx) error {
			tx := &memoryTx{store: s.session.(*memorySession).store}
			err := hook(ctx, tx)
			_ = tx.Commit(ctx)
			return err
		}
	}
	return s.session.fail(ctx, task, end)
}

// claimsTwice hands a claimed task out twice.
type claimsTwice struct{ session }

func (s claimsTwice) claim(ctx context.Context, req claimRequest) (claimed, error) {
	found, err := s.session.claim(ctx, req)
	found.tasks = append(found.tasks, found.tasks...)
	return found, err
}
