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
