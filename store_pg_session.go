package anchor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sessionConnections is what a worker needs at most at one time beside its listener: a claim, a flush of
// finishes, a heartbeat, maintenance, the ticker, and one look after a COMMIT whose answer was lost.
const sessionConnections = 6

// pgSession is a worker's life in the store. Its own small pool keeps handlers from starving it.
type pgSession struct {
	store  *PGStore
	pool   *pgxpool.Pool
	floors claimFloors
	held   heldClaims
	names  internedStrings

	resolving chan struct{} // held by the one attempt that finds out about its COMMIT
	timeline  string        // of the server, as the worker was registered; used by the heartbeat

	mu     sync.Mutex // guards worker.id and lost
	worker workerRecord
	lost   []lostToken

	hints        chan wakeup
	stopListener context.CancelFunc
	listener     sync.WaitGroup
}

var _ session = (*pgSession)(nil)

const insertWorker = `insert into {schema}.anchor_workers (id, host, pid, slots, names, queues, lease_until, crons)
values ($1::uuid, $2::text, $3::integer, $4::integer, $5::text[], nullif($6::text[], '{}'), clock_timestamp() + $7::bigint * interval '1 microsecond', $8::text::jsonb)
returning {schema}.anchor_timeline()`

func (s *PGStore) openSession(ctx context.Context, w workerRecord) (session, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.checkVersion(ctx); err != nil {
		return nil, err
	}
	config := s.pool.Config()
	config.MaxConns, config.MinConns, config.MinIdleConns = sessionConnections, 0, 0
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("anchor: open the worker's connections: %w", err)
	}
	p := &pgSession{store: s, worker: w, pool: pool, names: internedStrings{}, hints: make(chan wakeup, wakeupBuffer), resolving: make(chan struct{}, 1)}
	if err := p.register(ctx, w.id); err != nil {
		pool.Close()
		return nil, err
	}
	if !s.pollingOnly {
		listenCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p.stopListener = cancel
		p.listener.Go(func() { (&pgListener{pool: s.pool, channel: s.channel(), out: p.hints}).run(listenCtx) })
	}
	return p, nil
}

func (p *pgSession) wakeups() <-chan wakeup { return p.hints }

func (p *pgSession) register(ctx context.Context, id string) error {
	w := p.worker
	crons, err := json.Marshal(w.crons)
	if err != nil {
		return err
	}
	return storeError("register the worker", onConn(ctx, p.pool, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, p.store.sql(insertWorker), id, w.host, w.pid, w.slots, w.names, w.queues, w.lease.Microseconds(), string(crons)).Scan(&p.timeline)
	}))
}

// id is the worker that this session claims for at the moment.
func (p *pgSession) id() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.worker.id
}

const heartbeatWorker = `select alive, cancelled, {schema}.anchor_timeline() from {schema}.anchor_heartbeat($1::uuid, $2::bigint, $3::bigint[])`

func (p *pgSession) heartbeat(ctx context.Context, over bool) (heartbeat, error) {
	ctx, cancel := context.WithTimeout(ctx, min(callTimeout, max(p.worker.lease/2, time.Second)))
	defer cancel()
	beat := heartbeat{workerID: p.id()}
	if err := pauseAt(pauseInHeartbeat, 0); err != nil {
		return beat, err
	}
	alive := false
	settled := p.held.take(beat.workerID, 1)
	err := onConn(ctx, p.pool, func(conn *pgxpool.Conn) error {
		if !over {
			var timeline string
			err := conn.QueryRow(ctx, p.store.sql(heartbeatWorker), beat.workerID, p.worker.lease.Microseconds(), tokensOf(settled)).Scan(&alive, &beat.cancelled, &timeline)
			if err != nil || timeline == p.timeline {
				return err
			}
			// A standby was promoted, which may not have received what this worker has finished: tasks would be its
			// for ever of which it does not know.
			alive = false
		}
		_, err := conn.Exec(ctx, p.store.sql(endLease), beat.workerID)
		return err
	})
	if err != nil {
		p.held.put(settled)
		return beat, storeError("renew the lease", err)
	}
	if !alive {
		beat = heartbeat{workerID: newWorkerID()}
		if err := p.register(ctx, beat.workerID); err != nil {
			return beat, err
		}
	}
	_ = p.disownLost(ctx) // tried again with the next one
	return beat, nil
}

func (p *pgSession) adopt(workerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worker.id = workerID
}

const (
	completeTasks = `select {schema}.anchor_complete($1::bigint[], $2::bigint[])`
	settleTasks   = `select {schema}.anchor_settle($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[])`
)

func (o outcome) String() string {
	return [...]string{"completed", "retried", "failed", "released", "cancelled"}[o]
}

func (p *pgSession) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	if err := pauseAt(pauseBeforeFinish, batch[0].task.attempt); err != nil {
		return nil, err
	}
	// Every statement locks in the order of ids, so that none of ours wait for each other in a circle.
	slices.SortFunc(batch, func(a, b finishedAttempt) int { return cmp.Compare(a.task.id, b.task.id) })
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if !slices.ContainsFunc(batch, func(f finishedAttempt) bool { return f.held }) {
		lost, err := p.finishWith(ctx, func(f func(db querier) error) error {
			return onConn(ctx, p.pool, func(conn *pgxpool.Conn) error { return f(conn) })
		}, batch)
		if sqlState(err) != stateLockNotAvailable {
			if err == nil {
				p.settled(batch)
			}
			return lost, err
		}
	}
	return p.finishFree(ctx, batch)
}

// settled settles tasks that the database has answered for, and tells everybody of those that were given back: they stand
// where others may have passed.
func (p *pgSession) settled(batch []finishedAttempt) {
	var queues []string
	for _, f := range batch {
		f.task.settle()
		if f.outcome == outcomeReleased {
			queues = append(queues, f.task.queue)
		}
	}
	p.store.waker.wake(queues)
}

const heldTasks = `select {schema}.anchor_held($1::bigint[])`

// finishFree finishes those tasks that nobody else holds.
func (p *pgSession) finishFree(ctx context.Context, batch []finishedAttempt) (lost []int64, err error) {
	ids := make([]int64, len(batch))
	for i, f := range batch {
		ids[i] = f.task.id
	}
	var held []int64
	var free []finishedAttempt
	err = onConn(ctx, p.pool, func(conn *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, p.store.sql(heldTasks), ids).Scan(&held); err != nil {
				return err
			}
			free = slices.DeleteFunc(slices.Clone(batch), func(f finishedAttempt) bool { return slices.Contains(held, f.task.id) })
			lost, err = p.finishWith(ctx, func(f func(db querier) error) error { return f(tx) }, free)
			return err
		})
	})
	if err == nil {
		p.settled(free)
		if len(held) > 0 {
			err = &heldError{held}
		}
	}
	return lost, err
}

// finishWith finishes tasks of one kind, or of both where do runs everything in one transaction. A row that another
// transaction has just moved to another partition fails the statement with 40001; run again, it no longer meets that row.
func (p *pgSession) finishWith(ctx context.Context, do func(f func(db querier) error) error, batch []finishedAttempt) (lost []int64, err error) {
	var completed, settled pgFinishes
	for _, f := range batch {
		if f.outcome == outcomeCompleted {
			completed.add(f)
		} else {
			settled.add(f)
			settled.outcomes = append(settled.outcomes, f.outcome.String())
			settled.after = append(settled.after, f.after.Microseconds())
			settled.messages = append(settled.messages, nullText(f.message))
		}
	}
	if len(completed.ids) > 0 {
		var ids []int64
		err := do(func(db querier) error {
			return db.QueryRow(ctx, p.store.sql(completeTasks), completed.ids, completed.tokens).Scan(&ids)
		})
		if err != nil {
			return nil, storeError("complete tasks", err)
		}
		lost = ids
	}
	if len(settled.ids) > 0 {
		var ids []int64
		err := do(func(db querier) error {
			return db.QueryRow(ctx, p.store.sql(settleTasks), settled.ids, settled.tokens, settled.outcomes, settled.after, settled.messages).Scan(&ids)
		})
		if err != nil {
			return nil, storeError("settle tasks", err)
		}
		lost = append(lost, ids...)
	}
	return lost, nil
}

// pgFinishes are the arrays of one statement.
type pgFinishes struct {
	ids, tokens, after []int64
	outcomes           []string
	messages           []*string
}

func (f *pgFinishes) add(finished finishedAttempt) {
	f.ids = append(f.ids, finished.task.id)
	f.tokens = append(f.tokens, finished.task.token)
}

func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

const takeBackTasks = `select id, status, name, queue, priority, attempts, max_attempts, created_at, next_run, started_at, unique_tag, spec, attributes
from {schema}.anchor_take_back($1::uuid, $2::bigint, $3::text[], $4::integer)`

func (p *pgSession) takeBack(ctx context.Context, names []string, limit int) (takenBack, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	worker, token := p.id(), newToken()
	var taken takenBack
	err := p.atOnce(ctx, func(rows pgx.Rows) (err error) {
		taken, err = readTakenBack(rows, worker, token)
		return err
	}, takeBackTasks, worker, token, names, limit)
	if err == nil && taken.count > 0 {
		err = pauseAt(pauseInTakeBack, 0)
	}
	if outcomeUnknown(err) {
		p.remember(lostToken{worker: worker, token: token})
	}
	if err != nil {
		return takenBack{}, storeError("take back tasks", err)
	}
	p.held.add(worker, token, taken.exhausted)
	return taken, nil
}

func readTakenBack(rows pgx.Rows, worker string, token int64) (taken takenBack, err error) {
	defer rows.Close()
	for rows.Next() {
		task := &claimedTask{token: token, workerID: worker, exhausted: true}
		var status, spec string
		var tag, attributes *string
		if err := rows.Scan(&task.id, &status, &task.name, &task.queue, &task.priority, &task.attempt, &task.maxAttempts,
			&task.createdAt, &task.nextRun, &task.startedAt, &tag, &spec, &attributes); err != nil {
			return takenBack{}, err
		}
		taken.count++
		if Status(status) != StatusRunning {
			continue
		}
		task.params = []byte(spec)
		if tag != nil {
			task.tag = *tag
		}
		if attributes != nil {
			task.attributes = []byte(*attributes)
		}
		taken.exhausted = append(taken.exhausted, task)
	}
	return taken, rows.Err()
}

// atOnce runs a statement in a transaction of its own that sees what others have committed since it got a lock, whatever
// the default level is. All goes out together: a process that is stopped must leave no lock behind.
func (p *pgSession) atOnce(ctx context.Context, read func(rows pgx.Rows) error, statement string, args ...any) error {
	return onConn(ctx, p.pool, func(conn *pgxpool.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue("begin isolation level read committed")
		batch.Queue(p.store.sql(statement), args...).Query(read)
		batch.Queue("commit")
		err := conn.SendBatch(ctx, batch).Close()
		if err != nil && conn.Conn().PgConn().TxStatus() == 'E' {
			_, _ = conn.Exec(ctx, "rollback")
		}
		return err
	})
}

// newToken is random and positive: two claims of one task never share it.
func newToken() int64 { return rand.Int64N(1<<62) + 1 }

const (
	lockPruning = `select pg_try_advisory_xact_lock(1634624362, hashtext($1))`
	emptySlot   = `select {schema}.anchor_empty_slot()`
	pruneTasks  = `select {schema}.anchor_prune($1::integer)`

	// pruneRows bounds one transaction of pruning, of each kind of rows; pruneTime all of them, so that neither
	// taking back nor a shutdown is held up. The next minute goes on.
	pruneRows = 1000
	pruneTime = 2 * time.Second
)

func (p *pgSession) prune(ctx context.Context) error {
	began := time.Now()
	// What frees the most comes first, alone: nothing that is slow may keep a slot from being emptied.
	err := p.pruning(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, p.store.sql(emptySlot))
		return err
	})
	if err != nil {
		return err
	}
	for more := true; more && time.Since(began) < pruneTime; {
		more = false
		err := p.pruning(ctx, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, p.store.sql(pruneCronRuns)); err != nil {
				return err
			}
			return tx.QueryRow(ctx, p.store.sql(pruneTasks), pruneRows).Scan(&more)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pruning runs f in a transaction of its own, unless another worker is at it.
func (p *pgSession) pruning(ctx context.Context, f func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return storeError("prune", pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, lockPruning, p.store.schema).Scan(&mine); err != nil || !mine {
			return err
		}
		return f(ctx, tx)
	}))
}

// signOffTimeout bounds the end of a session: its lease ends by itself otherwise.
const signOffTimeout = time.Second

const signOffWorker = `select {schema}.anchor_sign_off($1::uuid)`

// endLease lets others take what this worker still holds without waiting for the lease.
const endLease = `update {schema}.anchor_workers set lease_until = clock_timestamp() where id = $1::uuid and taken_back_at is null`

func (p *pgSession) close(ctx context.Context) error {
	if p.stopListener != nil {
		p.stopListener()
	}
	ctx, cancelGrace := endsAfter(ctx, signOffGrace)
	defer cancelGrace()
	ctx, cancel := context.WithTimeout(ctx, signOffTimeout)
	defer cancel()
	_ = p.disownLost(ctx) // what it cannot give back, the end of the lease frees
	err := p.signOff(ctx)
	closed := make(chan struct{})
	go func() {
		p.listener.Wait()
		p.pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-ctx.Done(): // pgx waits up to 15 s for a server that says nothing
	}
	return err
}

func (p *pgSession) signOff(ctx context.Context) error {
	return storeError("sign the worker off", p.atOnce(ctx, func(rows pgx.Rows) error {
		rows.Close()
		return rows.Err()
	}, signOffWorker, p.id()))
}
