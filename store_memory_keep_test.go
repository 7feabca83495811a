package anchor

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryKeeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		completed, failed, retried, cancelled, pending := f.enqueue(), f.enqueue(), f.enqueue(), f.enqueue(), f.enqueue(named("nobody"))
		tasks := f.claimAll(3)
		f.end(tasks[0], outcomeCompleted)
		f.end(tasks[1], outcomeFailed)
		f.end(tasks[2], outcomeFailed)
		must(t, f.store.cancel(t.Context(), nil, cancelled))

		time.Sleep(memoryKeepCompleted - 1)
		f.wantStatus(completed, StatusCompleted)
		time.Sleep(time.Nanosecond)
		must(t, f.prune(t.Context()))
		f.wantMissing(completed)
		must(t, f.store.retry(t.Context(), retried))
		f.end(f.claimOne(retried), outcomeFailed)

		time.Sleep(memoryKeepFailed - memoryKeepCompleted - 1)
		f.wantStatus(failed, StatusFailed)
		f.wantStatus(cancelled, StatusCancelled)
		time.Sleep(time.Nanosecond)
		f.wantMissing(failed) // a query prunes, too
		f.wantMissing(cancelled)
		f.wantStatus(retried, StatusFailed)
		if got := f.statsOf("default"); got.Failed != 1 || got.Ready != 1 {
			t.Errorf("stats %+v, want 1 failed and 1 ready", got)
		}
		f.wantStatus(pending, StatusPending)
	})
}

func TestMemoryKeepsABoundedNumberOfCompleted(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	const batch, batches = 1000, memoryCompletedAtMost/1000 + 3
	for range batches {
		tasks := make([]*newTask, batch)
		for i := range tasks {
			tasks[i] = newTestTask()
		}
		must(t, f.store.enqueue(t.Context(), tasks))
		ended := make([]finishedAttempt, 0, batch)
		for _, task := range f.claimAll(batch) {
			ended = append(ended, finishedAttempt{task: task})
		}
		if lost, err := f.finish(t.Context(), ended); err != nil || len(lost) > 0 {
			t.Fatalf("finish: lost %v, error %v", lost, err)
		}
	}
	f.wantMissing(batch*batches - memoryCompletedAtMost)
	f.wantStatus(batch*batches-memoryCompletedAtMost+1, StatusCompleted)
	if len(f.store.queues) != 0 || len(f.store.claims) != 0 || len(f.worker.held) != 0 {
		t.Error("a queue, a claim or a held task is left over")
	}
}

func TestMemoryIndexForgetsWhatIsRemoved(t *testing.T) {
	t.Parallel()
	var index taskIndex
	const last = 10_000
	for id := int64(1); id <= last; id++ {
		index.add(&memoryTask{id: id})
		if id%100 != 0 {
			index.remove(id)
			index.remove(id)
		}
	}
	if n := len(index.entries); n > 3*last/100 {
		t.Errorf("%d entries for %d tasks", n, last/100)
	}
	for id := int64(0); id <= last+1; id++ {
		found := index.find(id)
		if kept := id > 0 && id <= last && id%100 == 0; kept != (found != nil) || kept && found.id != id {
			t.Fatalf("task %d: found %v, kept %v", id, found, kept)
		}
	}
}
