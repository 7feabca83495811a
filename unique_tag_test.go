package anchor_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

func TestUniqueTagManyCallersOneTask(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		for _, scope := range []anchor.UniqueScope{anchor.UniqueForever, anchor.UniqueWhileLive, anchor.UniqueFor(time.Hour)} {
			var winner atomic.Int64
			var wg sync.WaitGroup
			start := make(chan struct{})
			holders := make([]int64, 64)
			for i := range holders {
				wg.Go(func() {
					<-start
					id, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag(scope.String(), scope))
					var exists *anchor.TaskExistsError
					switch {
					case err == nil:
						holders[i] = id
						if !winner.CompareAndSwap(0, id) {
							t.Errorf("%v: both %d and %d were enqueued", scope, winner.Load(), id)
						}
					case errors.As(err, &exists):
						holders[i] = exists.ID
					default:
						t.Errorf("%v: %v", scope, err)
					}
				})
			}
			close(start)
			wg.Wait()
			for _, holder := range holders {
				if holder != winner.Load() {
					t.Errorf("%v: a caller heard of task %d, want %d", scope, holder, winner.Load())
				}
			}
			wantTasks(t, client, anchor.TaskQuery{UniqueTag: scope.String()}, winner.Load())
		}
	})
}

func TestUniqueTagIsSharedByTasksAndQueues(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		first, second := anchor.Define[letter]("First", nil), anchor.Define[letter]("Second", nil)
		client := newClient(t, store, first, second)
		id := mustRun(t, client, first, letter{}, anchor.WithUniqueTag("t"), anchor.WithQueue("a"))
		_, err := second.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t", anchor.UniqueWhileLive), anchor.WithQueue("b"))
		wantHolder(t, err, "t", id)
		mustRun(t, client, second, letter{}, anchor.WithUniqueTag("T"))
		mustRun(t, client, second, letter{}, anchor.WithUniqueTag("t "))
	})
}

// How each scope ends: by the task's end, by time, or by ReleaseTag.
func TestUniqueTagScopes(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		fail := errors.New("no luck")
		task := anchor.Define("Letter", func(_ context.Context, _ pgx.Tx, p *letter) error {
			if p.To == "fail" {
				return fail
			}
			return nil
		}, anchor.WithRetryPolicy("1s", 1))
		client := newClient(t, store, task)

		ends := map[string]func(id int64){
			"completed": func(id int64) { mustWait(t, client, id) },
			"failed":    func(id int64) { mustWait(t, client, id) },
			"cancelled": func(id int64) {
				if err := client.Cancel(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			},
		}
		enqueue := func(end string, tag anchor.RunOption) (int64, error) {
			params, opts := letter{}, []anchor.RunOption{tag}
			if end == "failed" {
				params.To = "fail"
			}
			if end == "cancelled" {
				opts = append(opts, anchor.WithDelay(time.Hour))
			}
			return task.Run(t.Context(), client, &params, opts...)
		}
		held := map[anchor.UniqueScope]map[string]int64{}
		for _, scope := range []anchor.UniqueScope{anchor.UniqueForever, anchor.UniqueWhileLive, anchor.UniqueFor(time.Hour), anchor.UniqueFor(time.Millisecond)} {
			held[scope] = map[string]int64{}
			for end := range ends {
				tag := end + " " + scope.String()
				id, err := enqueue(end, anchor.WithUniqueTag(tag, scope))
				if err != nil {
					t.Fatal(err)
				}
				_, err = enqueue(end, anchor.WithUniqueTag(tag, scope))
				wantHolder(t, err, tag, id) // whatever the scope, while it is live
				held[scope][end] = id
			}
		}
		startWorker(t, client)
		for scope, ids := range held {
			for end, id := range ids {
				ends[end](id)
				if got := mustTask(t, client, id).Status; string(got) != end {
					t.Fatalf("%v: task is %s, want %s", scope, got, end)
				}
				tag := end + " " + scope.String()
				_, err := enqueue(end, anchor.WithUniqueTag(tag, scope))
				switch scope {
				case anchor.UniqueForever, anchor.UniqueFor(time.Hour):
					wantHolder(t, err, tag, id)
					if err := client.ReleaseTag(t.Context(), tag); err != nil {
						t.Fatal(err)
					}
					if _, err := enqueue(end, anchor.WithUniqueTag(tag, scope)); err != nil {
						t.Errorf("%s, released: %v", tag, err)
					}
				default:
					if err != nil {
						t.Errorf("%s, over: %v", tag, err)
					}
				}
			}
		}
	})
}

// UniqueFor outlives its time for as long as its task is live, and no longer.
func TestUniqueTagForATimeWhileItsTaskIsLive(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		const scope = 20 * time.Millisecond
		id := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t", anchor.UniqueFor(scope)), anchor.WithDelay(time.Hour))
		created := mustTask(t, client, id).CreatedAt
		waitFor(t, "the scope to be over by the store's clock", func() bool {
			probe := mustRun(t, client, task, letter{}, anchor.WithDelay(time.Hour))
			return mustTask(t, client, probe).CreatedAt.Sub(created) > scope
		})
		_, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", id)
		if err := client.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t"))
	})
}

func TestReleaseTag(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		if err := client.ReleaseTag(t.Context(), "nobody's"); err != nil {
			t.Errorf("a tag that nobody holds: %v", err)
		}
		wantText(t, client.ReleaseTag(t.Context(), ""), "ReleaseTag", "unique tag is empty")

		first := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t"))
		other := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("u"))
		if err := client.ReleaseTag(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if info := mustTask(t, client, first); info.Status != anchor.StatusPending || info.UniqueTag != "t" {
			t.Errorf("the task that held the tag is %+v", info)
		}
		second := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t", anchor.UniqueWhileLive))

		// The end of a former holder does not take the tag from the one that has it now.
		if err := client.Cancel(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		_, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", second)
		_, err = task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("u"))
		wantHolder(t, err, "u", other)
	})
}
