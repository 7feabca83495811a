package anchor

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMemoryClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		enqueued := time.Now()
		id := f.enqueue(tagged("t", UniqueForever), inQueue("mail"), withPriority(7))
		time.Sleep(time.Second)
		claimed := f.claimOne(id)
		want := &claimedTask{
			id: id, token: claimed.token, name: "a", queue: "mail", priority: 7, attempt: 1, maxAttempts: 3, params: []byte(`{"n":1}`),
			tag: "t", createdAt: enqueued, nextRun: enqueued, startedAt: time.Now(), workerID: "w1",
		}
		if diff := gocmp.Diff(want, claimed, gocmp.AllowUnexported(claimedTask{})); diff != "" {
			t.Errorf("claimed (-want +got):\n%s", diff)
		}
		info := f.info(id)
		if info.Status != StatusRunning || info.Attempts != 1 || info.WorkerID != "w1" || !info.StartedAt.Equal(time.Now()) {
			t.Errorf("after the claim: %+v", info)
		}
		if again := f.claimAll(1); len(again) > 0 {
			t.Errorf("claimed %v again", claimedIDs(again))
		}
		f.end(claimed, outcomeRetried)
		if again := f.claimOne(id); again.token == claimed.token || again.attempt != 2 {
			t.Errorf("the second claim: token %d, attempt %d; the first: token %d", again.token, again.attempt, claimed.token)
		}
	})
}

func TestMemoryClaimOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		f.enqueue(withPriority(1))                        // 1
		f.enqueue(after(2 * time.Second))                 // 2
		f.enqueue(after(time.Second), named("b"))         // 3
		f.enqueue(after(time.Second))                     // 4
		f.enqueue(after(3*time.Second), withPriority(-1)) // 5
		f.enqueue(after(time.Hour), withPriority(-100))   // 6: not due
		f.enqueue(named("nobody"), withPriority(-100))    // 7: not wanted
		time.Sleep(10 * time.Second)
		var got []int64
		for range 3 {
			got = append(got, claimedIDs(f.claimAll(2))...)
		}
		if diff := gocmp.Diff([]int64{5, 3, 4, 2, 1}, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestMemoryClaimQueuesInTurn(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	for range 10 {
		f.enqueue(inQueue("a"))
	}
	f.enqueue(inQueue("b"))
	f.enqueue(inQueue("c"))
	f.enqueue(inQueue("c"))
	var turns []string
	for range 6 {
		for _, task := range f.claimAll(1) {
			turns = append(turns, task.queue)
		}
	}
	if diff := gocmp.Diff([]string{"a", "b", "c", "a", "c", "a"}, turns); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
}

func TestMemoryClaimAskedQueues(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	f.enqueue(inQueue("a"))
	want := []int64{f.enqueue(inQueue("b")), f.enqueue(inQueue("c"))}
	found, err := f.claim(t.Context(), claimRequest{names: []string{"a", "a"}, queues: []string{"c", "b", "c", "missing"}, limit: 10, firstHand: 10})
	claimed := found.tasks
	must(t, err)
	if diff := gocmp.Diff(want, claimedIDs(claimed)); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
}

func TestMemoryClaimFirstHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		retried := f.enqueue() // 1
		f.end(f.claimOne(retried), outcomeRetried)
		f.enqueue(withMax(1), withPriority(-1)) // 2
		f.enqueue()                             // 3
		f.enqueue()                             // 4
		for _, test := range []struct {
			firstHand int
			want      []int64
		}{
			{0, []int64{3, 4}},
			{1, []int64{2, 3, 4}},
			{2, []int64{2, 1, 3, 4}},
		} {
			found, err := f.claim(t.Context(), claimRequest{names: []string{"a"}, limit: 10, firstHand: test.firstHand})
			claimed := found.tasks
			must(t, err)
			if diff := gocmp.Diff(test.want, claimedIDs(claimed)); diff != "" {
				t.Errorf("first hand %d (-want +got):\n%s", test.firstHand, diff)
			}
			for _, task := range claimed {
				f.end(task, outcomeReleased)
			}
		}
	})
}

// TestMemoryClaimModel compares claims with a sorted list.
func TestMemoryClaimModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		f := newMemoryFixture(t)
		type entry struct {
			id       int64
			priority int16
			name     string
			start    time.Time
		}
		var model []entry
		base := time.Now().Add(-time.Hour)
		steps := rapid.IntRange(1, 60).Draw(r, "steps")
		for range steps {
			switch rapid.IntRange(0, 3).Draw(r, "step") {
			default:
				name := rapid.SampledFrom([]string{"a", "b", "nobody"}).Draw(r, "name")
				priority := rapid.Int16Range(-2, 2).Draw(r, "priority")
				id := f.enqueue(named(name), withPriority(priority))
				// enqueue never dates back, but a retried task is as old as it was
				start := base.Add(time.Duration(rapid.IntRange(0, 3).Draw(r, "start")) * time.Second)
				f.redate(id, start)
				model = append(model, entry{id, priority, name, start})
			case 2:
				if len(model) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(model)-1).Draw(r, "cancelled")
				must(t, f.store.cancel(t.Context(), nil, model[i].id))
				model = slices.Delete(model, i, i+1)
			case 3:
				limit := rapid.IntRange(1, 5).Draw(r, "limit")
				slices.SortFunc(model, func(a, b entry) int {
					return cmp.Or(cmp.Compare(a.priority, b.priority), a.start.Compare(b.start), cmp.Compare(a.id, b.id))
				})
				var want []int64
				model = slices.DeleteFunc(model, func(e entry) bool {
					if e.name == "nobody" || len(want) == limit {
						return false
					}
					want = append(want, e.id)
					return true
				})
				if diff := gocmp.Diff(want, claimedIDs(f.claimAll(limit))); diff != "" {
					r.Fatalf("claimed (-want +got):\n%s", diff)
				}
			}
			if q := f.statsOf("default"); int(q.Ready) != len(model) {
				r.Fatalf("%d ready, want %d", q.Ready, len(model))
			}
		}
	})
}

func (f *memoryFixture) redate(id int64, at time.Time) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	t := f.store.index.find(id)
	q := f.store.queue(t.queue)
	q.remove(t)
	t.nextRun = at
	q.push(t, time.Now())
}

func BenchmarkMemoryStore(b *testing.B) {
	for _, backlog := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("backlog=%d", backlog), func(b *testing.B) {
			store := NewMemoryStore()
			fill := func(n int, name string) {
				tasks := make([]*newTask, n)
				for i := range tasks {
					tasks[i] = newTestTask(named(name), withPriority(int16(i%7)))
				}
				if err := store.enqueue(b.Context(), tasks); err != nil {
					b.Fatal(err)
				}
			}
			fill(backlog/2, "a")
			fill(backlog/2, "nobody")
			opened, err := store.openSession(b.Context(), workerRecord{id: "w", lease: time.Hour, names: []string{"a"}})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = opened.close(b.Context()) }()
			const batch = 100
			for b.Loop() {
				fill(batch, "a")
				found, err := opened.claim(b.Context(), claimRequest{names: []string{"a"}, limit: batch})
				claimed := found.tasks
				if err != nil || len(claimed) != batch {
					b.Fatalf("claimed %d, error %v", len(claimed), err)
				}
				ended := make([]finishedAttempt, batch)
				for i, task := range claimed {
					ended[i].task = task
				}
				if _, err := opened.finish(b.Context(), ended); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
