package anchor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// 64 callers enqueue 200 tags in transactions, 30 % of which roll back, while a worker completes what is there
// and others cancel. A unique index proves that no two tasks of a tag were ever live.
func TestUniqueTagNeverTwoLiveTasks(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	task := anchor.Define("Letter", unused[letter])
	client := newClient(t, store, task)

	// Any statement that would leave two live tasks of one tag fails.
	mustExec(t, pool, "create unique index one_live_task on anchor_tasks_hot (unique_tag)")
	startWorker(t, client)

	const callers, tags = 64, 200
	var mu sync.Mutex
	committed := map[int64]bool{}
	outcomes := map[string]int{}
	note := func(outcome string) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[outcome]++
	}
	var wg sync.WaitGroup
	for caller := range callers {
		random := rand.New(rand.NewPCG(1, uint64(caller)))
		wg.Go(func() {
			for _, n := range random.Perm(tags)[:tags/4] {
				opts := []anchor.RunOption{anchor.WithUniqueTag(fmt.Sprint("tag ", n), anchor.UniqueWhileLive)}
				if random.IntN(3) == 0 {
					opts = append(opts, anchor.WithDelay(time.Hour))
				}
				id, outcome, err := enqueueOnce(t.Context(), pool, client, task, random, opts)
				if err != nil {
					t.Errorf("caller %d, tag %d: %v", caller, n, err)
					return
				}
				note(outcome)
				switch outcome {
				case "committed":
					mu.Lock()
					committed[id] = true
					mu.Unlock()
				case "exists":
					// Half of the holders are ended from outside, whether they are pending, running or over.
					if random.IntN(2) == 0 {
						continue
					}
					if err := client.Cancel(t.Context(), id); err != nil && !errors.Is(err, anchor.ErrTaskNotCancellable) {
						t.Errorf("Cancel: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, outcome := range []string{"committed", "exists", "rolled back"} {
		if outcomes[outcome] == 0 {
			t.Errorf("there was no outcome %q: %v", outcome, outcomes)
		}
	}
	stored := queryOne[[]int64](t, pool, "select array_agg(id) from anchor_tasks")
	for _, id := range stored {
		if !committed[id] {
			t.Errorf("task %d was never committed", id)
		}
		delete(committed, id)
	}
	if len(committed) > 0 {
		t.Errorf("%d committed tasks are not there", len(committed))
	}
	waitFor(t, "every tag to have its live task, and every live task its tag", func() bool {
		loose := queryOne[int](t, pool, `select count(*) from anchor_unique_tags u full join anchor_tasks_hot t on t.id = u.task_id and t.unique_tag = u.tag
			where u.tag is null or t.status is null`)
		return loose == 0
	})
}

// enqueueOnce enqueues in a transaction and commits it, or rolls it back three times of ten.
func enqueueOnce(
	ctx context.Context, pool interface {
		Begin(ctx context.Context) (pgx.Tx, error)
	}, client *anchor.Client, task *anchor.Task[letter], random *rand.Rand, opts []anchor.RunOption,
) (id int64, outcome string, err error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	id, err = task.RunWithTx(ctx, client, tx, &letter{}, opts...)
	var exists *anchor.TaskExistsError
	if errors.As(err, &exists) {
		if _, err := tx.Exec(ctx, "select 1"); err != nil {
			return 0, "", fmt.Errorf("the transaction is not usable: %w", err)
		}
		return exists.ID, "exists", nil
	}
	if err != nil {
		return 0, "", err
	}
	if random.IntN(10) < 3 {
		return id, "rolled back", nil
	}
	return id, "committed", tx.Commit(ctx)
}
