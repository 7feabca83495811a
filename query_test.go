package anchor_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// obeyLetter completes, or fails for good when it is told to.
func obeyLetter(_ context.Context, _ pgx.Tx, p *letter) error {
	if p.To == "fail" {
		return anchor.Fatal(context.DeadlineExceeded)
	}
	return nil
}

// populate leaves tasks of every final status and pending ones, and answers their ids by what they are.
func populate(t *testing.T, store anchor.Store) (*anchor.Client, map[string]int64) {
	t.Helper()
	obey, wait := anchor.Define("Obey", obeyLetter), anchor.Define[letter]("Wait", nil, anchor.WithQueue("slow"))
	client := newClient(t, store, obey, wait)
	ids := map[string]int64{
		"completed": mustRun(t, client, obey, letter{}, anchor.WithUniqueTag("completed")),
		"failed":    mustRun(t, client, obey, letter{To: "fail"}, anchor.WithUniqueTag("failed", anchor.UniqueWhileLive)),
		"cancelled": mustRun(t, client, wait, letter{}, anchor.WithUniqueTag("cancelled", anchor.UniqueWhileLive)),
		"ready":     mustRun(t, client, wait, letter{}),
		"scheduled": mustRun(t, client, wait, letter{}, anchor.WithDelay(time.Hour)),
		"elsewhere": mustRun(t, client, wait, letter{}, anchor.WithQueue("other")),
	}
	startWorker(t, client)
	mustWait(t, client, ids["completed"])
	mustWait(t, client, ids["failed"])
	if err := client.Cancel(t.Context(), ids["cancelled"]); err != nil {
		t.Fatal(err)
	}
	return client, ids
}

func TestTasksFilters(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, ids := populate(t, store)
		for _, c := range []struct {
			query anchor.TaskQuery
			want  []string
		}{
			{anchor.TaskQuery{}, []string{"completed", "failed", "cancelled", "ready", "scheduled", "elsewhere"}},
			{anchor.TaskQuery{Name: "Obey"}, []string{"completed", "failed"}},
			{anchor.TaskQuery{Name: "obey"}, nil},
			{anchor.TaskQuery{Queue: "slow"}, []string{"cancelled", "ready", "scheduled"}},
			{anchor.TaskQuery{UniqueTag: "failed"}, []string{"failed"}},
			{anchor.TaskQuery{Status: []anchor.Status{anchor.StatusPending}}, []string{"ready", "scheduled", "elsewhere"}},
			{anchor.TaskQuery{Status: []anchor.Status{anchor.StatusRunning}}, nil},
			{anchor.TaskQuery{Status: []anchor.Status{anchor.StatusCompleted}}, []string{"completed"}},
			{anchor.TaskQuery{Status: []anchor.Status{anchor.StatusFailed}}, []string{"failed"}},
			{anchor.TaskQuery{Status: []anchor.Status{anchor.StatusCancelled, anchor.StatusCompleted, anchor.StatusCancelled}}, []string{"completed", "cancelled"}},
			{anchor.TaskQuery{Status: []anchor.Status{anchor.StatusPending}, Queue: "slow", Name: "Wait"}, []string{"ready", "scheduled"}},
			{anchor.TaskQuery{Before: ids["failed"]}, []string{"completed"}},
			{anchor.TaskQuery{Limit: 1}, []string{"elsewhere"}},
			{anchor.TaskQuery{Before: 1}, nil},
		} {
			var want []int64
			for _, name := range c.want {
				want = append(want, ids[name])
			}
			slices.Sort(want)
			slices.Reverse(want)
			wantTasks(t, client, c.query, want...)
		}
	})
}

func TestTasksPages(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		ids, err := task.RunMany(t.Context(), client, slices.Repeat([]*letter{{}}, 250))
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(ids)
		wantTasks(t, client, anchor.TaskQuery{}, ids[:100]...)
		wantTasks(t, client, anchor.TaskQuery{Limit: 10_000}, ids...)

		var got []int64
		query := anchor.TaskQuery{Limit: 60}
		for {
			page, err := client.Tasks(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				if page == nil {
					t.Error("the page behind the last is nil, want an empty one")
				}
				break
			}
			for _, info := range page {
				got = append(got, info.ID)
			}
			query.Before = got[len(got)-1]
			mustRun(t, client, task, letter{}) // what comes meanwhile shifts nothing
		}
		if diff := cmp.Diff(ids, got); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
	})
}

func TestTasksRefuses(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, _ := newLetters(t, store)
		_, err := client.Tasks(t.Context(), anchor.TaskQuery{
			Status: []anchor.Status{"done"}, Name: "\x00", Queue: "\xff", Before: -1, Limit: 10_001,
		})
		wantText(t, err, "task query", `status "done"`, "name holds a NUL", "queue is not valid UTF-8", "limit 10001", "before -1")
		_, err = client.Tasks(t.Context(), anchor.TaskQuery{Limit: -1})
		wantText(t, err, "limit -1 is not between 1 and 10000, nor 0 for 100")
	})
}

func TestTask(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, ids := populate(t, store)
		for _, unknown := range []int64{0, -1, 1 << 60} {
			if _, err := client.Task(t.Context(), unknown); err == nil {
				t.Errorf("there is a task %d", unknown)
			} else {
				wantIs(t, err, anchor.ErrTaskNotFound)
			}
		}
		info := mustTask(t, client, ids["failed"])
		if info.Status != anchor.StatusFailed || info.Attempts != 1 || info.WorkerID == "" || info.StartedAt.IsZero() || info.FinishedAt.Before(info.StartedAt) {
			t.Errorf("the failed task is %+v", info)
		}
		want := []anchor.AttemptError{{Attempt: 1, Message: context.DeadlineExceeded.Error()}}
		if diff := cmp.Diff(want, info.Errors, cmpopts.IgnoreFields(anchor.AttemptError{}, "At")); diff != "" {
			t.Errorf("errors (-want +got):\n%s", diff)
		}
		if info := mustTask(t, client, ids["cancelled"]); info.Attempts != 0 || !info.StartedAt.IsZero() || info.FinishedAt.IsZero() {
			t.Errorf("the cancelled task is %+v", info)
		}
	})
}

func TestStats(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, _ := newLetters(t, store)
		stats, err := client.Stats(t.Context())
		if err != nil || len(stats.Queues) != 0 {
			t.Errorf("an empty store has %v, error %v", stats, err)
		}

		client, _ = populate(t, store)
		for _, queue := range []string{"other", "bare"} {
			if err := client.PauseQueue(t.Context(), queue); err != nil {
				t.Fatal(err)
			}
		}
		stats, err = client.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []anchor.QueueStats{
			{Queue: "bare", Paused: true},
			{Queue: "default", Failed: 1},
			{Queue: "other", Paused: true, Ready: 1},
			{Queue: "slow", Ready: 1, Scheduled: 1},
		}
		if diff := cmp.Diff(want, stats.Queues, cmpopts.IgnoreFields(anchor.QueueStats{}, "OldestReady", "PausedSince")); diff != "" {
			t.Errorf("queues (-want +got):\n%s", diff)
		}
		for _, queue := range stats.Queues {
			if (queue.OldestReady > 0) != (queue.Ready > 0) || queue.OldestReady > patience {
				t.Errorf("queue %s: the oldest of %d ready is %v old", queue.Queue, queue.Ready, queue.OldestReady)
			}
		}
	})
}

func TestWait(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, ids := populate(t, store)
		for _, status := range []anchor.Status{anchor.StatusCompleted, anchor.StatusFailed, anchor.StatusCancelled} {
			if info := mustWait(t, client, ids[string(status)]); info.Status != status {
				t.Errorf("status %q, want %q", info.Status, status)
			}
		}
		_, err := client.Wait(t.Context(), 1<<60)
		wantIs(t, err, anchor.ErrTaskNotFound)

		for _, c := range []struct {
			name string
			end  func() (context.Context, context.CancelFunc)
			want error
		}{
			{"over", func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(t.Context(), 20*time.Millisecond)
			}, context.DeadlineExceeded},
			{"ended before", func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				return ctx, cancel
			}, context.Canceled},
		} {
			ctx, cancel := c.end()
			info, err := client.Wait(ctx, ids["scheduled"])
			cancel()
			if info != nil {
				t.Errorf("%s: answered %+v", c.name, info)
			}
			wantIs(t, err, c.want)
		}
	})
}
