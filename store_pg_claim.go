package anchor

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const claimTasks = `select id, name, queue, priority, attempts, max_attempts, created_at, next_run, started_at, unique_tag, spec, attributes
from {schema}.anchor_claim($1::uuid, $2::bigint, $3::text[], $4::text[], $5::integer, $6::integer, $7::text,
  $8::text[], $9::smallint[], $10::timestamptz[], $11::bigint[])`

const (
	// sweepShare bounds the time spent on sweeps: one sweep is followed by so many times its duration without.
	// A sweep is cheap unless a transaction held open somewhere keeps claimed entries in the index.
	sweepShare = 10
	// minSweepPause keeps sweeps that cost nothing from crowding out claims.
	minSweepPause = time.Millisecond
)

// claimFloors remembers where the claims of each lane ended. A claim starts there, so that it does not walk
// again over what was claimed and cannot be vacuumed yet; a sweep starts from the beginning and finds what came
// before the floor: late commits, retries, new lanes. Used by one goroutine.
type claimFloors struct {
	lanes     map[lane]position
	order     []lane // by queue, each queue's by priority
	lastQueue string // the queue that was served last
	nextSweep time.Time
}

type lane struct {
	queue    string
	priority int16
}

type position struct {
	nextRun time.Time
	id      int64
}

func (p *pgSession) claim(ctx context.Context, req claimRequest) ([]*claimedTask, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	floors := &p.floors
	began := time.Now()
	sweep := req.sweep || len(floors.lanes) == 0 || !began.Before(floors.nextSweep)
	var lanes pgLanes
	if !sweep {
		lanes = floors.arrays()
	}
	worker, token := p.id(), newToken()
	var tasks []*claimedTask
	err := onConn(ctx, p.pool, func(conn *pgxpool.Conn) (err error) {
		tasks, err = p.readClaim(ctx, conn, worker, token, req, lanes)
		return err
	})
	if outcomeUnknown(err) {
		p.remember(lostToken{worker: worker, token: token, claimed: true})
	}
	if err != nil {
		return nil, 0, storeError("claim tasks", err)
	}
	now := time.Now()
	if sweep {
		floors.nextSweep = now.Add(max(sweepShare*now.Sub(began), minSweepPause))
		clear(floors.lanes)
		floors.order = floors.order[:0]
	}
	floors.advance(tasks)
	if !sweep && len(tasks) < req.limit {
		return tasks, max(floors.nextSweep.Sub(now), time.Millisecond), nil
	}
	return tasks, 0, nil
}

func (p *pgSession) readClaim(ctx context.Context, db querier, worker string, token int64, req claimRequest, lanes pgLanes) ([]*claimedTask, error) {
	var queues []string
	if len(req.queues) > 0 {
		queues = req.queues
	}
	rows, err := db.Query(ctx, p.store.sql(claimTasks), worker, token, req.names, queues, req.limit, req.firstHand,
		p.floors.lastQueue, lanes.queues, lanes.priorities, lanes.nextRuns, lanes.ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tasks := make([]*claimedTask, 0, min(req.limit, 1024))
	var block []claimedTask // tasks are allocated by the block
	var name, queue []byte
	var tag, attributes *string
	for rows.Next() {
		if len(block) == 0 {
			block = make([]claimedTask, 32)
		}
		task := &block[0]
		block = block[1:]
		task.token, task.workerID = token, worker
		if err := rows.Scan(&task.id, (*pgtype.DriverBytes)(&name), (*pgtype.DriverBytes)(&queue), &task.priority, &task.attempt, &task.maxAttempts,
			&task.createdAt, &task.nextRun, &task.startedAt, &tag, &task.params, &attributes); err != nil {
			return nil, err
		}
		task.name, task.queue = p.names.intern(name), p.names.intern(queue)
		if tag != nil {
			task.tag = *tag
		}
		if attributes != nil {
			task.attributes = []byte(*attributes)
		}
		tasks = append(tasks, task)
	}
	return tasks, rows.Err()
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

// pgLanes are the floors as the arrays of a claim.
type pgLanes struct {
	queues     []string
	priorities []int16
	nextRuns   []time.Time
	ids        []int64
}

// arrays lists the floors, the queue after the one served last first.
func (f *claimFloors) arrays() pgLanes {
	var lanes pgLanes
	start, _ := slices.BinarySearchFunc(f.order, f.lastQueue, func(l lane, queue string) int {
		if l.queue <= queue {
			return -1
		}
		return 1
	})
	for i := range f.order {
		l := f.order[(start+i)%len(f.order)]
		at := f.lanes[l]
		lanes.queues = append(lanes.queues, l.queue)
		lanes.priorities = append(lanes.priorities, l.priority)
		lanes.nextRuns = append(lanes.nextRuns, at.nextRun)
		lanes.ids = append(lanes.ids, at.id)
	}
	return lanes
}

// advance moves each lane's floor to the last task claimed from it.
func (f *claimFloors) advance(tasks []*claimedTask) {
	if len(tasks) == 0 {
		return
	}
	f.lastQueue = tasks[0].queue
	added := false
	for _, task := range tasks {
		l := lane{task.queue, task.priority}
		at, known := f.lanes[l]
		added = added || !known
		if c := task.nextRun.Compare(at.nextRun); !known || c > 0 || c == 0 && task.id > at.id {
			if f.lanes == nil {
				f.lanes = map[lane]position{}
			}
			f.lanes[l] = position{task.nextRun, task.id}
		}
	}
	if added {
		f.order = f.order[:0]
		for l := range f.lanes {
			f.order = append(f.order, l)
		}
		slices.SortFunc(f.order, func(a, b lane) int {
			return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.priority, b.priority))
		})
	}
}
