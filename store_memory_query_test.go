package anchor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (f *memoryFixture) statsOf(queue string) QueueStats {
	f.t.Helper()
	stats, err := f.store.stats(f.t.Context())
	must(f.t, err)
	for _, q := range stats.Queues {
		if q.Queue == queue {
			return q
		}
	}
	return QueueStats{Queue: queue}
}

func TestMemoryStoreTasks(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	f.enqueue()                                  // 1
	f.enqueue(named("b"))                        // 2
	f.enqueue(inQueue("mail"))                   // 3
	f.enqueue(tagged("t", UniqueForever))        // 4
	f.enqueue(inQueue("mail"), after(time.Hour)) // 5
	must(t, f.store.cancel(t.Context(), nil, 1))
	for _, test := range []struct {
		name  string
		query TaskQuery
		want  []int64
	}{
		{"all", TaskQuery{}, []int64{5, 4, 3, 2, 1}},
		{"name", TaskQuery{Name: "b"}, []int64{2}},
		{"queue", TaskQuery{Queue: "mail"}, []int64{5, 3}},
		{"tag", TaskQuery{UniqueTag: "t"}, []int64{4}},
		{"status", TaskQuery{Status: []Status{StatusCancelled, StatusFailed}}, []int64{1}},
		{"first page", TaskQuery{Limit: 2}, []int64{5, 4}},
		{"next page", TaskQuery{Limit: 2, Before: 4}, []int64{3, 2}},
		{"before an id that is not there", TaskQuery{Before: 99}, []int64{5, 4, 3, 2, 1}},
		{"before the first", TaskQuery{Before: 1}, nil},
		{"none", TaskQuery{Name: "nobody"}, nil},
	} {
		page, err := f.store.tasks(t.Context(), test.query)
		must(t, err)
		if diff := cmp.Diff(test.want, infoIDs(page)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	_, err := f.store.task(t.Context(), 6)
	wantError(t, err, ErrTaskNotFound)
}

func TestMemoryStoreStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		paused := time.Now().Local()
		must(t, f.store.setPaused(t.Context(), "empty", true))
		f.enqueue(after(time.Minute), named("nobody"))
		f.enqueue(after(time.Hour))
		f.enqueue(inQueue("mail"))
		f.enqueue(inQueue("bulk"))
		f.enqueue(inQueue("done"))
		time.Sleep(90 * time.Second)
		for _, task := range f.claimAll(10) {
			switch task.queue {
			case "bulk":
				f.end(task, outcomeFailed)
			case "done":
				f.end(task, outcomeCompleted)
			}
		}
		stats, err := f.store.stats(t.Context())
		must(t, err)
		want := &Stats{Queues: []QueueStats{
			{Queue: "bulk", Failed: 1},
			{Queue: "default", Ready: 1, Scheduled: 1, OldestReady: 30 * time.Second},
			{Queue: "empty", Paused: true, PausedSince: paused},
			{Queue: "mail", Running: 1},
		}}
		if diff := cmp.Diff(want, stats); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}
