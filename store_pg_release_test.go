package anchor

import (
	"context"
	"testing"
	"time"
)

// What a worker gives back stands where others may have passed: they are told of its queue.
func TestWhatIsGivenBackIsToldToOthers(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.exec("insert into anchor_tasks (name, queue, spec) values ('Claimed', 'more', '{}')")
	giver, other := r.session(), r.session()
	tasks := r.claim(giver, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, want := range []wakeup{{}, {queue: "more"}} {
		select {
		case got := <-other.wakeups():
			if got != want {
				t.Fatalf("it was told %+v, want %+v", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("it was not told %+v", want)
		}
		if want.queue == "" { // it listens
			r.finish(giver, outcomeReleased, tasks...)
		}
	}
}
