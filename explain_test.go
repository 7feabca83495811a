package anchor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
)

// explainRig is a store, a client without a task, and workers that do only what they are told.
type explainRig struct {
	t      *testing.T
	store  Store
	client *Client
	begin  func() (pgx.Tx, error)
}

func explainOnEveryStore(t *testing.T, test func(r *explainRig)) {
	t.Helper()
	run := func(name string, open func(t *testing.T) (Store, func() (pgx.Tx, error))) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &explainRig{t: t}
			r.store, r.begin = open(t)
			client, err := New(r.store)
			must(t, err)
			r.client = client
			test(r)
		})
	}
	run("memory", func(t *testing.T) (Store, func() (pgx.Tx, error)) {
		store := NewMemoryStore()
		return store, func() (pgx.Tx, error) { return store.Begin(t.Context()) }
	})
	run("postgres", func(t *testing.T) (Store, func() (pgx.Tx, error)) {
		rig := newPG(t)
		return rig.store, func() (pgx.Tx, error) { return rig.pool.Begin(t.Context()) }
	})
}

func (r *explainRig) enqueue(changes ...func(*newTask)) int64 {
	r.t.Helper()
	task := newTestTask(changes...)
	must(r.t, r.store.enqueue(r.t.Context(), []*newTask{task}))
	return task.id
}

// worker registers one that handles names from queues, empty for all.
func (r *explainRig) worker(lease time.Duration, names []string, queues ...string) session {
	r.t.Helper()
	opened, err := r.store.openSession(r.t.Context(), workerRecord{
		id: newWorkerID(), host: "host", pid: 42, lease: lease, names: names, queues: queues, slots: 10, crons: map[string]string{},
	})
	must(r.t, err)
	r.t.Cleanup(func() { _ = opened.close(context.Background()) })
	return opened
}

func (r *explainRig) claim(s session, queues ...string) *claimedTask {
	r.t.Helper()
	found, err := s.claim(r.t.Context(), claimRequest{names: []string{"a"}, queues: queues, limit: 1, firstHand: 1, sweep: true, fresh: true})
	must(r.t, err)
	if len(found.tasks) != 1 {
		r.t.Fatalf("claimed %d tasks, want 1", len(found.tasks))
	}
	return found.tasks[0]
}

func (r *explainRig) end(s session, task *claimedTask, how outcome, message string, after time.Duration) {
	r.t.Helper()
	lost, err := s.finish(r.t.Context(), []finishedAttempt{{task: task, outcome: how, message: message, after: after}})
	must(r.t, err)
	if len(lost) > 0 {
		r.t.Fatalf("lost %v", lost)
	}
}

// explain checks what holds for every answer.
func (r *explainRig) explain(id int64, want Reason, also ...Reason) *Explanation {
	r.t.Helper()
	e, err := r.client.Explain(r.t.Context(), id)
	must(r.t, err)
	if diff := cmp.Diff(append([]Reason{want}, also...), append([]Reason{e.Reason}, e.Also...)); diff != "" {
		r.t.Fatalf("reasons (-want +got):\n%s%s", diff, e.Text)
	}
	task, err := r.client.Task(r.t.Context(), id)
	must(r.t, err)
	task.Params = nil
	if diff := cmp.Diff(task, e.Task, cmpopts.EquateEmpty()); diff != "" {
		r.t.Errorf("the task (-Task +Explain):\n%s", diff)
	}
	if since := time.Since(e.At); since < -time.Minute || since > time.Minute {
		r.t.Errorf("explained at %v", e.At)
	}
	return e
}

func (r *explainRig) says(e *Explanation, parts ...string) {
	r.t.Helper()
	for _, part := range parts {
		if !strings.Contains(e.Text, part) {
			r.t.Errorf("%q does not say %q", e.Text, part)
		}
	}
}

func TestExplainUnknown(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		for _, id := range []int64{-1, 0, 1 << 60} {
			_, err := r.client.Explain(t.Context(), id)
			wantError(r.t, err, ErrTaskNotFound)
		}
		tx, err := r.begin()
		must(r.t, err)
		task := newTestTask()
		must(r.t, r.store.enqueueTx(t.Context(), tx, []*newTask{task}))
		_, err = r.client.Explain(t.Context(), task.id)
		wantError(r.t, err, ErrTaskNotFound)
		must(r.t, tx.Commit(t.Context()))
		r.explain(task.id, ReasonNoWorker)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = r.client.Explain(ended, task.id)
		wantError(r.t, err, context.Canceled)
		_, err = r.client.Workers(ended)
		wantError(r.t, err, context.Canceled)
	})
}

func TestExplainPausedQueue(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		id, other := r.enqueue(inQueue("mail")), r.enqueue()
		r.worker(time.Hour, []string{"a"})
		must(r.t, r.client.PauseQueue(t.Context(), "mail"))
		first := r.explain(id, ReasonQueuePaused)
		if first.PausedSince.IsZero() || first.PausedSince.After(first.At) {
			r.t.Errorf("paused since %v, now %v", first.PausedSince, first.At)
		}
		r.says(first, `Its queue "mail" is paused since `, "It is due since ")
		if len(first.Takers) != 1 {
			r.t.Errorf("%d workers would take it, want 1", len(first.Takers))
		}
		must(r.t, r.client.PauseQueue(t.Context(), "mail"))
		if again := r.explain(id, ReasonQueuePaused); !again.PausedSince.Equal(first.PausedSince) {
			r.t.Errorf("a second pause moved its begin from %v to %v", first.PausedSince, again.PausedSince)
		}
		stats, err := r.client.Stats(t.Context())
		must(r.t, err)
		if len(stats.Queues) != 2 || !stats.Queues[1].PausedSince.Equal(first.PausedSince) || !stats.Queues[0].PausedSince.IsZero() {
			r.t.Errorf("queues %+v, want mail paused since %v", stats.Queues, first.PausedSince)
		}
		if e := r.explain(other, ReasonWaiting); !e.PausedSince.IsZero() {
			r.t.Errorf("the other queue is paused since %v", e.PausedSince)
		}
		must(r.t, r.client.ResumeQueue(t.Context(), "mail"))
		if e := r.explain(id, ReasonWaiting); !e.PausedSince.IsZero() {
			r.t.Errorf("resumed, but paused since %v", e.PausedSince)
		}
	})
}

func TestExplainNoWorker(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		id := r.enqueue(inQueue("mail"))
		r.says(r.explain(id, ReasonNoWorker), "No worker is alive.")

		lost := r.worker(20*time.Second, []string{"a"})
		r.claim(lost)
		r.letDie(lost) // is listed as long as it holds a task, and takes none
		id = r.enqueue(inQueue("mail"))
		r.says(r.explain(id, ReasonNoWorker), "No worker is alive.")

		other := r.worker(time.Hour, []string{"c", "b"})
		e := r.explain(id, ReasonNoWorker)
		r.says(e, `No live worker has a handler for "a"; 1 other is alive.`)
		if len(e.Takers) != 0 || len(e.Others) != 1 {
			r.t.Errorf("%d takers, %d others", len(e.Takers), len(e.Others))
		}
		r.worker(time.Hour, []string{"a"}, "default", "slow")
		e = r.explain(id, ReasonNoWorker)
		r.says(e, `1 handles "a", but not from its queue "mail".`)
		if len(e.Takers) != 0 || len(e.Others) != 2 {
			r.t.Errorf("%d takers, %d others", len(e.Takers), len(e.Others))
		}
		r.worker(time.Hour, []string{"a"}, "mail", "slow")
		if e = r.explain(id, ReasonWaiting); len(e.Takers) != 1 || len(e.Others) != 2 {
			r.t.Errorf("%d takers, %d others", len(e.Takers), len(e.Others))
		}
		must(r.t, other.close(context.Background()))
		if e = r.explain(id, ReasonWaiting); len(e.Others) != 1 {
			r.t.Errorf("%d others, want 1 after one has signed off", len(e.Others))
		}
	})
}

func TestExplainNotDue(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		r.enqueue() // is due, and not before one that is not
		id := r.enqueue(after(50 * time.Hour))
		r.says(r.explain(id, ReasonNoWorker, ReasonNotDue), "No worker is alive. It is due at ", ", in 2d1h.")
		w := r.worker(time.Hour, []string{"a"})
		must(r.t, r.client.PauseQueue(t.Context(), "default"))
		r.explain(id, ReasonQueuePaused, ReasonNotDue)
		must(r.t, r.client.ResumeQueue(t.Context(), "default"))
		if e := r.explain(id, ReasonNotDue); e.Ahead != 0 || !e.Task.NextRun.After(e.At) {
			r.t.Errorf("%d are before it, due at %v, now %v", e.Ahead, e.Task.NextRun, e.At)
		}

		task := r.claim(w)
		r.end(w, task, outcomeRetried, "broken", 90*time.Minute)
		e := r.explain(task.id, ReasonNotDue)
		r.says(e, ", in 1h29m.", "It was tried before: attempt 1 of 3 failed.")
		if len(e.Task.Errors) != 1 || strings.Contains(e.Text, "broken") {
			r.t.Errorf("errors %v, text %q", e.Task.Errors, e.Text)
		}
	})
}

func TestExplainWaiting(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		w := r.worker(time.Hour, []string{"a"})
		for range 3 {
			r.enqueue(withPriority(-5))
		}
		r.enqueue(withPriority(7))                          // comes after
		r.enqueue(withPriority(-5), after(time.Hour))       // is not due
		r.enqueue(withPriority(-100), after(time.Hour))     // neither
		r.enqueue(inQueue("other"), withPriority(-100))     // is elsewhere
		r.enqueue(withPriority(-1), named("nobody's"))      // counts, although nobody takes it
		first, second := r.enqueue(withMax(1)), r.enqueue() // of both kinds of lanes in memory
		third := r.enqueue()
		for id, want := range map[int64]int{first: 4, second: 5, third: 6} {
			e := r.explain(id, ReasonWaiting)
			if e.Ahead != want || e.AheadMore {
				r.t.Errorf("%d are before task %d (more: %t), want %d", e.Ahead, id, e.AheadMore, want)
			}
			r.says(e, fmt.Sprintf("%d tasks of its queue are before it. 1 live worker takes such tasks, with 10 slots, and 0 tasks now.", want))
		}
		for range 5 {
			r.claim(w, "default")
		}
		e := r.explain(third, ReasonWaiting)
		r.says(e, "1 task of its queue is before it. 1 live worker takes such tasks, with 10 slots, and 5 tasks now.")
		if e.Takers[0].Held != 5 {
			r.t.Errorf("the worker holds %d tasks, want 5", e.Takers[0].Held)
		}

		for n, want := range map[int]string{1: "It is the next of its queue.", 2: "1 task of its queue is before it."} {
			var last int64
			for range n {
				last = r.enqueue(inQueue(fmt.Sprint("of ", n)))
			}
			r.says(r.explain(last, ReasonWaiting), want)
		}
	})
}

func TestExplainCountsAThousandAhead(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		r.worker(time.Hour, []string{"a"})
		var tasks []*newTask
		for range 1002 {
			tasks = append(tasks, newTestTask())
		}
		must(r.t, r.store.enqueue(t.Context(), tasks))
		for i, more := range map[int]bool{999: false, 1000: false, 1001: true} {
			e := r.explain(tasks[i].id, ReasonWaiting)
			if e.Ahead != min(i, 1000) || e.AheadMore != more {
				r.t.Errorf("%d before the task of place %d, more: %t", e.Ahead, i+1, e.AheadMore)
			}
			if more {
				r.says(e, "More than 1000 tasks of its queue are before it.")
			}
		}
	})
}

func TestExplainRunning(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		w := r.worker(time.Hour, []string{"a", "0"}, "default")
		id := r.enqueue(withMax(unlimitedAttempts))
		task := r.claim(w)
		e := r.explain(id, ReasonRunning)
		r.says(e, "Worker "+task.workerID+" (host, process 42) runs it since ", ": attempt 1.", "Its lease is until ")
		want := &WorkerInfo{ID: task.workerID, Host: "host", PID: 42, Slots: 10, Held: 1, Tasks: []string{"0", "a"}, Queues: []string{"default"}, Alive: true}
		if diff := cmp.Diff(want, e.Worker, cmpopts.IgnoreFields(WorkerInfo{}, "StartedAt", "LeaseUntil")); diff != "" {
			r.t.Errorf("the worker (-want +got):\n%s", diff)
		}
		if lease := e.Worker.LeaseUntil.Sub(e.Worker.StartedAt); lease < 59*time.Minute || lease > 61*time.Minute {
			r.t.Errorf("a lease of %v, want an hour", lease)
		}
		workers, err := r.client.Workers(t.Context())
		must(r.t, err)
		if diff := cmp.Diff([]*WorkerInfo{e.Worker}, workers); diff != "" {
			r.t.Errorf("workers (-Explain +Workers):\n%s", diff)
		}

		if e.CancelRequested {
			r.t.Error("cancelling, although nobody asked for it")
		}
		must(r.t, r.client.Cancel(t.Context(), id))
		if e = r.explain(id, ReasonRunning); !e.CancelRequested {
			r.t.Error("not cancelling, although it was asked for")
		}
		r.says(e, "It was asked to cancel.")
	})
}

func TestExplainWorkerLost(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		w := r.worker(20*time.Second, []string{"a"})
		id := r.enqueue()
		r.claim(w)
		r.explain(id, ReasonRunning)
		r.letDie(w)
		e := r.explain(id, ReasonWorkerLost)
		r.says(e, "has it since ", "Its lease is over since ", "and no worker is alive to take the task back.")
		if e.Worker == nil || e.Worker.Alive {
			r.t.Errorf("the worker is %+v", e.Worker)
		}
		rescuer := r.worker(time.Hour, []string{"a"})
		r.says(r.explain(id, ReasonWorkerLost), ": another worker takes the task back.")
		_, err := rescuer.takeBack(t.Context(), []string{"a"}, 10)
		must(r.t, err)
		r.explain(id, ReasonWaiting)
	})
}

// letDie lets the lease of a worker end.
func (r *explainRig) letDie(s session) {
	r.t.Helper()
	switch s := s.(type) {
	case *memorySession:
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		s.worker.leaseUntil = time.Now()
	case *pgSession:
		_, err := s.store.pool.Exec(r.t.Context(), "update anchor_workers set lease_until = clock_timestamp() where id = $1", s.id())
		must(r.t, err)
	}
}

func TestExplainEnded(t *testing.T) {
	t.Parallel()
	explainOnEveryStore(t, func(r *explainRig) {
		w := r.worker(time.Hour, []string{"a"})
		failed := r.enqueue()
		r.end(w, r.claim(w), outcomeRetried, "broken", 0)
		r.end(w, r.claim(w), outcomeFailed, "broken again", 0)
		completed := r.enqueue()
		r.end(w, r.claim(w), outcomeCompleted, "", 0)
		cancelled := r.enqueue()
		must(r.t, r.client.Cancel(t.Context(), cancelled))

		e := r.explain(failed, ReasonFailed)
		r.says(e, "It failed for good at ", ", after 2 attempts.")
		var messages []string
		for _, failure := range e.Task.Errors {
			messages = append(messages, failure.Message)
		}
		if diff := cmp.Diff([]string{"broken", "broken again"}, messages); diff != "" {
			r.t.Errorf("errors (-want +got):\n%s", diff)
		}
		r.says(r.explain(completed, ReasonCompleted), "It completed at ", ", after 1 attempt.")
		r.says(r.explain(cancelled, ReasonCancelled), "It was cancelled at ", ", after 0 attempts.")
	})
}

func TestExplainWithoutAPool(t *testing.T) {
	t.Parallel()
	client := &Client{store: NewPGStore(nil)}
	_, err := client.Explain(t.Context(), 1)
	wantError(t, err, errNilPool)
	_, err = client.Workers(t.Context())
	wantError(t, err, errNilPool)
}
