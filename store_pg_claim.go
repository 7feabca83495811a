package anchor

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const claimTasks = `select lane, id, name, queue, priority, attempts, max_attempts, created_at, next_run, started_at, unique_tag, spec, attributes
from {schema}.anchor_claim($1::uuid, $2::bigint, $3::text[], $4::integer, $5::integer, $6::bigint, $7::integer, $8::text[],
  $9::text, $10::integer, $11::timestamptz, $12::bigint,
  $13::integer[], $14::integer[], $15::timestamptz[], $16::bigint[], $17::boolean[], $18::bigint[], $19::text[], $20::boolean, $21::boolean, $22::boolean[], $23::boolean)`

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
	worker, token := p.id(), newToken()
	settled := p.held.take(worker, forgetTogether)
	var found claimFound
	err := onConn(ctx, p.pool, func(conn *pgxpool.Conn) (err error) {
		found, err = p.readClaim(ctx, conn, worker, token, req, look, tokensOf(settled))
		if look.optimistic && (isConflict(err) || sqlState(err) == stateLockNotAvailable) {
			look.optimistic = false
			found, err = p.readClaim(ctx, conn, worker, token, req, look, tokensOf(settled))
			found.contested = true
		}
		if err == nil && len(found.tasks) > 0 {
			err = pauseAt(pauseAfterClaimCommit, found.tasks[0].attempt)
		}
		return err
	})
	if outcomeUnknown(err) {
		p.remember(lostToken{worker: worker, token: token, claimed: true})
	}
	if err != nil {
		p.held.put(settled)
		p.floors.failed(look)
		return claimed{}, storeError("claim tasks", err)
	}
	p.held.add(worker, token, found.tasks)
	now := time.Now()
	more, again := p.floors.looked(look, found, began, now)
	return claimed{tasks: found.tasks, more: more, again: again}, nil
}

// claimFound is what a claim answered.
type claimFound struct {
	tasks     []*claimedTask
	reports   []laneReport
	crowded   bool // it has waited for its turn in vain
	contested bool // others were faster with some of what it was after
}

func (p *pgSession) readClaim(ctx context.Context, db querier, worker string, token int64, req claimRequest, look *claimLook, settled []int64) (claimFound, error) {
	rows, err := db.Query(ctx, p.store.sql(claimTasks), worker, token, req.names, look.limit, req.firstHand, claimBytes, claimWalk, look.queues,
		look.from.queue, look.from.priority, look.from.nextRun, look.from.id,
		look.starts, look.priorities, look.nextRuns, look.ids, look.careful, settled, look.floorQueues, look.heads, look.wait, look.behind, look.optimistic)
	if err != nil {
		return claimFound{}, err
	}
	defer rows.Close()
	found := claimFound{tasks: make([]*claimedTask, 0, min(look.limit, 1024))}
	sorted := 0
	var block []claimedTask // tasks are allocated by the block
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
			found.contested = true
			continue
		}
		if state != nil {
			report := laneReport{lane: lane{p.names.intern(queue), priority}, state: laneState(p.names.intern(state))}
			if report.known = id.Valid && nextRun.Valid; report.known {
				report.at = position{nextRun.Time, id.Int64}
			}
			found.reports = append(found.reports, report)
			slices.SortFunc(found.tasks[sorted:], func(a, b *claimedTask) int { return a.position().compare(b.position()) })
			sorted = len(found.tasks)
			continue
		}
		block = block[1:]
		task.id, task.token, task.workerID, task.attempt, task.maxAttempts = id.Int64, token, worker, attempt.Int32, maxAttempts.Int32
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
