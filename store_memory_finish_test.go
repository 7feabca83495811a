package anchor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestMemoryFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		type state struct {
			Status           Status
			Attempts         int
			NextRun          time.Time
			Finished, Worker bool
			Messages         []string
		}
		for _, test := range []struct {
			name      string
			cancelled bool
			ended     finishedAttempt
			want      state
		}{
			{"completed", false, finishedAttempt{outcome: outcomeCompleted}, state{StatusCompleted, 1, now, true, true, nil}},
			{"retried", false, finishedAttempt{outcome: outcomeRetried, message: "m", after: time.Minute}, state{StatusPending, 1, now.Add(time.Minute), false, false, []string{"m"}}},
			{"failed", false, finishedAttempt{outcome: outcomeFailed, message: "m\x00"}, state{StatusFailed, 1, now, true, true, []string{"m\uFFFD"}}},
			{"released", false, finishedAttempt{outcome: outcomeReleased}, state{StatusPending, 0, now, false, false, nil}},
			{"cancelled", true, finishedAttempt{outcome: outcomeCancelled, message: "m"}, state{StatusCancelled, 1, now, true, true, []string{"m"}}},
			{"completed though cancelled", true, finishedAttempt{outcome: outcomeCompleted}, state{StatusCompleted, 1, now, true, true, nil}},
			{"retried though cancelled", true, finishedAttempt{outcome: outcomeRetried, message: "m"}, state{StatusCancelled, 1, now, true, true, []string{"m"}}},
			{"released though cancelled", true, finishedAttempt{outcome: outcomeReleased}, state{StatusCancelled, 0, now, true, true, nil}},
			{"failed though cancelled", true, finishedAttempt{outcome: outcomeFailed, message: "m"}, state{StatusFailed, 1, now, true, true, []string{"m"}}},
		} {
			f := newMemoryFixture(t)
			id := f.enqueue()
			test.ended.task = f.claimOne(id)
			if test.cancelled {
				must(t, f.store.cancel(t.Context(), nil, id))
			}
			other := *test.ended.task
			other.token++
			lost, err := f.finish(t.Context(), []finishedAttempt{{task: &other}, test.ended, test.ended})
			must(t, err)
			if diff := cmp.Diff([]int64{id, id}, lost); diff != "" {
				t.Errorf("%s: lost (-want +got):\n%s", test.name, diff)
			}
			info := f.info(id)
			got := state{info.Status, info.Attempts, info.NextRun, !info.FinishedAt.IsZero(), info.WorkerID != "", nil}
			for _, e := range info.Errors {
				got.Messages = append(got.Messages, e.Message)
				if e.Attempt != 1 || !e.At.Equal(now) {
					t.Errorf("%s: error of attempt %d at %v", test.name, e.Attempt, e.At)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
			if running := f.statsOf("default").Running; running != 0 {
				t.Errorf("%s: %d are running", test.name, running)
			}
			must(t, f.close(t.Context()))
		}
	})
}

func TestMemoryFail(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	task := f.claimOne(id)
	must(t, f.fail(t.Context(), task, strings.Repeat("x", maxMessage+1), time.Second, nil))
	f.wantStatus(id, StatusFailed)
	f.wantMessages(id, strings.Repeat("x", maxMessage))
	wantError(t, f.fail(t.Context(), task, "again", time.Second, nil), ErrClaimLost)
}

func TestMemoryFailWithHook(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue(tagged("t", UniqueWhileLive))
	task := f.claimOne(id)
	var successor int64
	err := f.fail(t.Context(), task, "broken", time.Second, func(ctx context.Context, tx pgx.Tx) error {
		wantError(t, tx.Commit(ctx), errHandlerTx)
		f.wantStatus(id, StatusRunning)
		successor = f.enqueueTx(tx, tagged("t", UniqueWhileLive)) // the failure frees the tag
		_, err := f.store.task(ctx, successor)
		wantError(t, err, ErrTaskNotFound)
		return nil
	})
	must(t, err)
	f.wantStatus(id, StatusFailed)
	f.wantMessages(id, "broken")
	f.wantStatus(successor, StatusPending)
	f.wantHeld("t", successor)
}

func TestMemoryFailWithFailingHook(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue(tagged("t", UniqueWhileLive))
	task := f.claimOne(id)
	must(t, f.fail(t.Context(), task, "broken", time.Second, func(_ context.Context, tx pgx.Tx) error {
		f.enqueueTx(tx, tagged("t", UniqueWhileLive))
		f.enqueueTx(tx, tagged("u", UniqueWhileLive))
		return errors.New("no mail")
	}))
	f.wantStatus(id, StatusFailed)
	f.wantMessages(id, "broken", "failure hook: no mail")
	all, err := f.store.tasks(t.Context(), TaskQuery{})
	must(t, err)
	if len(all) != 1 {
		t.Errorf("%d tasks, want 1", len(all))
	}
	f.enqueue(tagged("t", UniqueForever))
	f.enqueue(tagged("u", UniqueForever))
}

func TestMemoryFailWithHookThatLosesItsClaim(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue(tagged("t", UniqueWhileLive))
	task := f.claimOne(id)
	wantError(t, f.fail(t.Context(), task, "broken", time.Second, func(_ context.Context, tx pgx.Tx) error {
		f.enqueueTx(tx, tagged("u", UniqueForever))
		f.end(task, outcomeRetried)
		return nil
	}), ErrClaimLost)
	f.wantStatus(id, StatusPending)
	f.wantMessages(id)
	f.wantHeld("t", id)
	f.enqueue(tagged("u", UniqueForever))

	wantError(t, f.fail(t.Context(), task, "again", time.Second, func(context.Context, pgx.Tx) error {
		t.Error("the hook of a lost claim is called")
		return nil
	}), ErrClaimLost)
}

func TestMemoryFailWithHookDuringWhichItsTaskEnds(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue(tagged("t", UniqueWhileLive))
	task := f.claimOne(id)
	wantError(t, f.fail(t.Context(), task, "broken", time.Second, func(context.Context, pgx.Tx) error {
		f.end(task, outcomeCompleted)
		return nil
	}), ErrClaimLost)
	f.wantStatus(id, StatusCompleted)
	if n := len(f.store.tags); n != 0 {
		t.Errorf("%d tags are held, want 0", n)
	}
}

func TestMemoryFailWithPanickingHook(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	task := f.claimOne(id)
	func() {
		defer func() { _ = recover() }()
		_ = f.fail(t.Context(), task, "broken", time.Second, func(_ context.Context, tx pgx.Tx) error {
			f.enqueueTx(tx, tagged("t", UniqueForever))
			panic("hook")
		})
	}()
	f.wantStatus(id, StatusRunning)
	f.enqueue(tagged("t", UniqueForever))
}

func TestMemoryAttemptTx(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	victim := f.enqueue(after(time.Hour))
	attempt := f.memorySession.begin(f.claimOne(id), time.Second)
	tx := attempt.handler()
	wantError(t, tx.Commit(t.Context()), errHandlerTx)
	wantError(t, tx.Rollback(t.Context()), errHandlerTx)
	child := f.enqueueTx(tx)
	must(t, f.store.cancel(t.Context(), tx, victim))
	must(t, f.store.cancel(t.Context(), tx, id)) // completes nevertheless
	if attempt.endUnused() {
		t.Error("unused after an enqueue")
	}
	f.wantStatus(victim, StatusPending)
	f.heard()
	must(t, attempt.complete(t.Context()))
	attempt.abandon()
	f.wantStatus(id, StatusCompleted)
	f.wantStatus(child, StatusPending)
	f.wantStatus(victim, StatusCancelled)
	if diff := cmp.Diff([]wakeup{{queue: "default"}}, f.heard(), cmp.AllowUnexported(wakeup{})); diff != "" {
		t.Errorf("wakeups (-want +got):\n%s", diff)
	}
	wantError(t, f.store.enqueueTx(t.Context(), tx, []*newTask{newTestTask()}), errHandlerTxOver)
	wantError(t, attempt.complete(t.Context()), errHandlerTxOver)
}

func TestMemoryAttemptTxOfLostClaim(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	task := f.claimOne(id)
	attempt := f.memorySession.begin(task, time.Second)
	child := f.enqueueTx(attempt.handler(), tagged("t", UniqueForever))
	f.end(task, outcomeRetried)
	wantError(t, attempt.complete(t.Context()), ErrClaimLost)
	f.wantStatus(id, StatusPending)
	_, err := f.store.task(t.Context(), child)
	wantError(t, err, ErrTaskNotFound)
	f.enqueue(tagged("t", UniqueForever))
}

func TestMemoryAttemptTxAbandoned(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	victim := f.enqueue(after(time.Hour))
	attempt := f.memorySession.begin(f.claimOne(id), time.Second)
	f.enqueueTx(attempt.handler(), tagged("t", UniqueForever))
	must(t, f.store.cancel(t.Context(), attempt.handler(), victim))
	attempt.sever()
	attempt.abandon()
	f.wantStatus(id, StatusRunning)
	f.wantStatus(victim, StatusPending)
	f.enqueue(tagged("t", UniqueForever))
	wantError(t, attempt.complete(t.Context()), errHandlerTxOver)
}

func TestMemoryFailWithStuckHook(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	task := f.claimOne(id)
	var hookTx pgx.Tx
	wantError(t, f.fail(t.Context(), task, "broken", time.Second, func(_ context.Context, tx pgx.Tx) error {
		hookTx = tx
		f.enqueueTx(tx, tagged("t", UniqueForever))
		return errHookStuck
	}), errHookStuck)
	f.wantStatus(id, StatusRunning)
	f.enqueue(tagged("t", UniqueForever))
	_, err := hookTx.Exec(t.Context(), "select 1")
	wantError(t, err, errHandlerTxOver)
	must(t, f.fail(t.Context(), task, "broken", time.Second, nil))
	f.wantMessages(id, "broken")
}
