package anchor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// dueLimit, tickInstances and walkedTicks bound one look at the schedules: how many it reads, how many instances
	// it makes, and how many ticks it walks through to count those that were missed, which takes up to half a second.
	dueLimit      = 1000
	tickInstances = 10_000
	walkedTicks   = maxMissedCount

	// maxLookInterval is how long a change of a schedule may go unseen, whatever the poll interval.
	maxLookInterval = time.Minute
	// maxDeclareInterval is how often a worker looks whether its declarations are in effect.
	maxDeclareInterval = 5 * time.Second

	// A schedule that this worker cannot tick is left to the others for a while: when its time zone is unknown here,
	// and when another transaction holds the unique tag.
	zoneAside = time.Minute
	lockAside = time.Second

	maxParsedCrons = 10_000
)

// ticker makes the instances of schedules that are due. Every worker has one, and looks at all schedules: the store
// decides who makes an instance. It sleeps until the earliest tick that it knows of, by the distance between two
// readings of the store's clock, so that the clocks of workers do not matter.
//
// One timer serves all schedules. Those of gocron would be one a schedule, go by the process's clock, not hand on the
// tick that they stand for, and have to follow every change of every schedule in every worker.
type ticker struct {
	worker   *worker
	declared []*cronJob
	hints    chan struct{}

	watched time.Time // when this worker began to look, by the store's clock
	parsed  map[parsedCron]*cronExpression
	aside   map[int64]time.Time // schedules left to others, until when
}

type parsedCron struct{ expression, timeZone string }

func newTicker(w *worker, declared []*cronJob) *ticker {
	return &ticker{
		worker: w, declared: declared, hints: make(chan struct{}, 1),
		parsed: map[parsedCron]*cronExpression{}, aside: map[int64]time.Time{},
	}
}

// look tells the ticker that a schedule was changed.
func (t *ticker) look() {
	select {
	case t.hints <- struct{}{}:
	default:
	}
}

// run ticks until ctx is done.
func (t *ticker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	declareInterval := min(t.worker.options.lease/3, maxDeclareInterval)
	var nextDeclare time.Time
	var backoff time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.hints:
		case <-timer.C:
		}
		if now := time.Now(); !now.Before(nextDeclare) && t.declare(ctx) {
			nextDeclare = now.Add(declareInterval)
		}
		wait, err := t.round(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			t.worker.trouble("ticking schedules failed, trying again", err)
			backoff = min(max(2*backoff, firstClaimBackoff), lastClaimBackoff)
			wait = backoff/2 + rand.N(backoff/2)
		} else {
			backoff = 0
		}
		timer.Reset(wait)
	}
}

// declare brings the schedules in step with the code, and tells whether it could.
func (t *ticker) declare(ctx context.Context) bool {
	if len(t.declared) == 0 {
		return true
	}
	names := make([]string, len(t.declared))
	for i, code := range t.declared {
		names[i] = code.name
	}
	stored, err := t.worker.session.crons(ctx, names)
	byName := make(map[string]*cronJob, len(stored))
	for _, job := range stored {
		byName[job.name] = job
	}
	for _, code := range t.declared {
		if job := byName[code.name]; err != nil || job != nil && !job.outdated(code) {
			continue
		}
		err = t.worker.session.changeCron(ctx, code.name, func(job *cronJob) (bool, error) { return job.declare(code) })
	}
	if err != nil && ctx.Err() == nil {
		t.worker.trouble("declaring the schedules failed, trying again", err)
	}
	return err == nil
}

// round ticks what is due, and answers how soon to look again.
func (t *ticker) round(ctx context.Context) (time.Duration, error) {
	due, err := t.worker.session.dueCrons(ctx, t.leftToOthers(), dueLimit)
	if err != nil {
		return 0, err
	}
	read := time.Now()
	if t.watched.IsZero() {
		t.watched = due.now
	}
	var together []cronTick
	var alone []cronTick
	instances, planned, walked := 0, 0, int64(0)
	missed := map[int64]cronTick{}
	next := due.next
	for _, job := range due.jobs {
		if instances >= tickInstances || walked >= walkedTicks {
			break
		}
		planned++
		plan, isMissed, ok := t.plan(ctx, job, due.now)
		if !ok {
			continue
		}
		instances += len(plan.ticks)
		walked += plan.skipped + int64(len(plan.ticks))
		if isMissed {
			missed[job.id] = plan
		}
		if next.IsZero() || plan.next.Before(next) {
			next = plan.next
		}
		if job.tag == "" {
			together = append(together, plan)
		} else {
			alone = append(alone, plan)
		}
	}
	ticked, err := t.tick(ctx, together, alone)
	t.report(ticked, missed, due.jobs)
	if err != nil {
		return 0, err
	}
	if len(ticked) > 0 && (planned < len(due.jobs) || len(due.jobs) == dueLimit) {
		return 0, nil
	}
	wait := min(t.worker.options.pollInterval, maxLookInterval)
	if !next.IsZero() {
		wait = min(wait, next.Sub(due.now)-time.Since(read))
	}
	for _, until := range t.aside {
		wait = min(wait, time.Until(until))
	}
	return wait, nil
}

// plan decides on the ticks of one schedule. It is false when this worker cannot.
func (t *ticker) plan(ctx context.Context, job *cronJob, now time.Time) (plan cronTick, missed, ok bool) {
	key := parsedCron{job.expression, job.timeZone}
	expression := t.parsed[key]
	if expression == nil {
		if _, err := parseCronExpression(job.expression, defaultTimeZone); err != nil {
			t.stop(ctx, job, err)
			return cronTick{}, false, false
		}
		parsed, err := parseCronExpression(job.expression, job.timeZone)
		if err != nil {
			t.worker.logger.Error("anchor: this worker cannot tick a schedule, it is left to others", "schedule", job.name, errAttr(err))
			t.aside[job.id] = time.Now().Add(zoneAside)
			return cronTick{}, false, false
		}
		if len(t.parsed) >= maxParsedCrons {
			clear(t.parsed)
		}
		t.parsed[key], expression = parsed, parsed
	}
	plan, missed, ok = planTicks(expression, job.nextRun, now, t.watched, job.catchUp)
	if !ok {
		t.stop(ctx, job, errNoTickLeft)
	}
	plan.job = job
	return plan, missed, ok
}

// tick makes the instances: of most schedules in one statement, of those with a unique tag one by one, as each may
// wait for somebody else's transaction.
func (t *ticker) tick(ctx context.Context, together, alone []cronTick) (ticked []cronTicked, err error) {
	// What is under way when the worker is told to stop is seen through, if the database answers.
	base, cancel := endsAfter(ctx, claimGrace)
	defer cancel()
	if len(together) == 1 {
		together, alone = nil, append(together, alone...)
	}
	if len(together) > 0 {
		ticked, err = t.worker.session.tick(base, together)
		if isDataError(err) {
			alone = append(together, alone...) // one spoils it for all
		} else if err != nil {
			return ticked, err
		}
	}
	for i := range alone {
		if ctx.Err() != nil {
			return ticked, ctx.Err()
		}
		one, err := t.worker.session.tick(base, alone[i:i+1])
		switch {
		case errors.Is(err, errTickBusy):
			t.aside[alone[i].job.id] = time.Now().Add(lockAside)
		case isDataError(err):
			t.stop(ctx, alone[i].job, fmt.Errorf("an instance cannot be stored: %w", err))
		case err != nil:
			return ticked, err
		}
		ticked = append(ticked, one...)
	}
	return ticked, nil
}

// errTickBusy is what a session's tick answers when another transaction is in its way for long, mostly because it is
// about to take or to free the unique tag.
var errTickBusy = errors.New("anchor: another transaction is in the way of a tick")

// report counts the instances, and logs what did not go by the clock.
func (t *ticker) report(ticked []cronTicked, missed map[int64]cronTick, jobs []*cronJob) {
	for _, done := range ticked {
		if plan, ok := missed[done.id]; ok {
			t.worker.logger.Warn("anchor: a schedule has missed ticks", "schedule", plan.job.name,
				"rule", string(plan.job.catchUp), "instances", done.instances, "skipped", plan.skipped)
		}
		for _, job := range jobs {
			if job.id != done.id {
				continue
			}
			if task := t.worker.client.tasks[job.taskName]; task != nil {
				task.metrics.enqueued(job.queue, done.instances)
			}
			if done.held > 0 {
				t.worker.logger.Info("anchor: a tick was skipped, its unique tag is held", "schedule", job.name, "ticks", done.held)
			}
		}
	}
}

// stop keeps a schedule from ticking until somebody changes it.
func (t *ticker) stop(ctx context.Context, job *cronJob, reason error) {
	t.worker.logger.Error("anchor: a schedule is stopped until it is changed", "schedule", job.name, errAttr(reason))
	err := t.worker.session.changeCron(ctx, job.name, func(found *cronJob) (bool, error) {
		if found.id != job.id || found.version != job.version {
			return false, nil
		}
		found.problem = cleanMessage(reason.Error())
		return true, nil
	})
	if err != nil {
		t.aside[job.id] = time.Now().Add(lockAside)
	}
}

// leftToOthers are the ids of schedules that this worker leaves alone for now.
func (t *ticker) leftToOthers() []int64 {
	ids := make([]int64, 0, len(t.aside))
	now := time.Now()
	for id, until := range t.aside {
		if !now.Before(until) {
			delete(t.aside, id)
		} else {
			ids = append(ids, id)
		}
	}
	return ids
}
