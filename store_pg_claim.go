package anchor

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const claimTasks = `select lane, id, name, queue, priority, attempts, max_attempts, created_at, next_run, started_at, unique_tag, spec, attributes
from {schema}.anchor_claim($1::uuid, $2::bigint, $3::text[], $4::integer, $5::integer, $6::bigint, $7::integer, $8::text[],
  $9::text, $10::integer, $11::timestamptz, $12::bigint,
  $13::integer[], $14::integer[], $15::timestamptz[], $16::bigint[], $17::boolean[], $18::bigint[], $19::text[], $20::boolean, $21::boolean, $22::boolean[], $23::boolean, $24::boolean)`

const (
	// claimBytes bounds the parameters that a claim takes out of one lane, by their size on disk.
	claimBytes = 8 << 20
	// claimWalk bounds the rows that a claim reads where it may meet many that are not for it, and so its time: some
	// tens of milliseconds.
	claimWalk = 20_000
)

func (p *pgSession) claim(ctx context.Context, req claimRequest) (claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	look, again := p.floors.next(req, began)
	if look == nil {
		return claimed{again: again}, nil
	}
	call := claimCall{worker: p.id(), token: newToken(), req: req, look: look}
	settled := p.held.take(call.worker, forgetTogether)
	call.settled = tokensOf(settled)
	var found claimFound
	var unflushed error // behind the commit: it must not be taken for a reason to claim again
	contested := false
	err := onConn(ctx, p.pool, func(conn *pgxpool.Conn) (err error) {
		found, err = p.sendClaim(ctx, conn.Conn(), call)
		if look.optimistic && !found.committed && (isConflict(err) || sqlState(err) == stateLockNotAvailable) {
			look.optimistic, contested = false, true
			found, err = p.sendClaim(ctx, conn.Conn(), call)
		}
		if found.committed && err != nil {
			unflushed, err = err, nil
		} else if err == nil && len(found.tasks) > 0 {
			err = pauseAt(pauseAfterClaimCommit, found.tasks[0].attempt)
		}
		return err
	})
	if contested || found.contested {
		p.floors.contested(time.Now())
	}
	if err == nil {
		err = unflushed
	}
	if outcomeUnknown(err) || unflushed != nil {
		p.remember(lostToken{worker: call.worker, token: call.token, claimed: true})
	}
	if err != nil {
		p.held.put(settled)
		p.floors.failed(look)
		return claimed{}, storeError("claim tasks", err)
	}
	p.held.add(call.worker, call.token, found.tasks)
	now := time.Now()
	more, again := p.floors.looked(look, found, began, now)
	return claimed{tasks: found.tasks, more: more, again: again}, nil
}

// claimCall is what a claim is asked for.
type claimCall struct {
	worker  string
	token   int64
	req     claimRequest
	look    *claimLook
	settled []int64 // tokens of claims that are over
}

// claimFound is what a claim answered.
type claimFound struct {
	tasks     []*claimedTask
	reports   []laneReport
	crowded   bool // it has waited for its turn in vain
	contested bool // others were faster with some of what it was after
	committed bool // whatever failed behind that
}

// sendClaim claims. What may have its turn at a lane, which others wait for, does not hold it until the disk has the
// claim: it waits for that behind the commit, in the same round trip.
func (p *pgSession) sendClaim(ctx context.Context, conn *pgx.Conn, c claimCall) (claimFound, error) {
	if c.look.limit < largeClaim || !slices.Contains(c.look.careful, false) {
		return p.plainClaim(ctx, conn, c)
	}
	if allowed, err := p.store.mayFlush(ctx, conn); err != nil {
		return claimFound{}, err
	} else if !allowed {
		return p.plainClaim(ctx, conn, c)
	}
	batch := &pgx.Batch{}
	batch.Queue("begin")
	batch.Queue(p.store.sql(claimTasks), c.arguments(true)...)
	batch.Queue("commit")
	batch.Queue(flushCommits)
	results := conn.SendBatch(ctx, batch)
	found, err := p.readFlushedClaim(results, c)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil && found.committed {
		p.store.flushRight.Store(flushUnknown)
	}
	if err != nil && !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		if _, rollbackErr := conn.Exec(ctx, "rollback"); rollbackErr != nil {
			return found, err // the pool gives up the connection
		}
	}
	return found, err
}

// readFlushedClaim reads the answers to a claim between begin, commit and flushCommits.
func (p *pgSession) readFlushedClaim(results pgx.BatchResults, c claimCall) (found claimFound, err error) {
	if _, err := results.Exec(); err != nil {
		return claimFound{}, err
	}
	rows, err := results.Query()
	if err == nil {
		found, err = p.readClaim(rows, c)
	}
	if err != nil {
		return claimFound{}, err
	}
	if _, err := results.Exec(); err != nil {
		return claimFound{}, err
	}
	found.committed = true
	_, err = results.Exec()
	return found, err
}

func (p *pgSession) plainClaim(ctx context.Context, db querier, c claimCall) (claimFound, error) {
	rows, err := db.Query(ctx, p.store.sql(claimTasks), c.arguments(false)...)
	if err != nil {
		return claimFound{}, err
	}
	return p.readClaim(rows, c)
}

func (c claimCall) arguments(flushed bool) []any {
	look := c.look
	return []any{
		c.worker, c.token, c.req.names, look.limit, c.req.firstHand, claimBytes, claimWalk, look.queues,
		look.from.queue, look.from.priority, look.from.nextRun, look.from.id,
		look.starts, look.priorities, look.nextRuns, look.ids, look.careful, c.settled, look.floorQueues, look.heads, look.wait, look.behind,
		look.optimistic, flushed,
	}
}

// readClaim reads what a claim has answered.
func (p *pgSession) readClaim(rows pgx.Rows, c claimCall) (claimFound, error) {
	defer rows.Close()
	found := claimFound{tasks: make([]*claimedTask, 0, min(c.look.limit, 1024))}
	sorted, contested := 0, false // the lane whose report comes next
	var block []claimedTask       // tasks are allocated by the block
	var state, name, queue []byte
	var tag, attributes *string
	var id pgtype.Int8
	var attempt, maxAttempts pgtype.Int4
	var createdAt, nextRun, startedAt pgtype.Timestamptz
	var priority int16
	var params []byte
	into := []any{ // once for all rows
		(*pgtype.DriverBytes)(&state), &id, (*pgtype.DriverBytes)(&name), (*pgtype.DriverBytes)(&queue), &priority, &attempt, &maxAttempts,
		&createdAt, &nextRun, &startedAt, &tag, &params, &attributes,
	}
	for rows.Next() {
		if len(block) == 0 {
			block = make([]claimedTask, 32)
		}
		task := &block[0]
		if err := rows.Scan(into...); err != nil {
			return claimFound{}, err
		}
		switch laneState(state) {
		case laneCrowded:
			found.crowded = true
			continue
		case laneContested:
			found.contested, contested = true, true
			continue
		}
		if state != nil {
			report := laneReport{lane: lane{p.names.intern(queue), priority}, state: laneState(p.names.intern(state)), contested: contested}
			contested = false
			if report.known = id.Valid && nextRun.Valid; report.known {
				report.at = position{nextRun.Time, id.Int64}
			}
			found.reports = append(found.reports, report)
			slices.SortFunc(found.tasks[sorted:], func(a, b *claimedTask) int { return a.position().compare(b.position()) })
			sorted = len(found.tasks)
			continue
		}
		block = block[1:]
		task.id, task.token, task.workerID, task.attempt, task.maxAttempts = id.Int64, c.token, c.worker, attempt.Int32, maxAttempts.Int32
		task.createdAt, task.nextRun, task.startedAt = createdAt.Time, nextRun.Time, startedAt.Time
		task.name, task.queue, task.priority, task.params = p.names.intern(name), p.names.intern(queue), priority, params
		if tag != nil {
			task.tag = *tag
		}
		if attributes != nil {
			task.attributes = []byte(*attributes)
		}
		found.tasks = append(found.tasks, task)
	}
	return found, rows.Err()
}

// internedStrings gives equal bytes one string. Used by one goroutine.
type internedStrings map[string]string

// maxInterned bounds what is remembered: names and queues are few, unless somebody makes them up.
const maxInterned = 1000

func (s internedStrings) intern(b []byte) string {
	if known, ok := s[string(b)]; ok {
		return known
	}
	if len(s) >= maxInterned {
		clear(s)
	}
	made := string(b)
	s[made] = made
	return made
}
