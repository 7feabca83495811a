package anchor

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (f *memoryFixture) wantHeard(want ...wakeup) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.heard(), cmp.AllowUnexported(wakeup{})); diff != "" {
		f.t.Errorf("wakeups (-want +got):\n%s", diff)
	}
}

func TestMemoryWakeups(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	f.enqueue()
	f.enqueue()
	f.enqueue(inQueue("mail"))
	f.enqueue(named("nobody"), inQueue("other"))
	f.wantHeard(wakeup{queue: "default"}, wakeup{queue: "mail"})
	f.enqueue(inQueue("mail"))
	f.wantHeard(wakeup{queue: "mail"})
	must(t, f.store.setPaused(t.Context(), "mail", true))
	f.enqueue(inQueue("mail"))
	f.wantHeard()
}

func TestMemoryWakeupsNeverBlock(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue()
	f.claimOne(id)
	for i := range 2 * memoryHints {
		f.enqueue(inQueue(fmt.Sprint(i)))
	}
	must(t, f.store.cancel(t.Context(), nil, id))
	heard := f.heard()
	if last := heard[len(heard)-1]; last.cancelled != id {
		t.Errorf("the last of %d wakeups is %v, want the cancellation", len(heard), last)
	}
}

func TestMemoryWakesWhenTasksFallDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		start := time.Now()
		f.enqueue(after(time.Hour), inQueue("hour"))
		f.enqueue(after(time.Minute), inQueue("minute"))
		f.end(f.claimOne(f.enqueue(inQueue("retry"))), outcomeRetried, func(e *finishedAttempt) { e.after = time.Second })
		f.enqueue(after(time.Millisecond), named("nobody"))
		f.heard()
		late := f.open("late")
		for _, want := range []struct {
			queue string
			after time.Duration
		}{{"retry", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}} {
			for _, s := range []*memorySession{f.memorySession, late} {
				if got := <-s.wakeups(); got.queue != want.queue || time.Since(start) != want.after {
					t.Errorf("%q fell due after %v, want %q after %v", got.queue, time.Since(start), want.queue, want.after)
				}
			}
			if claimed := f.claimAll(1); len(claimed) != 1 {
				t.Errorf("%q fell due and is not claimed", want.queue)
			}
		}
	})
}

func TestMemoryCloseStopsTheTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		f.enqueue(after(time.Second))
		must(t, f.close(t.Context()))
		f.enqueue(after(time.Second))
		time.Sleep(time.Minute)
		f.wantHeard()
		if n := len(f.store.sessions) + len(f.store.workers); n != 0 {
			t.Errorf("%d sessions and workers are left", n)
		}
	})
}
