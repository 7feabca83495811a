package anchor

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/seam"
)

// The test harness (directory testing/) is lent what it needs here, so that nothing is exported for it.
func init() {
	seam.Anchor.Watch = func(store any, w seam.Watcher) any { return &watchedStore{Store: store.(Store), watch: w} }
	seam.Anchor.Tune = func(client any, random func() float64, failed func(id int64, err error)) {
		c := client.(*Client)
		c.random, c.failed, c.undelivered = random, failed, true
	}
	seam.Anchor.CanWork = func(client any) bool { return len(client.(*Client).handled()) > 0 }
	seam.Anchor.HasHook = func(client any, name string) bool { return client.(*Client).tasks[name].onFailed != nil }
	seam.Anchor.NextDue = func(client any, now time.Time) (time.Time, bool) {
		c := client.(*Client)
		store := c.store.(*watchedStore).Store.(*MemoryStore)
		return store.nextDue(nameSet(c.handled()), now)
	}
	seam.Anchor.Begin = func(ctx context.Context, store any) (pgx.Tx, error) {
		switch s := store.(type) {
		case *PGStore:
			return s.pool.Begin(ctx)
		case interface {
			Begin(ctx context.Context) (pgx.Tx, error)
		}:
			return s.Begin(ctx)
		}
		return nil, fmt.Errorf("anchor: a %T has no transactions", store)
	}
	seam.Anchor.Abort = func(tx pgx.Tx, why error) {
		if t, ok := tx.(*memoryTx); ok {
			t.store.mu.Lock()
			defer t.store.mu.Unlock()
			t.abort(why, time.Now())
		}
	}
}

// nextDue is when the next of the named tasks falls due after now that no pause holds up.
func (s *MemoryStore) nextDue(names map[string]bool, now time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next time.Time
	for _, q := range s.queues {
		if q.paused {
			continue
		}
		if _, at := q.due(names, now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next, !next.IsZero()
}

func seamTasks(tasks []*newTask) []seam.Task {
	seen := make([]seam.Task, len(tasks))
	for i, t := range tasks {
		seen[i] = seam.Task{ID: t.id, Name: t.name, Delay: t.delay, StartAt: t.startAt}
	}
	return seen
}

func seamAttempt(t *claimedTask) seam.Attempt {
	return seam.Attempt{
		ID: t.id, Token: t.token, Name: t.name, Number: int(t.attempt), Max: int(t.maxAttempts), CreatedAt: t.createdAt,
		NextRun: t.nextRun, ScheduledFor: t.info().ScheduledFor, Exhausted: t.exhausted, Claim: t,
	}
}

// innermost is the store's own transaction behind what the harness gave out.
func innermost(tx pgx.Tx) pgx.Tx {
	for {
		outer, ok := tx.(seam.Tx)
		if !ok {
			return tx
		}
		tx = outer.Inner()
	}
}
