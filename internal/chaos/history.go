//go:build unix

package chaos

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed audit.sql
var auditSQL string

// change is one committed change of a task, and what the task was after it.
type change struct {
	seq         int64
	xid         uint64
	at          time.Time
	status      string
	slot        int16
	attempts    int
	maxAttempts int
	token       int64 // 0: none
	worker      string
	nextRun     time.Time
	tag         string
	app         string // the process that did it
	source      string // the function of the library that it called
	deleted     bool
}

// takeBackSource is the function by which others change what a worker holds.
const takeBackSource = "anchor_take_back("

func (c change) String() string {
	return fmt.Sprintf("%s (attempt %d, token %d, worker %.8s, by %s of %s)", c.status, c.attempts, c.token, c.worker, c.source, c.app)
}

// written is a row of effects or hooks.
type written struct {
	task    int64
	attempt int
	key     string
	xid     uint64
}

// history is all that a scene's database tells.
type history struct {
	tasks   map[int64][]change
	keys    map[int64]string
	deeds   map[int64]Deed
	effects map[int64][]written
	hooks   map[int64][]written
	starts  map[int64][]int // the attempts that were noted
}

func readHistory(ctx context.Context, db *pgxpool.Pool) (*history, error) {
	h := &history{
		tasks: map[int64][]change{}, keys: map[int64]string{}, deeds: map[int64]Deed{}, starts: map[int64][]int{},
	}
	const selectAudit = `select seq, xid::text::bigint, at, op, task_id, status, slot, attempts, max_attempts, coalesce(token, 0),
  coalesce(worker::text, ''), next_run, coalesce(tag, ''), app, coalesce(source, '') from audit order by seq`
	rows, err := db.Query(ctx, selectAudit)
	if err != nil {
		return nil, err
	}
	var c change
	var op string
	var task int64
	_, err = pgx.ForEachRow(rows, []any{
		&c.seq, &c.xid, &c.at, &op, &task, &c.status, &c.slot, &c.attempts, &c.maxAttempts, &c.token, &c.worker, &c.nextRun, &c.tag, &c.app, &c.source,
	}, func() error {
		c.deleted = op == "D"
		changes := h.tasks[task]
		// A move between slots is one change.
		if n := len(changes); n > 0 && changes[n-1].xid == c.xid && changes[n-1].deleted && op == "I" {
			changes = changes[:n-1]
		}
		h.tasks[task] = append(changes, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows, err = db.Query(ctx, `select id, coalesce(spec->>'key', ''), coalesce(spec->>'do', '') from anchor_tasks`)
	if err != nil {
		return nil, err
	}
	var key string
	var deed Deed
	if _, err = pgx.ForEachRow(rows, []any{&task, &key, (*string)(&deed)}, func() error {
		h.keys[task], h.deeds[task] = key, deed
		return nil
	}); err != nil {
		return nil, err
	}
	if h.effects, err = readWritten(ctx, db, "effects"); err != nil {
		return nil, err
	}
	if h.hooks, err = readWritten(ctx, db, "hooks"); err != nil {
		return nil, err
	}
	rows, err = db.Query(ctx, `select task_id, attempt from starts order by at`)
	if err != nil {
		return nil, err
	}
	var attempt int
	_, err = pgx.ForEachRow(rows, []any{&task, &attempt}, func() error {
		h.starts[task] = append(h.starts[task], attempt)
		return nil
	})
	return h, err
}

func readWritten(ctx context.Context, db *pgxpool.Pool, table string) (map[int64][]written, error) {
	rows, err := db.Query(ctx, "select task_id, attempt, key, xid::text::bigint from "+table)
	if err != nil {
		return nil, err
	}
	all := map[int64][]written{}
	var w written
	var xid int64
	_, err = pgx.ForEachRow(rows, []any{&w.task, &w.attempt, &w.key, &xid}, func() error {
		w.xid = uint64(xid)
		all[w.task] = append(all[w.task], w)
		return nil
	})
	return all, err
}
