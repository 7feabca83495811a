package anchor

import (
	"testing"
	"testing/synctest"
	"time"
)

// What was taken back to be failed has no attempt to give back: it waits until a slot is free.
func TestExhaustedTasksDoNotGetStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newIntake(1, func() {})
		in.put([]*claimedTask{
			{id: 1, attempt: 1, maxAttempts: 1}, {id: 2, exhausted: true}, {id: 3, attempt: 2, maxAttempts: 3}, {id: 4, exhausted: true},
		})
		if !in.crowded() {
			t.Error("four tasks wait for one slot, and more would be taken back")
		}
		time.Sleep(staleAfter + time.Millisecond)
		stale := in.stale()
		if len(stale) != 2 || stale[0].id != 1 || stale[1].id != 3 {
			t.Errorf("%d stale tasks, want the two that are not exhausted", len(stale))
		}
		for _, want := range []int64{2, 4} {
			if task := in.take(); task == nil || task.id != want {
				t.Errorf("took %+v, want task %d", task, want)
			}
		}
		if task := in.take(); task != nil {
			t.Errorf("took %+v after all", task)
		}
	})
}

// How fast tasks are started is not to be seen while there are none to start: a claim that takes long because the
// database is busy must not make the next one small.
func TestASlowClaimDoesNotSlowDownTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slots, perMillisecond = 10, 10
		in := newIntake(slots, func() {})
		work := func() {
			for in.take() != nil {
				time.Sleep(time.Millisecond / perMillisecond)
			}
			for range in.busy() {
				in.take()
			}
		}
		claim := func(n int) []*claimedTask {
			tasks := make([]*claimedTask, n)
			for i := range tasks {
				tasks[i] = &claimedTask{attempt: 1, maxAttempts: 3}
			}
			return tasks
		}
		in.put(claim(slots))
		want := slots + int(bufferAhead/time.Millisecond)*perMillisecond
		for round := range 5 {
			work()
			limit, _ := in.capacity()
			if round > 1 && (limit < want*9/10 || limit > want*11/10) {
				t.Errorf("round %d: a claim of %d, want about %d", round, limit, want)
			}
			time.Sleep(4 * bufferAhead) // the claim
			in.put(claim(limit))
		}
		work()
		time.Sleep(4 * bufferAhead) // nothing to do
		if limit, _ := in.capacity(); limit > want/2 {
			t.Errorf("after a rest a claim of %d, want less than half of %d", limit, want)
		}
	})
}
