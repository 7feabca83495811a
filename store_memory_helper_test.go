package anchor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

const testLease = 15 * time.Second

// memoryFixture is a store with one open session, whose worker has handlers for "a" and "b".
type memoryFixture struct {
	t     *testing.T
	store *MemoryStore
	*memorySession
}

func newMemoryFixture(t *testing.T) *memoryFixture {
	t.Helper()
	f := &memoryFixture{t: t, store: NewMemoryStore()}
	f.memorySession = f.open("w1")
	return f
}

func (f *memoryFixture) open(id string) *memorySession {
	f.t.Helper()
	opened, err := f.store.openSession(f.t.Context(), workerRecord{id: id, host: "host", pid: 42, lease: testLease, names: []string{"a", "b"}, slots: 10})
	if err != nil {
		f.t.Fatalf("openSession: %v", err)
	}
	f.t.Cleanup(func() { _ = opened.close(context.Background()) })
	return opened.(*memorySession)
}

func newTestTask(changes ...func(*newTask)) *newTask {
	task := &newTask{name: "a", queue: "default", maxAttempts: 3, params: []byte(`{"n":1}`)}
	for _, change := range changes {
		change(task)
	}
	return task
}

func named(name string) func(*newTask)       { return func(t *newTask) { t.name = name } }
func inQueue(queue string) func(*newTask)    { return func(t *newTask) { t.queue = queue } }
func withPriority(p int16) func(*newTask)    { return func(t *newTask) { t.priority = p } }
func withMax(n int32) func(*newTask)         { return func(t *newTask) { t.maxAttempts = n } }
func after(d time.Duration) func(*newTask)   { return func(t *newTask) { t.delay = d } }
func startingAt(at time.Time) func(*newTask) { return func(t *newTask) { t.startAt = at } }
func tagged(tag string, scope UniqueScope) func(*newTask) {
	return func(t *newTask) { t.tag, t.scope = tag, scope }
}

func (f *memoryFixture) enqueue(changes ...func(*newTask)) int64 {
	f.t.Helper()
	task := newTestTask(changes...)
	if err := f.store.enqueue(f.t.Context(), []*newTask{task}); err != nil {
		f.t.Fatalf("enqueue: %v", err)
	}
	return task.id
}

func (f *memoryFixture) enqueueTx(tx pgx.Tx, changes ...func(*newTask)) int64 {
	f.t.Helper()
	task := newTestTask(changes...)
	if err := f.store.enqueueTx(f.t.Context(), tx, []*newTask{task}); err != nil {
		f.t.Fatalf("enqueueTx: %v", err)
	}
	return task.id
}

// claimAll renews the lease and claims up to limit tasks of "a" and "b" from all queues.
func (f *memoryFixture) claimAll(limit int) []*claimedTask {
	f.t.Helper()
	return f.claimBy(f.memorySession, limit)
}

func (f *memoryFixture) claimBy(s *memorySession, limit int) []*claimedTask {
	f.t.Helper()
	if _, err := renew(f.t.Context(), s, false); err != nil {
		f.t.Fatalf("heartbeat: %v", err)
	}
	found, err := s.claim(f.t.Context(), claimRequest{names: []string{"a", "b"}, limit: limit, firstHand: limit})
	claimed := found.tasks
	if err != nil {
		f.t.Fatalf("claim: %v", err)
	}
	return claimed
}

func (f *memoryFixture) claimOne(id int64) *claimedTask {
	f.t.Helper()
	claimed := f.claimAll(1)
	if diff := cmp.Diff([]int64{id}, claimedIDs(claimed)); diff != "" {
		f.t.Fatalf("claimed (-want +got):\n%s", diff)
	}
	return claimed[0]
}

func (f *memoryFixture) end(task *claimedTask, how outcome, changes ...func(*finishedAttempt)) {
	f.t.Helper()
	ended := finishedAttempt{task: task, outcome: how}
	for _, change := range changes {
		change(&ended)
	}
	lost, err := f.finish(f.t.Context(), []finishedAttempt{ended})
	if err != nil || lost != nil {
		f.t.Fatalf("finish: lost %v, error %v", lost, err)
	}
}

func (f *memoryFixture) begin() pgx.Tx {
	f.t.Helper()
	tx, err := f.store.Begin(f.t.Context())
	if err != nil {
		f.t.Fatalf("Begin: %v", err)
	}
	return tx
}

func (f *memoryFixture) info(id int64) *TaskInfo {
	f.t.Helper()
	info, err := f.store.task(f.t.Context(), id)
	if err != nil {
		f.t.Fatalf("task %d: %v", id, err)
	}
	return info
}

func (f *memoryFixture) wantStatus(id int64, want Status) {
	f.t.Helper()
	if got := f.info(id).Status; got != want {
		f.t.Errorf("task %d is %s, want %s", id, got, want)
	}
}

func (f *memoryFixture) wantMessages(id int64, want ...string) {
	f.t.Helper()
	var got []string
	for _, e := range f.info(id).Errors {
		got = append(got, e.Message)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("messages of task %d (-want +got):\n%s", id, diff)
	}
}

// wantHeld enqueues a tag, and wants that task holder has it.
func (f *memoryFixture) wantHeld(tag string, holder int64) {
	f.t.Helper()
	wantExists(f.t, f.store.enqueue(f.t.Context(), []*newTask{newTestTask(tagged(tag, UniqueForever))}), tag, holder)
}

func wantExists(t *testing.T, err error, tag string, holder int64) {
	t.Helper()
	var exists *TaskExistsError
	if !errors.As(err, &exists) {
		t.Fatalf("error %v, want a *TaskExistsError", err)
	}
	if diff := cmp.Diff(&TaskExistsError{Tag: tag, ID: holder}, exists); diff != "" {
		t.Errorf("TaskExistsError (-want +got):\n%s", diff)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func claimedIDs(tasks []*claimedTask) []int64 {
	var ids []int64
	for _, task := range tasks {
		ids = append(ids, task.id)
	}
	return ids
}

func infoIDs(tasks []*TaskInfo) []int64 {
	var ids []int64
	for _, task := range tasks {
		ids = append(ids, task.ID)
	}
	return ids
}

// heard drains the wakeups.
func (f *memoryFixture) heard() []wakeup {
	var all []wakeup
	for {
		select {
		case w := <-f.wakeups():
			all = append(all, w)
		default:
			return all
		}
	}
}

func (f *memoryFixture) fail(ctx context.Context, task *claimedTask, message string, idle time.Duration, hook func(ctx context.Context, tx pgx.Tx) error) error {
	return f.memorySession.fail(ctx, task, finalFailure{message: message, idle: idle, hook: hook})
}
