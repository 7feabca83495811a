package anchor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

const (
	memoryKeepRuns = 24 * time.Hour
	memoryTagWait  = 250 * time.Millisecond
)

// memoryCrons are the schedules of a store. Their clock is the wall clock, as a schedule speaks of it.
type memoryCrons struct {
	byName map[string]*cronJob
	lastID int64
	runs   map[memoryRun]time.Time // the ticks that were dealt with, and when
	step   time.Duration           // how far this clock is ahead of the process's
}

type memoryRun struct{ id, tick int64 }

func newMemoryCrons() memoryCrons {
	return memoryCrons{byName: make(map[string]*cronJob), runs: make(map[memoryRun]time.Time)}
}

func (c *memoryCrons) now() time.Time { return time.Now().Add(c.step).Round(0) }

func (s *MemoryStore) crons(ctx context.Context, names []string) ([]*cronJob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var jobs []*cronJob
	for name, job := range s.schedules.byName {
		if names == nil || slices.Contains(names, name) {
			jobs = append(jobs, s.readCron(job))
		}
	}
	slices.SortFunc(jobs, func(a, b *cronJob) int { return strings.Compare(a.name, b.name) })
	return jobs, nil
}

// readCron is a copy of a schedule as it is now. The caller has the mutex.
func (s *MemoryStore) readCron(job *cronJob) *cronJob {
	read := *job
	read.now = shown(s.schedules.now())
	if job.declaration == "" {
		return &read
	}
	live, declaring := false, false
	now := time.Now()
	for _, w := range s.workers {
		if w.leaseOver(now) {
			continue
		}
		live = true
		if declaration, ok := w.record.crons[job.name]; ok {
			declaring = true
			read.declarationLives = read.declarationLives || declaration == job.declaration
		}
	}
	read.orphaned = live && !declaring
	return &read
}

func (s *MemoryStore) changeCron(ctx context.Context, name string, change func(job *cronJob) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	job := &cronJob{name: name, now: shown(s.schedules.now())}
	if stored := s.schedules.byName[name]; stored != nil {
		job = s.readCron(stored)
	}
	if write, err := change(job); err != nil || !write {
		return err
	}
	job.updated = job.now
	job.version++
	switch {
	case job.id == 0:
		s.schedules.lastID++
		job.id, job.created = s.schedules.lastID, job.now
		s.schedules.byName[name] = job
	case job.deleted && job.declaration == "":
		delete(s.schedules.byName, name)
	default:
		s.schedules.byName[name] = job
	}
	for _, session := range s.sessions {
		session.tell(wakeup{crons: true})
	}
	return nil
}

// instance is a task of a schedule, for a tick or for another time.
func (j *cronJob) instance(at time.Time) *newTask {
	var attributes taskAttributes
	_ = json.Unmarshal(j.attributes, &attributes) // nothing, or what encode wrote
	attributes.ScheduledFor = at
	return &newTask{
		name: j.taskName, queue: j.queue, priority: j.priority, maxAttempts: j.maxAttempts,
		params: bytes.Clone(j.params), attributes: attributes.encode(), tag: j.tag, scope: j.scope,
	}
}

func (s *MemoryStore) runCron(ctx context.Context, name string, at time.Time) (int64, error) {
	var task *newTask
	err := s.atomically(ctx, func(tx *memoryTx, now time.Time) (*memoryTx, error) {
		job := s.schedules.byName[name]
		if job == nil || job.deleted {
			return nil, noCron(name)
		}
		task = job.instance(at)
		blocker, err := s.insert(tx, []*newTask{task}, now)
		if blocker == nil && err == nil {
			job.taskID = task.id
		}
		return blocker, err
	})
	if err != nil {
		return 0, err
	}
	return task.id, nil
}

func (s *memorySession) crons(ctx context.Context, names []string) ([]*cronJob, error) {
	return s.store.crons(ctx, names)
}

func (s *memorySession) changeCron(ctx context.Context, name string, change func(job *cronJob) (bool, error)) error {
	return s.store.changeCron(ctx, name, change)
}

func (s *memorySession) dueCrons(ctx context.Context, without []int64, limit int) (dueCrons, error) {
	if err := ctx.Err(); err != nil {
		return dueCrons{}, err
	}
	store := s.store
	store.mu.Lock()
	defer store.mu.Unlock()
	due := dueCrons{now: store.schedules.now()}
	for _, job := range store.schedules.byName {
		if !job.ticking() || slices.Contains(without, job.id) {
			continue
		}
		if job.nextRun.After(due.now) {
			if due.next.IsZero() || job.nextRun.Before(due.next) {
				due.next = job.nextRun
			}
			continue
		}
		if read := store.readCron(job); !read.orphaned {
			due.jobs = append(due.jobs, read)
		}
	}
	slices.SortFunc(due.jobs, func(a, b *cronJob) int {
		if c := a.nextRun.Compare(b.nextRun); c != 0 {
			return c
		}
		return int(a.id - b.id)
	})
	due.jobs = due.jobs[:min(limit, len(due.jobs))]
	return due, nil
}

func (s *memorySession) tick(ctx context.Context, ticks []cronTick) ([]cronTicked, error) {
	var ticked []cronTicked
	for _, t := range ticks {
		done, err := s.store.tickInTime(ctx, t)
		if err != nil {
			return ticked, err
		}
		if done.id != 0 {
			ticked = append(ticked, done)
		}
	}
	return ticked, nil
}

// tickInTime deals with one schedule, unless that would have to wait long for a transaction that has its unique tag.
func (s *MemoryStore) tickInTime(ctx context.Context, t cronTick) (done cronTicked, err error) {
	ctx, cancel := context.WithTimeout(ctx, memoryTagWait)
	defer cancel()
	err = s.atomically(ctx, func(tx *memoryTx, now time.Time) (blocker *memoryTx, err error) {
		done, blocker, err = s.tickOne(tx, t, now)
		return blocker, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return done, errTickBusy
	}
	return done, err
}

// tickOne deals with one schedule, if it is as it was and due. The caller has the mutex.
func (s *MemoryStore) tickOne(tx *memoryTx, t cronTick, now time.Time) (done cronTicked, blocker *memoryTx, err error) {
	job := s.schedules.byName[t.job.name]
	if job == nil || job.id != t.job.id || job.version != t.job.version || !job.nextRun.Equal(t.job.nextRun) || !job.ticking() || job.nextRun.After(s.schedules.now()) {
		return cronTicked{}, nil, nil
	}
	done.id = job.id
	newest := job.taskID
	var runs []memoryRun
	for _, tick := range t.ticks {
		run := memoryRun{job.id, tick.Unix()}
		if _, ran := s.schedules.runs[run]; ran {
			continue
		}
		runs = append(runs, run)
		task, mark := job.instance(tick), len(tx.log)
		blocker, err := s.insert(tx, []*newTask{task}, now)
		switch {
		case blocker != nil:
			return cronTicked{}, blocker, nil
		case errors.Is(err, ErrTaskAlreadyExists):
			tx.undo(mark, now)
			done.held++
		case err != nil:
			return cronTicked{}, nil, err
		default:
			done.instances++
			newest = task.id
		}
	}
	// From here on nothing can fail.
	for _, run := range runs {
		s.schedules.runs[run] = now
	}
	job.nextRun, job.taskID = t.next, newest
	job.skipped += t.skipped + int64(done.held)
	if n := len(t.ticks); n > 0 {
		job.lastTick = t.ticks[n-1]
	}
	return done, nil, nil
}

// dropOldRuns forgets the ticks that were dealt with long ago.
func (s *MemoryStore) dropOldRuns(now time.Time) {
	for run, at := range s.schedules.runs {
		if now.Sub(at) >= memoryKeepRuns {
			delete(s.schedules.runs, run)
		}
	}
}
