package anchor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestMemoryStoreEnqueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		now := time.Now()
		params := []byte(`{"n":1}`)
		tasks := []*newTask{
			{name: "a", queue: "mail", priority: -5, maxAttempts: 3, params: params, delay: time.Minute, attributes: []byte(`{"scheduledFor":"2020-01-02T03:04:05Z"}`)},
			{name: "b", queue: "default", maxAttempts: unlimitedAttempts, params: []byte(`{}`), tag: "t"},
		}
		must(t, f.store.Migrate(t.Context()))
		must(t, f.store.enqueue(t.Context(), tasks))
		params[2] = 'X'
		want := []*TaskInfo{
			{
				ID: 1, Name: "a", Queue: "mail", Priority: -5, Status: StatusPending, MaxAttempts: 3, Params: []byte(`{"n":1}`),
				CreatedAt: now, NextRun: now.Add(time.Minute), ScheduledFor: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC),
			},
			{ID: 2, Name: "b", Queue: "default", Status: StatusPending, MaxAttempts: -1, Params: []byte(`{}`), UniqueTag: "t", CreatedAt: now, NextRun: now},
		}
		if diff := cmp.Diff(want, []*TaskInfo{f.info(1), f.info(2)}); diff != "" {
			t.Errorf("tasks (-want +got):\n%s", diff)
		}
		if tasks[0].id != 1 || tasks[1].id != 2 {
			t.Errorf("ids %d and %d, want 1 and 2", tasks[0].id, tasks[1].id)
		}
		f.info(1).Params[0] = 'X'
		if got := string(f.info(1).Params); got != `{"n":1}` {
			t.Errorf("a reader changed the parameters to %s", got)
		}
	})
}

func TestMemoryStoreStartAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		now := time.Now()
		far := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
		for _, test := range []struct {
			name          string
			startAt, want time.Time
		}{
			{"the past is now", now.Add(-time.Hour), now},
			{"the far past is now", time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), now},
			{"the future", now.Add(time.Hour).UTC().Round(0), now.Add(time.Hour)},
			{"the far future", far, far},
		} {
			if got := f.info(f.enqueue(startingAt(test.startAt))).NextRun; !got.Equal(test.want) {
				t.Errorf("%s: due at %v, want %v", test.name, got, test.want)
			}
		}
		if n := len(f.claimAll(10)); n != 2 {
			t.Errorf("%d tasks are due, want 2", n)
		}
	})
}

func TestMemoryStoreRefusesEndedContext(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Migrate":     func() error { return f.store.Migrate(ended) },
		"Begin":       func() error { _, err := f.store.Begin(ended); return err },
		"enqueue":     func() error { return f.store.enqueue(ended, []*newTask{newTestTask()}) },
		"cancel":      func() error { return f.store.cancel(ended, nil, 1) },
		"retry":       func() error { return f.store.retry(ended, 1) },
		"releaseTag":  func() error { return f.store.releaseTag(ended, "t") },
		"setPaused":   func() error { return f.store.setPaused(ended, "q", true) },
		"task":        func() error { _, err := f.store.task(ended, 1); return err },
		"tasks":       func() error { _, err := f.store.tasks(ended, TaskQuery{}); return err },
		"stats":       func() error { _, err := f.store.stats(ended); return err },
		"openSession": func() error { _, err := f.store.openSession(ended, workerRecord{}); return err },
		"heartbeat":   func() error { _, err := renew(ended, f.memorySession, false); return err },
		"claim":       func() error { _, err := f.claim(ended, claimRequest{}); return err },
		"finish":      func() error { _, err := f.finish(ended, nil); return err },
		"takeBack":    func() error { _, err := f.takeBack(ended, nil, 1); return err },
		"prune":       func() error { return f.prune(ended) },
	} {
		if err := call(); err != context.Canceled {
			t.Errorf("%s: error %v, want %v", name, err, context.Canceled)
		}
	}
}

func TestMemoryStoreCancelPending(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	must(t, f.store.cancel(t.Context(), nil, id))
	f.wantStatus(id, StatusCancelled)
	if f.info(id).FinishedAt.IsZero() {
		t.Error("FinishedAt is zero")
	}
	if claimed := f.claimAll(1); len(claimed) > 0 {
		t.Errorf("claimed %v after cancel", claimedIDs(claimed))
	}
	wantError(t, f.store.cancel(t.Context(), nil, id), ErrTaskNotCancellable)
	wantError(t, f.store.cancel(t.Context(), nil, 99), ErrTaskNotFound)
}

func TestMemoryStoreCancelRunning(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	task := f.claimOne(id)
	f.heard()
	must(t, f.store.cancel(t.Context(), nil, id))
	if diff := cmp.Diff([]wakeup{{cancelled: id}}, f.heard(), cmp.AllowUnexported(wakeup{})); diff != "" {
		t.Errorf("wakeups (-want +got):\n%s", diff)
	}
	f.wantStatus(id, StatusRunning)
	beat, err := renew(t.Context(), f.memorySession, false)
	must(t, err)
	if diff := cmp.Diff(heartbeat{workerID: "w1", cancelled: []int64{id}}, beat, cmp.AllowUnexported(heartbeat{})); diff != "" {
		t.Errorf("heartbeat (-want +got):\n%s", diff)
	}
	f.end(task, outcomeCancelled, func(e *finishedAttempt) { e.message = "stopped" })
	f.wantStatus(id, StatusCancelled)
	f.wantMessages(id, "stopped")
}

func TestMemoryStoreRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		id := f.enqueue(tagged("t", UniqueWhileLive))
		wantError(t, f.store.retry(t.Context(), id), ErrTaskNotRetryable)
		wantError(t, f.store.retry(t.Context(), 99), ErrTaskNotFound)
		f.end(f.claimOne(id), outcomeFailed, func(e *finishedAttempt) { e.message = "broken" })
		time.Sleep(time.Minute)
		must(t, f.store.retry(t.Context(), id))
		info := f.info(id)
		if info.Status != StatusPending || info.Attempts != 0 || !info.NextRun.Equal(time.Now()) || !info.FinishedAt.IsZero() {
			t.Errorf("after retry: %+v", info)
		}
		f.wantMessages(id, "broken")
		f.wantHeld("t", id)
		f.end(f.claimOne(id), outcomeFailed)
		other := f.enqueue(tagged("t", UniqueForever))
		wantExists(t, f.store.retry(t.Context(), id), "t", other)
		f.wantStatus(id, StatusFailed)
		if got := f.statsOf("default").Failed; got != 1 {
			t.Errorf("%d failed, want 1", got)
		}
	})
}

func TestMemoryStorePause(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	must(t, f.store.setPaused(t.Context(), "mail", true))
	f.enqueue(inQueue("mail"))
	id := f.enqueue()
	f.claimOne(id)
	if claimed := f.claimAll(1); len(claimed) > 0 {
		t.Errorf("claimed %v of a paused queue", claimedIDs(claimed))
	}
	f.heard()
	must(t, f.store.setPaused(t.Context(), "mail", false))
	if diff := cmp.Diff([]wakeup{{queue: "mail"}}, f.heard(), cmp.AllowUnexported(wakeup{})); diff != "" {
		t.Errorf("wakeups (-want +got):\n%s", diff)
	}
	if claimed := f.claimAll(1); len(claimed) != 1 {
		t.Error("nothing is claimed after the pause")
	}
}

func TestMemoryStoreRefusesForeignTransactions(t *testing.T) {
	t.Parallel()
	f, other := newMemoryFixture(t), newMemoryFixture(t)
	for name, tx := range map[string]pgx.Tx{
		"nil": nil, "nil transaction": (*memoryTx)(nil), "pgx": foreignTx{}, "other store": other.begin(),
	} {
		if err := f.store.enqueueTx(t.Context(), tx, []*newTask{newTestTask()}); err == nil {
			t.Errorf("enqueueTx with %s: no error", name)
		}
		if tx == nil {
			continue
		}
		if err := f.store.cancel(t.Context(), tx, 1); err == nil {
			t.Errorf("cancel with %s: no error", name)
		}
	}
}

type foreignTx struct{ pgx.Tx }
