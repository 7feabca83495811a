package subject

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/bench/internal/protocol"
)

const (
	// bareLoops loops run side by side, each on a connection of its own: one alone leaves the server idle while
	// it reads, more than the machine has cores for are no faster.
	bareLoops = 2
	// bareBatch is what this library claims and completes at most at a time.
	bareBatch = 5000
)

// bareQueue is the least that a program can do with this library's tables: claim a batch, count it, complete it. It
// does not even decode the parameters, so it shows what the library adds.
type bareQueue struct {
	pool *pgxpool.Pool
}

func openBare(ctx context.Context, spec protocol.Spec) (queue, error) {
	pool, err := newPool(ctx, spec)
	return &bareQueue{pool}, err
}

func (q *bareQueue) migrate(ctx context.Context) error { return anchor.NewPGStore(q.pool).Migrate(ctx) }

func (q *bareQueue) enqueue(context.Context, *protocol.Payload) error   { return errNotOffered }
func (q *bareQueue) enqueueTx(context.Context, *protocol.Payload) error { return errNotOffered }

// enqueueMany is what the library does.
func (q *bareQueue) enqueueMany(ctx context.Context, payloads []*protocol.Payload) error {
	task := anchor.Define("Bench", func(context.Context, pgx.Tx, *protocol.Payload) error { return nil })
	client, err := anchor.New(anchor.NewPGStore(q.pool), anchor.WithTasks(task))
	if err != nil {
		return err
	}
	_, err = task.RunMany(ctx, client, payloads)
	return err
}

const (
	bareRegister = `insert into anchor_workers (id, host, pid, slots, names, lease_until)
values (gen_random_uuid(), 'bare', 0, 1, '{Bench}', now() + interval '1 hour') returning id::text`

	// The lane that all tasks are in is read from a floor.
	bareClaim = `select id, name, queue, priority, attempts, max_attempts, created_at, next_run, started_at, unique_tag, spec, attributes
from anchor_claim($1::uuid, $2::bigint, $3::text[], $4::integer, $4::integer, 1::bigint << 40, 20000, '{default}',
  '', 0, '-infinity', 0, '{1,2}', '{0}', array[$5::timestamptz], array[$6::bigint], '{f}', array[$7::bigint], p_floor_behind => '{f}', p_optimistic => true) where lane is null`

	bareComplete = `select anchor_complete($1::bigint[], $2::bigint[])`
)

func (q *bareQueue) work(ctx context.Context, h handler) (func() error, error) {
	if h.insert {
		return nil, errNotOffered
	}
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	errs := make(chan error, bareLoops)
	for i := range bareLoops {
		loops.Go(func() { errs <- q.loop(ctx, int64(i+1), h) })
	}
	return func() error {
		cancel()
		loops.Wait()
		for range bareLoops {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// loop claims and completes until ctx is done.
func (q *bareQueue) loop(ctx context.Context, token int64, h handler) error {
	base := context.WithoutCancel(ctx)
	conn, err := q.pool.Acquire(base)
	if err != nil {
		return err
	}
	defer conn.Release()
	var worker string
	if err := conn.QueryRow(base, bareRegister).Scan(&worker); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	floor := bareFloor{}
	for ctx.Err() == nil {
		token += bareLoops // what the last one noted is deleted with this claim
		ids, err := q.claim(base, conn.Conn(), worker, token, &floor, h)
		if err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		if len(ids) == 0 {
			floor = bareFloor{}
			time.Sleep(time.Millisecond)
			continue
		}
		tokens := make([]int64, len(ids))
		for i := range tokens {
			tokens[i] = token
		}
		var lost []int64
		if err := conn.QueryRow(base, bareComplete, ids, tokens).Scan(&lost); err != nil {
			return fmt.Errorf("complete: %w", err)
		}
	}
	return nil
}

// bareFloor is where the last claim ended.
type bareFloor struct {
	nextRun time.Time
	id      int64
}

func (q *bareQueue) claim(ctx context.Context, conn *pgx.Conn, worker string, token int64, floor *bareFloor, h handler) ([]int64, error) {
	rows, err := conn.Query(ctx, bareClaim, worker, token, []string{"Bench"}, bareBatch, floor.nextRun, floor.id, token-bareLoops)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var (
			id                     int64
			name, queue            string
			priority               int16
			attempts, maxAttempts  int32
			created, next, started time.Time
			tag, attributes        *string
			spec                   []byte
		)
		if err := rows.Scan(&id, &name, &queue, &priority, &attempts, &maxAttempts, &created, &next, &started, &tag, &spec, &attributes); err != nil {
			return nil, err
		}
		h.handle(&protocol.Payload{N: -1})
		ids = append(ids, id)
		if c := next.Compare(floor.nextRun); c > 0 || c == 0 && id > floor.id { // they come in no order
			*floor = bareFloor{next, id}
		}
	}
	return ids, rows.Err()
}

func (q *bareQueue) close() { q.pool.Close() }
