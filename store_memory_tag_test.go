package anchor

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryTagForever(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	id := f.enqueue(tagged("t", UniqueForever))
	f.wantHeld("t", id)
	f.end(f.claimOne(id), outcomeCompleted)
	f.wantHeld("t", id)
	must(t, f.store.releaseTag(t.Context(), "t"))
	must(t, f.store.releaseTag(t.Context(), "t"))
	next := f.enqueue(tagged("t", UniqueForever))
	f.wantHeld("t", next)
}

func TestMemoryTagWhileLive(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(f *memoryFixture, id int64)
		free bool
	}{
		{"pending", func(*memoryFixture, int64) {}, false},
		{"running", func(f *memoryFixture, id int64) { f.claimOne(id) }, false},
		{"retried", func(f *memoryFixture, id int64) { f.end(f.claimOne(id), outcomeRetried) }, false},
		{"completed", func(f *memoryFixture, id int64) { f.end(f.claimOne(id), outcomeCompleted) }, true},
		{"failed", func(f *memoryFixture, id int64) { f.end(f.claimOne(id), outcomeFailed) }, true},
		{"cancelled", func(f *memoryFixture, id int64) { must(f.t, f.store.cancel(f.t.Context(), nil, id)) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newMemoryFixture(t)
			id := f.enqueue(tagged("t", UniqueWhileLive))
			test.end(f, id)
			if test.free {
				f.enqueue(tagged("t", UniqueWhileLive))
			} else {
				f.wantHeld("t", id)
			}
		})
	}
}

func TestMemoryTagFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		id := f.enqueue(tagged("t", UniqueFor(time.Hour)))
		f.end(f.claimOne(id), outcomeCompleted)
		time.Sleep(time.Hour - 1)
		f.wantHeld("t", id)
		time.Sleep(time.Nanosecond)
		second := f.enqueue(tagged("t", UniqueFor(time.Hour)))
		task := f.claimOne(second)
		time.Sleep(2 * time.Hour)
		f.wantHeld("t", second) // it is live
		f.end(task, outcomeCompleted)
		f.enqueue(tagged("t", UniqueForever))
	})
}

func TestMemoryTagReleasedWhileItsTaskLives(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	first := f.enqueue(tagged("t", UniqueWhileLive))
	must(t, f.store.releaseTag(t.Context(), "t"))
	second := f.enqueue(tagged("t", UniqueWhileLive))
	f.end(f.claimOne(first), outcomeCompleted)
	f.wantHeld("t", second)
}

func TestMemoryTagBulkIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	held := f.enqueue(tagged("held", UniqueForever))
	err := f.store.enqueue(t.Context(), []*newTask{newTestTask(tagged("new", UniqueForever)), newTestTask(), newTestTask(tagged("held", UniqueForever))})
	wantExists(t, err, "held", held)
	twice := []*newTask{newTestTask(tagged("new", UniqueForever)), newTestTask(tagged("new", UniqueForever))}
	wantExists(t, f.store.enqueue(t.Context(), twice), "new", twice[0].id)
	all, err := f.store.tasks(t.Context(), TaskQuery{})
	must(t, err)
	if len(all) != 1 {
		t.Errorf("%d tasks, want 1", len(all))
	}
	f.enqueue(tagged("new", UniqueForever))
}

func TestMemoryTagOutdatedAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		f.end(f.claimOne(f.enqueue(tagged("ended", UniqueFor(time.Hour)))), outcomeCompleted)
		live := f.enqueue(tagged("live", UniqueFor(time.Hour)), after(2*time.Hour))
		f.enqueue(tagged("later", UniqueFor(3*time.Hour)))
		time.Sleep(time.Hour)
		must(t, f.prune(t.Context()))
		if n := len(f.store.tags); n != 2 {
			t.Errorf("%d tags are remembered, want 2", n)
		}
		f.wantHeld("live", live)
	})
}
