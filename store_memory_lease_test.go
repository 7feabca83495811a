package anchor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMemoryTakeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		again := f.enqueue()
		last := f.enqueue(withMax(1), named("b"))
		unknown := f.enqueue(withMax(1))
		cancelled := f.enqueue()
		dead := f.open("dead")
		claims := f.claimBy(dead, 10)
		must(t, f.store.cancel(t.Context(), nil, cancelled))

		time.Sleep(testLease - time.Nanosecond)
		_, err := renew(t.Context(), f.memorySession, false)
		must(t, err)
		taken, err := f.takeBack(t.Context(), []string{"b"}, 10)
		must(t, err)
		if taken.count != 0 {
			t.Errorf("%d tasks were taken within the lease", taken.count)
		}

		time.Sleep(time.Nanosecond)
		_, err = dead.claim(t.Context(), claimRequest{names: []string{"a"}, limit: 1})
		wantError(t, err, ErrClaimLost)
		taken, err = dead.takeBack(t.Context(), nil, 10)
		must(t, err)
		if taken.count != 0 {
			t.Errorf("a dead worker took %d tasks", taken.count)
		}
		taken, err = f.takeBack(t.Context(), []string{"b"}, 10)
		must(t, err)
		if diff := cmp.Diff([]int64{last}, claimedIDs(taken.exhausted)); diff != "" || taken.count != 3 {
			t.Errorf("count %d, exhausted (-want +got):\n%s", taken.count, diff)
		}
		const message = "anchor: the worker on host (process 42) stopped responding, this attempt is lost"
		f.wantStatus(again, StatusPending)
		f.wantMessages(again, message)
		if info := f.info(again); info.Attempts != 1 || info.WorkerID != "" || !info.NextRun.Equal(time.Now()) {
			t.Errorf("taken back: %+v", info)
		}
		f.wantStatus(cancelled, StatusCancelled)
		f.wantMessages(cancelled, message)
		f.wantStatus(unknown, StatusRunning)
		if info := f.info(last); info.Status != StatusRunning || info.Attempts != 1 || info.WorkerID != "w1" || info.Errors != nil || !taken.exhausted[0].exhausted {
			t.Errorf("exhausted: %+v", info)
		}

		beat, err := renew(t.Context(), dead, false)
		must(t, err)
		if beat.workerID == "dead" || beat.cancelled != nil {
			t.Errorf("the dead worker goes on: %+v", beat)
		}
		ended := make([]finishedAttempt, len(claims))
		for i, task := range claims {
			ended[i] = finishedAttempt{task: task, outcome: outcomeReleased}
		}
		lost, err := dead.finish(t.Context(), ended)
		must(t, err)
		if diff := cmp.Diff([]int64{again, last, cancelled}, lost); diff != "" {
			t.Errorf("lost (-want +got):\n%s", diff)
		}

		f.end(taken.exhausted[0], outcomeReleased) // an attempt that did start cannot be given back
		f.wantStatus(last, StatusRunning)
		must(t, f.fail(t.Context(), taken.exhausted[0], message, time.Second, nil))
		f.wantStatus(last, StatusFailed)
	})
}

func TestMemoryTakeBackFromAClosedSession(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	left := []int64{f.enqueue(), f.enqueue(), f.enqueue()}
	ended := f.open("ended")
	f.claimBy(ended, 10)
	must(t, ended.close(t.Context()))
	must(t, ended.close(t.Context()))
	_, err := ended.claim(t.Context(), claimRequest{names: []string{"a"}, limit: 1})
	wantError(t, err, ErrClaimLost)
	for want := 2; want > 0; want-- { // by a limit of 2: 2, then 1
		taken, err := f.takeBack(t.Context(), nil, 2)
		must(t, err)
		if taken.count != want {
			t.Errorf("%d tasks were taken, want %d", taken.count, want)
		}
	}
	for _, id := range left {
		f.wantStatus(id, StatusPending)
	}
	if n := len(f.store.workers); n != 1 {
		t.Errorf("%d workers are remembered, want 1", n)
	}
}

func TestMemoryHeartbeatGoesOnAsANewWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		id := f.enqueue()
		old := f.claimOne(id)
		time.Sleep(testLease)
		_, err := f.claim(t.Context(), claimRequest{names: []string{"a"}, limit: 1})
		wantError(t, err, ErrClaimLost)
		beat, err := renew(t.Context(), f.memorySession, false)
		must(t, err)
		again, err := renew(t.Context(), f.memorySession, false)
		must(t, err)
		if beat.workerID == "w1" || beat.workerID != again.workerID {
			t.Errorf("worker %q after the lease was over, then %q", beat.workerID, again.workerID)
		}
		taken, err := f.takeBack(t.Context(), nil, 10)
		must(t, err)
		if taken.count != 1 {
			t.Errorf("took %d tasks of its own past, want 1", taken.count)
		}
		if task := f.claimOne(id); task.workerID != beat.workerID {
			t.Errorf("claimed by %q, want %q", task.workerID, beat.workerID)
		}
		lost, err := f.finish(t.Context(), []finishedAttempt{{task: old}})
		must(t, err)
		if diff := cmp.Diff([]int64{id}, lost); diff != "" {
			t.Errorf("lost (-want +got):\n%s", diff)
		}
		if n := len(f.store.workers); n != 1 {
			t.Errorf("%d workers are remembered, want 1", n)
		}
	})
}
