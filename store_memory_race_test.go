package anchor

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestMemoryStoreConcurrently lets many use one store, and counts what was completed.
func TestMemoryStoreConcurrently(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	const producers, perProducer, workers = 4, 300, 4
	committed := make(chan int64, producers*perProducer)
	var producing, working sync.WaitGroup
	for producer := range producers {
		producing.Go(func() {
			for i := range perProducer {
				task := newTestTask(inQueue(fmt.Sprint(i % 3)))
				if i%5 == 0 {
					task.tag, task.scope = fmt.Sprint(i), UniqueWhileLive
				}
				tx, err := f.store.Begin(t.Context())
				if err == nil {
					err = f.store.enqueueTx(t.Context(), tx, []*newTask{task})
				}
				switch {
				case errors.Is(err, ErrTaskAlreadyExists):
					err = tx.Commit(t.Context())
				case err == nil && (producer+i)%7 == 0:
					err = tx.Rollback(t.Context())
				case err == nil:
					err = tx.Commit(t.Context())
					committed <- task.id
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var mu sync.Mutex
	completions := make(map[int64]int)
	for worker := range workers {
		s := f.open(fmt.Sprint(worker))
		working.Go(func() {
			for round := 0; ; round++ {
				found, err := s.claim(t.Context(), claimRequest{names: []string{"a"}, limit: 5, firstHand: 5})
				claimed := found.tasks
				if err != nil {
					t.Error(err)
					return
				}
				if len(claimed) == 0 {
					select {
					case <-stop:
						return
					case <-s.wakeups():
					}
					continue
				}
				for i, task := range claimed {
					if (i+round)%4 == 0 && task.attempt < 3 {
						_, err = s.finish(t.Context(), []finishedAttempt{{task: task, outcome: outcomeRetried}})
					} else if err = s.begin(task, time.Second).complete(t.Context()); err == nil {
						mu.Lock()
						completions[task.id]++
						mu.Unlock()
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	producing.Wait()
	close(stop)
	working.Wait()
	close(committed)
	n := 0
	for id := range committed {
		n++
		if completions[id] != 1 {
			t.Errorf("task %d was completed %d times", id, completions[id])
		}
	}
	if len(completions) != n {
		t.Errorf("%d tasks were completed, %d committed", len(completions), n)
	}
}
