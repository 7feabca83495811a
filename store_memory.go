package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// MemoryStore keeps tasks in this process: nothing to install, and nothing left after it. It has the
// semantics of [PGStore], with its clients and workers in one process: claims, leases, retries, unique tags
// and transactions. SQL is what it has not: a handler's tx collects what is enqueued and cancelled through
// it and applies that together with the completion, its other methods answer [ErrNoTransaction].
// Its large objects answer [pgx.ErrTxClosed]. [MemoryStore.Begin] gives a transaction for [Task.RunWithTx].
//
// Parameters are kept as they were written, but of a key that an object holds twice the last one counts, as in
// PostgreSQL. Their spacing, the order of their keys and the spelling of their numbers are each store's own.
//
// Completed tasks are kept for 24 hours, the newest 100,000 of them at most, failed and cancelled ones for 7
// days. The clock is the process's, so that it works in a testing/synctest bubble; it starts no goroutine.
//
// It is made by [NewMemoryStore] and safe for concurrent use.
type MemoryStore struct {
	mu        sync.Mutex // guards all below, and every memoryTask, memoryTx and memoryWorker of this store
	lastID    int64
	lastToken int64
	index     taskIndex
	queues    map[string]*memoryQueue
	claims    map[int64]*memoryTask // the running ones, by token
	completed []retainedTask
	failed    []retainedTask // and cancelled
	tags      map[string]*memoryTag
	expiring  tagHeap
	workers   []*memoryWorker // in order of opening
	sessions  []*memorySession
	schedules memoryCrons
}

var _ Store = (*MemoryStore)(nil)

// NewMemoryStore makes an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{
		lastToken: rand.Int64N(1 << 62), // so that no other store's claim is taken for one of this
		queues:    make(map[string]*memoryQueue),
		claims:    make(map[int64]*memoryTask),
		tags:      make(map[string]*memoryTag),
		schedules: newMemoryCrons(),
	}
}

// mistake tells that the store was not made by NewMemoryStore.
func (s *MemoryStore) mistake() error {
	if s == nil || s.queues == nil {
		return errors.New("the in-memory store is nil or was not made by NewMemoryStore")
	}
	return nil
}

// Migrate does nothing: there is no schema.
func (s *MemoryStore) Migrate(ctx context.Context) error {
	if err := s.mistake(); err != nil {
		return prefixed(err)
	}
	return ctx.Err()
}

// Begin starts a transaction for [Task.RunWithTx], [Task.RunManyWithTx] and [Client.CancelWithTx]. What
// they do is applied by Commit and discarded by Rollback; errors.Is(err, pgx.ErrTxClosed) is true after
// either. Begin on it gives a savepoint. Until it ends, whoever enqueues a unique tag that it has taken, or
// changes a task that it cancels, waits; so end it. Its SQL methods answer [ErrNoTransaction], its Conn is
// nil. It is for one goroutine at a time.
func (s *MemoryStore) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := s.Migrate(ctx); err != nil {
		return nil, err
	}
	return &memoryTx{store: s}, nil
}

func (s *MemoryStore) enqueue(ctx context.Context, tasks []*newTask) error {
	return s.atomically(ctx, func(tx *memoryTx, now time.Time) (*memoryTx, error) { return s.insert(tx, tasks, now) })
}

func (s *MemoryStore) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	mine, err := s.transaction(tx)
	if err != nil {
		return err
	}
	return mine.run(ctx, func(root *memoryTx, now time.Time) (*memoryTx, error) { return s.insert(root, tasks, now) })
}

// insert writes tasks within tx, or returns the transaction that has to end before.
func (s *MemoryStore) insert(tx *memoryTx, tasks []*newTask, now time.Time) (*memoryTx, error) {
	for _, task := range tasks {
		s.lastID++
		t := &memoryTask{
			id: s.lastID, name: task.name, queue: task.queue, priority: task.priority, status: StatusPending,
			maxAttempts: task.maxAttempts, params: lastOfEachKey(task.params), attributes: bytes.Clone(task.attributes),
			tag: task.tag, createdAt: now, nextRun: dueTime(task, now), insertedBy: tx,
		}
		if t.tag != "" {
			if blocker, err := s.takeTag(tx, t, task.scope, now); blocker != nil || err != nil {
				return blocker, err
			}
		}
		tx.record(&taskInsert{t}, now)
		task.id = t.id
	}
	return nil, nil
}

func dueTime(task *newTask, now time.Time) time.Time {
	if task.startAt.IsZero() {
		return now.Add(task.delay)
	}
	delay := task.startAt.Sub(now)
	if delay > maxDelay {
		return task.startAt // farther than a Duration reaches
	}
	return now.Add(max(0, delay))
}

func (s *MemoryStore) cancel(ctx context.Context, tx pgx.Tx, id int64) error {
	do := func(root *memoryTx, now time.Time) (*memoryTx, error) { return s.cancelWithin(root, id, now) }
	if tx == nil {
		return s.atomically(ctx, do)
	}
	mine, err := s.transaction(tx)
	if err != nil {
		return err
	}
	return mine.run(ctx, do)
}

func (s *MemoryStore) cancelWithin(tx *memoryTx, id int64, now time.Time) (*memoryTx, error) {
	t := s.index.find(id)
	switch {
	case t == nil || t.insertedBy != nil && t.insertedBy != tx:
		return nil, ErrTaskNotFound
	case t.lockedBy != nil && t.lockedBy != tx:
		return t.lockedBy, nil
	case !t.live() || t.lockedBy == tx:
		return nil, ErrTaskNotCancellable
	case t.status == StatusRunning:
		tx.record(&cancelRequest{t}, now)
		return nil, nil
	case t.insertedBy == tx:
		tx.record(&insertedCancel{t}, now)
	default:
		tx.record(&pendingCancel{t, tx}, now)
	}
	s.freeTag(tx, t, now)
	return nil, nil
}

func (s *MemoryStore) retry(ctx context.Context, id int64) error {
	return s.atomically(ctx, func(tx *memoryTx, now time.Time) (*memoryTx, error) {
		t := s.find(id)
		switch {
		case t == nil:
			return nil, ErrTaskNotFound
		case t.lockedBy != nil:
			return t.lockedBy, nil
		case t.status != StatusFailed && t.status != StatusCancelled:
			return nil, ErrTaskNotRetryable
		}
		if t.tag != "" {
			if blocker, err := s.takeTag(tx, t, UniqueWhileLive, now); blocker != nil || err != nil {
				return blocker, err
			}
		}
		if t.status == StatusFailed {
			s.queue(t.queue).failed--
		}
		t.status, t.attempts, t.nextRun = StatusPending, 0, now
		t.startedAt, t.finishedAt, t.workerID = time.Time{}, time.Time{}, ""
		s.enter(t, now)
		return nil, nil
	})
}

func (s *MemoryStore) releaseTag(ctx context.Context, tag string) error {
	return s.atomically(ctx, func(*memoryTx, time.Time) (*memoryTx, error) {
		held := s.tags[tag]
		if held.committed() == nil {
			return nil, nil
		}
		if held.tx != nil {
			return held.tx, nil
		}
		delete(s.tags, tag)
		return nil, nil
	})
}

func (s *MemoryStore) setPaused(ctx context.Context, queue string, paused bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(queue)
	if !paused {
		q.pausedSince = time.Time{}
	} else if !q.paused {
		q.pausedSince = time.Now()
	}
	q.paused = paused
	if !paused {
		for _, session := range s.sessions {
			session.rearm(time.Now())
		}
	}
	s.tidy(q)
	return nil
}

// queue finds a queue, or makes it.
func (s *MemoryStore) queue(name string) *memoryQueue {
	q := s.queues[name]
	if q == nil {
		q = &memoryQueue{name: name, lanes: make(map[laneKey]*memoryLane), locked: make(map[*memoryTask]struct{})}
		s.queues[name] = q
	}
	return q
}

// tidy forgets a queue that has nothing to remember, so that a queue for each customer is no leak.
func (s *MemoryStore) tidy(q *memoryQueue) {
	if q.idle() {
		delete(s.queues, q.name)
	}
}

// atomically runs do in a transaction of its own.
func (s *MemoryStore) atomically(ctx context.Context, do func(tx *memoryTx, now time.Time) (*memoryTx, error)) error {
	tx := &memoryTx{store: s, implicit: true}
	return tx.run(ctx, do)
}

// transaction finds what is behind a tx that a caller gave.
func (s *MemoryStore) transaction(tx pgx.Tx) (*memoryTx, error) {
	mine, ok := tx.(*memoryTx)
	if !ok || mine == nil {
		return nil, fmt.Errorf("anchor: tx, a %T, is no transaction of the client's store, which is in memory: MemoryStore.Begin gives one", tx)
	}
	if mine.store != s {
		return nil, errors.New("anchor: tx belongs to another in-memory store than the client's")
	}
	return mine, nil
}
