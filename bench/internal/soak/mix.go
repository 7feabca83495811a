// Package soak keeps a steady, mixed load on one worker for a long time, and tells whether anything grows.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

// mix is the load: tasks of every kind, each with its share.
type mix struct {
	pool   *pgxpool.Pool
	client *anchor.Client

	plain, write, retried, tagged, delayed, doomed, cancelled, bulk *anchor.Task[params]
	ticked                                                          *anchor.Task[tickParams]

	handled, attemptsFailed, hooks, ticks, duplicates atomic.Int64

	mu      sync.Mutex
	pickups []float64 // ms, since the last sample
}

type params struct {
	N      int64  `json:"n"`
	SentAt int64  `json:"sentAt"` // Unix nanoseconds, 0 where the pickup is not of interest
	Text   string `json:"text"`
}

type tickParams struct{}

const createEffects = `create table effects (n bigint not null, at timestamptz not null default now())`

var errAsIntended = errors.New("fails as intended")

func newMix(ctx context.Context, pool *pgxpool.Pool, opts ...anchor.ClientOption) (*mix, error) {
	store := anchor.NewPGStore(pool)
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, createEffects); err != nil {
		return nil, err
	}
	m := &mix{pool: pool}
	define := func(name string, handler anchor.Handler[params], opts ...anchor.TaskOption) *anchor.Task[params] {
		return anchor.Define(name, func(ctx context.Context, tx pgx.Tx, p *params) error {
			m.started(p)
			return handler(ctx, tx, p)
		}, opts...)
	}
	nothing := func(context.Context, pgx.Tx, *params) error { return nil }
	m.plain = define("Plain", nothing)
	m.write = define("Write", func(ctx context.Context, tx pgx.Tx, p *params) error {
		_, err := tx.Exec(ctx, "insert into effects (n) values ($1)", p.N)
		return err
	}, anchor.WithQueue("writes"))
	m.retried = define("Retried", func(ctx context.Context, _ pgx.Tx, _ *params) error {
		if task, _ := anchor.TaskFromContext(ctx); task.Attempts < 3 {
			m.attemptsFailed.Add(1)
			return errAsIntended
		}
		return nil
	}, anchor.WithRetryPolicy("200ms,1s", 5))
	m.tagged = define("Tagged", nothing, anchor.WithPriority(-10))
	m.delayed = define("Delayed", nothing)
	m.doomed = define("Doomed", func(context.Context, pgx.Tx, *params) error {
		m.attemptsFailed.Add(1)
		return anchor.Fatal(errAsIntended)
	}).OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, p *params) error {
		m.hooks.Add(1)
		_, err := tx.Exec(ctx, "insert into effects (n) values (-$1)", p.N)
		return err
	})
	m.cancelled = define("Cancelled", nothing)
	m.bulk = define("Bulk", nothing, anchor.WithQueue("bulk"), anchor.WithPriority(10))
	m.ticked = anchor.Define("Ticked", func(context.Context, pgx.Tx, *tickParams) error {
		m.ticks.Add(1)
		return nil
	}).Cron("* * * * * *", &tickParams{})
	client, err := anchor.New(store, append(opts, anchor.WithTasks(
		m.plain, m.write, m.retried, m.tagged, m.delayed, m.doomed, m.cancelled, m.bulk, m.ticked))...)
	m.client = client
	return m, err
}

// started notes that a handler has begun.
func (m *mix) started(p *params) {
	m.handled.Add(1)
	if p.SentAt == 0 {
		return
	}
	pickup := float64(time.Now().UnixNano()-p.SentAt) / 1e6
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pickups = append(m.pickups, pickup)
}

// takePickups are those since the last call.
func (m *mix) takePickups() []float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.pickups
	m.pickups = nil
	return taken
}

// enqueueError ends the load before its time.
type enqueueError struct{ err error }

func (e *enqueueError) Error() string { return "enqueue: " + e.err.Error() }
func (e *enqueueError) Unwrap() error { return e.err }

const (
	callers = 8
	// bulkSize tasks go into one RunMany a second.
	bulkSize = 100
	// tags are few, so that some are held when they are asked for.
	tags = 20
)

// enqueue keeps the load up until ctx is done: rate tasks a second one by one, and a batch each second.
func (m *mix) enqueue(ctx context.Context, rate float64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var number atomic.Int64
	var running sync.WaitGroup
	repeat := func(every time.Duration, f func(n int64) error) {
		running.Go(func() {
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				if err := f(number.Add(1)); err != nil && ctx.Err() == nil {
					cancel(&enqueueError{err})
				}
			}
		})
	}
	for range callers {
		repeat(time.Duration(callers/rate*float64(time.Second)), func(n int64) error { return m.enqueueOne(ctx, n) })
	}
	repeat(time.Second, func(n int64) error {
		batch := make([]*params, bulkSize)
		for i := range batch {
			batch[i] = m.params(n*bulkSize+int64(i), false)
		}
		_, err := m.bulk.RunMany(ctx, m.client, batch)
		return err
	})
	<-ctx.Done()
	running.Wait()
	if failed := (*enqueueError)(nil); errors.As(context.Cause(ctx), &failed) {
		return failed
	}
	return nil
}

func (m *mix) params(n int64, timed bool) *params {
	p := &params{N: n, Text: fmt.Sprintf("what belongs to task %d of many", n)}
	if timed {
		p.SentAt = time.Now().UnixNano()
	}
	return p
}

// enqueueOne enqueues a task of a kind that n chooses.
func (m *mix) enqueueOne(ctx context.Context, n int64) error {
	switch kind := rand.IntN(100); {
	case kind < 60:
		_, err := m.plain.Run(ctx, m.client, m.params(n, true))
		return err
	case kind < 75:
		return pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
			_, err := m.write.RunWithTx(ctx, m.client, tx, m.params(n, false))
			return err
		})
	case kind < 83:
		_, err := m.retried.Run(ctx, m.client, m.params(n, false))
		return err
	case kind < 90:
		tag := fmt.Sprintf("tag %d", rand.IntN(tags))
		_, err := m.tagged.Run(ctx, m.client, m.params(n, false), anchor.WithUniqueTag(tag, anchor.UniqueWhileLive), anchor.WithDelay(time.Second))
		if errors.Is(err, anchor.ErrTaskAlreadyExists) {
			m.duplicates.Add(1)
			return nil
		}
		return err
	case kind < 96:
		_, err := m.delayed.Run(ctx, m.client, m.params(n, false), anchor.WithDelay(5*time.Second))
		return err
	case kind < 98:
		_, err := m.doomed.Run(ctx, m.client, m.params(n, false))
		return err
	}
	id, err := m.cancelled.Run(ctx, m.client, m.params(n, false), anchor.WithDelay(time.Hour))
	if err != nil {
		return err
	}
	return m.client.Cancel(ctx, id)
}
