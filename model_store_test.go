package anchor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/anchor-go/anchor/internal/seam"
)

// TestStoresDoAsTheModel sends random operations to a store and to the model, those of lost claims included, and
// compares every answer, and every task after each.
func TestStoresDoAsTheModel(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(rt *rapid.T) {
			store := NewMemoryStore()
			newModelRig(rt, store, openModelSessions(t, store)).run()
		})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		rig := newPG(t)
		sessions := openModelSessions(t, rig.store)
		rapid.Check(t, func(rt *rapid.T) {
			for _, table := range []string{"tasks", "unique_tags", "queues", "task_errors", "workers"} {
				rig.exec("delete from anchor_" + table)
			}
			newModelRig(rt, rig.store, sessions).run()
		})
	})
}

func openModelSessions(t *testing.T, store Store) []session {
	t.Helper()
	var sessions []session
	for range 2 {
		opened, err := store.openSession(t.Context(), workerRecord{
			id: newWorkerID(), host: "host", pid: 42, lease: time.Hour, names: []string{"a", "b"}, slots: 10, crons: map[string]string{},
		})
		must(t, err)
		t.Cleanup(func() { _ = opened.close(context.Background()) })
		sessions = append(sessions, opened)
	}
	return sessions
}

// modelRig is a store beside the model.
type modelRig struct {
	*rapid.T
	store    Store
	sessions []session
	workers  []*modelWorker // what each session claims for
	model    *model
	ids      []int64 // of the tasks, by their number
	claims   []modelHeld
}

// modelHeld is a claim as the store gave it, for as long as somebody may come back with it: for ever.
type modelHeld struct {
	*modelClaim
	claimed *claimedTask
	session int
}

func newModelRig(rt *rapid.T, store Store, sessions []session) *modelRig {
	r := &modelRig{T: rt, store: store, sessions: sessions, model: newModel(), workers: make([]*modelWorker, len(sessions))}
	for i := range sessions {
		r.rebirth(i)
	}
	return r
}

func (r *modelRig) run() {
	r.Repeat(map[string]func(*rapid.T){
		"enqueue":   func(*rapid.T) { r.enqueue() },
		"in tx":     func(*rapid.T) { r.enqueueTx() },
		"claim":     func(*rapid.T) { r.claim() },
		"finish":    func(*rapid.T) { r.finish() },
		"forge":     func(*rapid.T) { r.forge() },
		"complete":  func(*rapid.T) { r.complete() },
		"fail":      func(*rapid.T) { r.fail() },
		"cancel":    func(*rapid.T) { r.cancel() },
		"retry":     func(*rapid.T) { r.retry() },
		"release":   func(*rapid.T) { r.releaseTag() },
		"pause":     func(*rapid.T) { r.pause() },
		"heartbeat": func(*rapid.T) { r.heartbeat() },
		"die":       func(*rapid.T) { r.rebirth(r.index("worker", len(r.sessions))) },
		"take back": func(*rapid.T) { r.takeBack() },
		"take over": func(*rapid.T) { r.takeOver() },
		"":          func(*rapid.T) { r.compare() },
	})
}

func (r *modelRig) index(what string, n int) int { return rapid.IntRange(0, n-1).Draw(r.T, what) }
func (r *modelRig) coin(what string) bool        { return rapid.Bool().Draw(r.T, what) }
func (r *modelRig) queue() string                { return rapid.SampledFrom([]string{"q", "p"}).Draw(r.T, "queue") }

func (r *modelRig) names() []string {
	return rapid.SampledFrom([][]string{{"a", "b"}, {"a", "b"}, {"a"}}).Draw(r.T, "names")
}

func (r *modelRig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("unexpected error: %v", err)
	}
}

// wantIs wants no error where want is nil.
func (r *modelRig) wantIs(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Fatalf("error %v, want %v", err, want)
	}
}

func (r *modelRig) wantHolder(err error, holder int) {
	r.Helper()
	var exists *TaskExistsError
	if !errors.As(err, &exists) || exists.ID != r.ids[holder-1] {
		r.Fatalf("error %v, want that task %d, number %d, has the tag", err, r.ids[holder-1], holder)
	}
}

// compare reads every task.
func (r *modelRig) compare() {
	if len(r.ids) == 0 {
		return
	}
	infos, err := r.store.tasks(context.Background(), TaskQuery{Limit: 1000})
	r.ok(err)
	var got, want []string
	for i, info := range infos {
		got = append(got, stateOfInfo(len(infos)-i, info))
		want = append(want, r.model.tasks[len(infos)-1-i].state())
	}
	if diff := cmp.Diff(want, got); diff != "" || len(infos) != len(r.model.tasks) {
		r.Fatalf("%d tasks, want %d (-want +got):\n%s", len(infos), len(r.model.tasks), diff)
	}
}

// drawTask is a task for both sides.
func (r *modelRig) drawTask() (*newTask, modelTask, bool) {
	m := modelTask{
		name:     rapid.SampledFrom([]string{"a", "b"}).Draw(r.T, "name"),
		queue:    r.queue(),
		priority: rapid.IntRange(-1, 1).Draw(r.T, "priority"),
		max:      rapid.IntRange(1, 3).Draw(r.T, "max"),
		tag:      rapid.SampledFrom([]string{"", "", "t", "u"}).Draw(r.T, "tag"),
	}
	task := &newTask{name: m.name, queue: m.queue, priority: int16(m.priority), maxAttempts: int32(m.max), params: []byte(`{}`), tag: m.tag}
	if r.index("later", 5) == 0 {
		task.delay, m.due = time.Hour, modelNever
	}
	whileLive := m.tag != "" && r.coin("while live")
	if whileLive {
		task.scope = UniqueWhileLive
	}
	return task, m, whileLive
}

// enqueued is told what the store has answered for a task.
func (r *modelRig) enqueued(task *newTask, m modelTask, whileLive bool, err error) {
	r.Helper()
	if holder := r.model.enqueue(m, whileLive); holder != 0 {
		r.wantHolder(err, holder)
		return
	}
	r.ok(err)
	r.ids = append(r.ids, task.id)
}

func (r *modelRig) enqueue() {
	task, m, whileLive := r.drawTask()
	r.enqueued(task, m, whileLive, r.store.enqueue(context.Background(), []*newTask{task}))
}

func (r *modelRig) enqueueTx() {
	ctx := context.Background()
	tx, err := seam.Anchor.Begin(ctx, r.store)
	r.ok(err)
	task, m, whileLive := r.drawTask()
	err = r.store.enqueueTx(ctx, tx, []*newTask{task})
	if r.coin("commit") {
		r.ok(tx.Commit(ctx))
		r.enqueued(task, m, whileLive, err)
		return
	}
	r.ok(tx.Rollback(ctx))
	if held, ok := r.model.tags[m.tag]; ok && m.tag != "" {
		r.wantHolder(err, held.task)
		return
	}
	r.ok(err)
}

func (r *modelRig) claim() {
	s, queue, names, limit := r.index("worker", len(r.sessions)), r.queue(), r.names(), 1+r.index("limit", 3)
	got, err := r.sessions[s].claim(context.Background(), claimRequest{names: names, queues: []string{queue}, limit: limit, firstHand: limit, sweep: true, fresh: true})
	r.ok(err)
	r.claimed(s, r.model.claim(r.workers[s], queue, names, limit), got.tasks)
}

// claimed compares claims, and keeps them.
func (r *modelRig) claimed(s int, want []*modelClaim, got []*claimedTask) {
	r.Helper()
	describe := func(number int, attempt int, exhausted bool) string {
		return fmt.Sprintf("task %d, attempt %d, exhausted %t", number, attempt, exhausted)
	}
	var wants, gots []string
	for _, c := range want {
		wants = append(wants, describe(c.task.number, c.attempt, c.exhausted))
	}
	for _, c := range got {
		number := 0
		for i, id := range r.ids {
			if id == c.id {
				number = i + 1
			}
		}
		gots = append(gots, describe(number, int(c.attempt), c.exhausted))
	}
	if diff := cmp.Diff(wants, gots); diff != "" {
		r.Fatalf("claims (-want +got):\n%s", diff)
	}
	for i, c := range want {
		r.claims = append(r.claims, modelHeld{c, got[i], s})
	}
}

// anyClaim is one that was made at some time: any, a recent one, or one whose task somebody else holds by now.
func (r *modelRig) anyClaim() (modelHeld, bool) {
	among := r.claims
	switch r.index("which", 3) {
	case 0:
		among = among[max(0, len(among)-3):]
	case 1:
		var rivals []modelHeld
		for _, c := range among {
			if c.lost() && c.task.claim != nil {
				rivals = append(rivals, c)
			}
		}
		if len(rivals) > 0 {
			among = rivals
		}
	}
	if len(among) == 0 {
		return modelHeld{}, false
	}
	return among[r.index("claim", len(among))], true
}

func (r *modelRig) finish() {
	batch, wants := []finishedAttempt{}, []modelHeld{}
	later := r.coin("later")
	for range 1 + r.index("batch", 3) {
		c, ok := r.anyClaim()
		if !ok {
			return
		}
		for _, other := range wants {
			if other.task == c.task {
				ok = false // a batch has one end of a task
			}
		}
		how := rapid.SampledFrom([]outcome{outcomeCompleted, outcomeRetried, outcomeFailed, outcomeReleased, outcomeCancelled}).Draw(r.T, "outcome")
		if !ok || c.exhausted && how == outcomeReleased { // a worker never gives those back
			continue
		}
		f := finishedAttempt{task: c.claimed, outcome: how}
		if how != outcomeCompleted && how != outcomeReleased {
			f.message = fmt.Sprintf("error of attempt %d", c.attempt)
		}
		if later {
			f.after = time.Hour
		}
		batch, wants = append(batch, f), append(wants, c)
	}
	lost, err := r.sessions[r.index("worker", len(r.sessions))].finish(context.Background(), append([]finishedAttempt{}, batch...))
	r.ok(err)
	isLost := map[int64]bool{}
	for _, id := range lost {
		isLost[id] = true
	}
	for i, c := range wants {
		if isLost[c.claimed.id] != c.lost() {
			r.Errorf("%s of task %d, attempt %d: lost %t, want %t", batch[i].outcome, c.task.number, c.attempt, isLost[c.claimed.id], c.lost())
		}
	}
	// What is due in an order within one batch is due at one time.
	due := r.model.tick()
	for i, c := range wants {
		if !c.lost() {
			r.model.finish(c.modelClaim, batch[i].outcome, batch[i].message, later)
			if c.task.status == StatusPending && batch[i].outcome == outcomeRetried && !later {
				c.task.due = due
			}
		}
	}
}

// forge uses a token that was never given out.
func (r *modelRig) forge() {
	c, ok := r.anyClaim()
	if !ok {
		return
	}
	forged := *c.claimed
	forged.token ^= 1 << 61
	s := r.sessions[c.session]
	lost, err := s.finish(context.Background(), []finishedAttempt{{task: &forged, outcome: outcomeCompleted}})
	r.ok(err)
	if len(lost) != 1 {
		r.Errorf("a forged token has completed a task")
	}
	r.wantIs(s.fail(context.Background(), &forged, finalFailure{message: "forged", idle: time.Minute}), ErrClaimLost)
}

// complete ends an attempt in its own transaction, which has enqueued a task, or abandons it.
func (r *modelRig) complete() {
	c, ok := r.anyClaim()
	if !ok {
		return
	}
	ctx := context.Background()
	attempt := r.sessions[c.session].begin(c.claimed, time.Minute)
	child, m, whileLive := r.drawTask()
	err := r.store.enqueueTx(ctx, attempt.handler(), []*newTask{child})
	switch {
	case r.coin("abandon"):
		attempt.abandon()
		if held, ok := r.model.tags[m.tag]; ok && m.tag != "" {
			r.wantHolder(err, held.task)
		} else {
			r.ok(err)
		}
		return
	case attempt.endUnused(): // the in-memory store has nothing to commit when the tag is held
		attempt.abandon()
		r.enqueued(child, m, whileLive, err)
		return
	}
	completed := attempt.complete(ctx)
	attempt.abandon()
	if c.lost() {
		r.wantIs(completed, ErrClaimLost)
		return
	}
	r.ok(completed)
	r.enqueued(child, m, whileLive, err)
	r.model.finish(c.modelClaim, outcomeCompleted, "", false)
}

// fail ends a task for good, with a hook that enqueues a task and may fail.
func (r *modelRig) fail() {
	c, ok := r.anyClaim()
	if !ok {
		return
	}
	child, m, whileLive := r.drawTask()
	var hookErr, enqueueErr error
	if r.coin("hook fails") {
		hookErr = errors.New("no luck")
	}
	called := 0
	hook := func(ctx context.Context, tx pgx.Tx) error {
		called++
		if enqueueErr = r.store.enqueueTx(ctx, tx, []*newTask{child}); enqueueErr != nil {
			hookErr = errors.New("held")
		}
		return hookErr
	}
	err := r.sessions[c.session].fail(context.Background(), c.claimed, finalFailure{message: "failed", idle: time.Minute, hook: hook})
	if c.lost() {
		r.wantIs(err, ErrClaimLost)
		if called != 0 {
			r.Errorf("the hook of a lost claim was called")
		}
		return
	}
	r.ok(err)
	if called != 1 {
		r.Errorf("the hook was called %d times", called)
	}
	r.model.finish(c.modelClaim, outcomeFailed, "failed", false)
	if hookErr == nil || hookErr.Error() == "held" {
		// The tag of the task that has failed is free for its hook.
		r.enqueued(child, m, whileLive, enqueueErr)
	}
	if hookErr != nil {
		c.task.errors = append(c.task.errors, hookMessagePrefix+hookErr.Error())
	}
}

func (r *modelRig) anyTask() (int, bool) {
	if len(r.ids) == 0 {
		return 0, false
	}
	return r.index("task", len(r.ids)), true
}

func (r *modelRig) cancel() {
	if i, ok := r.anyTask(); ok {
		r.wantIs(r.store.cancel(context.Background(), nil, r.ids[i]), r.model.cancel(r.model.tasks[i]))
	}
}

func (r *modelRig) retry() {
	i, ok := r.anyTask()
	if !ok {
		return
	}
	err := r.store.retry(context.Background(), r.ids[i])
	holder, want := r.model.retry(r.model.tasks[i])
	r.wantIs(err, want)
	if holder != 0 {
		r.wantHolder(err, holder)
	}
}

func (r *modelRig) releaseTag() {
	tag := rapid.SampledFrom([]string{"t", "u"}).Draw(r.T, "tag")
	r.ok(r.store.releaseTag(context.Background(), tag))
	delete(r.model.tags, tag)
}

func (r *modelRig) pause() {
	queue, paused := r.queue(), r.index("paused", 4) == 0
	r.ok(r.store.setPaused(context.Background(), queue, paused))
	r.model.paused[queue] = paused
}

func (r *modelRig) heartbeat() {
	s := r.index("worker", len(r.sessions))
	beat, err := renew(context.Background(), r.sessions[s], false)
	r.ok(err)
	var want []int64
	for i, t := range r.model.tasks {
		if t.claim != nil && t.claim.worker == r.workers[s] && t.cancelRequested {
			want = append(want, r.ids[i])
		}
	}
	if strings.Trim(fmt.Sprint(want), "[]") != strings.Trim(fmt.Sprint(beat.cancelled), "[]") {
		r.Errorf("cancelled are %v, want %v", beat.cancelled, want)
	}
}

// rebirth lets a worker's lease end: its session goes on as another worker.
func (r *modelRig) rebirth(s int) {
	_, err := renew(context.Background(), r.sessions[s], true)
	r.ok(err)
	if r.workers[s] != nil {
		r.workers[s].dead = true
	}
	r.workers[s] = &modelWorker{}
}

// takeOver is what follows a death most often: what the dead worker held runs again, and the dead may wake.
func (r *modelRig) takeOver() {
	r.rebirth(r.index("worker", len(r.sessions)))
	r.takeBack()
	r.claim()
}

func (r *modelRig) takeBack() {
	s, names := r.index("worker", len(r.sessions)), r.names()
	taken, err := r.sessions[s].takeBack(context.Background(), names, 1000)
	r.ok(err)
	count, exhausted := r.model.takeBack(r.workers[s], names)
	if taken.count != count {
		r.Errorf("%d tasks were taken back, want %d", taken.count, count)
	}
	// Of which dead worker first is no rule.
	byTask := map[int64]*claimedTask{}
	for _, c := range taken.exhausted {
		byTask[c.id] = c
	}
	var got []*claimedTask
	for _, c := range exhausted {
		if claimed := byTask[r.ids[c.task.number-1]]; claimed != nil {
			got = append(got, claimed)
		}
	}
	if len(got) != len(taken.exhausted) {
		r.Errorf("%d exhausted tasks were taken, want %d", len(taken.exhausted), len(exhausted))
	}
	r.claimed(s, exhausted, got)
}
