package anchor

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// recorded are labels in the order in which handlers ran.
type recorded struct {
	mu     sync.Mutex
	labels []string
}

func (r *recorded) add(label string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.labels = append(r.labels, label)
}

func (r *recorded) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.labels...)
}

// newRecorder is a task that records its parameter.
func newRecorder(name string) (*Task[caseParams], *recorded) {
	runs := &recorded{}
	return Define(name, func(_ context.Context, _ pgx.Tx, p *caseParams) error { runs.add(p.Case); return nil }), runs
}

func TestTasksRunByPriorityThenByTime(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, runs := newRecorder("Recorded")
	client := rig.newClient(task)
	now := readOne[time.Time](rig, "select now()")
	for _, c := range []struct {
		label    string
		priority int
		at       time.Duration
	}{
		{"5 normal, early", 0, -3 * time.Minute},
		{"6 normal, late", 0, -2 * time.Minute},
		{"8 low", 100, -time.Hour},
		{"1 high, early", -100, -time.Minute},
		{"2 high, late", -100, -time.Second},
		{"7 lower", 1, -2 * time.Hour},
		{"3 higher", -1, -time.Second},
		{"4 higher, same time", -1, -time.Second},
	} {
		id := enqueue(rig, client, task, &caseParams{c.label}, WithPriority(c.priority))
		rig.exec("update anchor_tasks set next_run = $2 where id = $1", id, now.Add(c.at))
	}
	rig.startWork(client, WithConcurrency(1))
	eventually(t, "8 runs", func() bool { return len(runs.all()) == 8 })
	want := []string{"1 high, early", "2 high, late", "3 higher", "4 higher, same time", "5 normal, early", "6 normal, late", "7 lower", "8 low"}
	if diff := cmp.Diff(want, runs.all()); diff != "" {
		t.Errorf("order of runs (-want +got):\n%s", diff)
	}
}

func TestPausedQueueWaitsAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, runs := newRecorder("Recorded")
	client := rig.newClient(task)
	if err := client.PauseQueue(t.Context(), "paused"); err != nil {
		t.Fatal(err)
	}
	rig.startWork(client, WithPollInterval(20*time.Millisecond))
	waits := enqueue(rig, client, task, &caseParams{"paused"}, WithQueue("paused"))
	for range 10 {
		rig.ended(client, enqueue(rig, client, task, &caseParams{"other"}))
	}
	if info, err := client.Task(t.Context(), waits); err != nil || info.Status != StatusPending || info.Attempts != 0 {
		t.Errorf("the task of the paused queue: %+v, %v", info, err)
	}
	if err := client.ResumeQueue(t.Context(), "paused"); err != nil {
		t.Fatal(err)
	}
	rig.ended(client, waits)
	// A queue that the worker has claimed from, so that it has a floor there.
	if err := client.PauseQueue(t.Context(), "paused"); err != nil {
		t.Fatal(err)
	}
	before := len(runs.all())
	enqueue(rig, client, task, &caseParams{"paused"}, WithQueue("paused"))
	for range 10 {
		rig.ended(client, enqueue(rig, client, task, &caseParams{"other"}))
	}
	if got := len(runs.all()) - before; got != 10 {
		t.Errorf("%d runs, want the 10 of the other queue", got)
	}
}

func TestLongQueueDoesNotStarveAnother(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, runs := newRecorder("Recorded")
	client := rig.newClient(task)
	long := make([]*caseParams, 50_000)
	for i := range long {
		long[i] = &caseParams{"long"}
	}
	for _, queue := range []string{"a", "z"} {
		if _, err := task.RunMany(t.Context(), client, long, WithQueue(queue)); err != nil {
			t.Fatal(err)
		}
	}
	short := enqueue(rig, client, task, &caseParams{"short"}, WithQueue("m"))
	rig.startWork(client, WithConcurrency(1))
	rig.ended(client, short)
	before := 0
	for i, label := range runs.all() {
		if label == "short" {
			before = i
		}
	}
	if before > 40_000 {
		t.Errorf("the short queue's task ran behind %d of the long ones' 100,000", before)
	}
}

func TestWorkerOfSomeQueuesLeavesTheOthers(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, runs := newRecorder("Recorded")
	client := rig.newClient(task)
	other := enqueue(rig, client, task, &caseParams{"other"}, WithQueue("other"))
	rig.startWork(client, WithQueues("a", "b"), WithPollInterval(20*time.Millisecond))
	for i := range 10 {
		queue := []string{"a", "b"}[i%2]
		rig.ended(client, enqueue(rig, client, task, &caseParams{queue}, WithQueue(queue)))
	}
	if info, err := client.Task(t.Context(), other); err != nil || info.Status != StatusPending {
		t.Errorf("the task of another queue: %+v, %v; runs %q", info, err, runs.all())
	}
}

func TestPollingAloneFindsTasks(t *testing.T) {
	t.Parallel()
	rig := newPG(t, WithPollingOnly())
	task, _ := newRecorder("Recorded")
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(50*time.Millisecond))
	for i := range 5 {
		rig.ended(client, enqueue(rig, client, task, &caseParams{fmt.Sprint(i)}))
	}
	if n := readOne[int](rig, "select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %'"); n != 0 {
		t.Errorf("%d connections listen, want none", n)
	}
}

func TestDelayedTaskIsNotStartedBeforeTheDatabasesTime(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, _ := newRecorder("Recorded")
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(20*time.Millisecond))
	later := enqueue(rig, client, task, &caseParams{"tomorrow"}, WithDelay(24*time.Hour))
	var ids []int64
	for range 10 {
		ids = append(ids, enqueue(rig, client, task, &caseParams{"soon"}, WithDelay(300*time.Millisecond)))
	}
	for _, id := range ids {
		info := rig.ended(client, id)
		if delay := info.NextRun.Sub(info.CreatedAt); delay != 300*time.Millisecond || info.StartedAt.Before(info.NextRun) {
			t.Errorf("due %v after it was created, started %v after that", delay, info.StartedAt.Sub(info.NextRun))
		}
	}
	if info, err := client.Task(t.Context(), later); err != nil || info.Status != StatusPending {
		t.Errorf("the task of tomorrow: %+v, %v", info, err)
	}
}
