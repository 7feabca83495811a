package anchor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func (f *memoryFixture) wantMissing(id int64) {
	f.t.Helper()
	_, err := f.store.task(f.t.Context(), id)
	wantError(f.t, err, ErrTaskNotFound)
}

func TestMemoryTxCommit(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	tx := f.begin()
	first := f.enqueueTx(tx, tagged("t", UniqueForever))
	outside := f.enqueue()
	second := f.enqueueTx(tx)
	err := f.store.enqueueTx(t.Context(), tx, []*newTask{newTestTask(tagged("u", UniqueForever)), newTestTask(tagged("t", UniqueForever))})
	wantExists(t, err, "t", first)
	f.wantMissing(first)
	f.heard()
	must(t, tx.Commit(t.Context()))
	if diff := cmp.Diff([]wakeup{{queue: "default"}}, f.heard(), cmp.AllowUnexported(wakeup{})); diff != "" {
		t.Errorf("wakeups (-want +got):\n%s", diff)
	}
	page, err := f.store.tasks(t.Context(), TaskQuery{})
	must(t, err)
	if diff := cmp.Diff([]int64{second, outside, first}, infoIDs(page)); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	f.wantHeld("t", first)
	f.enqueue(tagged("u", UniqueForever))

	wantError(t, tx.Commit(t.Context()), pgx.ErrTxClosed)
	wantError(t, tx.Rollback(t.Context()), pgx.ErrTxClosed)
	_, err = tx.Begin(t.Context())
	wantError(t, err, pgx.ErrTxClosed)
	wantError(t, f.store.enqueueTx(t.Context(), tx, []*newTask{newTestTask()}), pgx.ErrTxClosed)
	wantError(t, f.store.cancel(t.Context(), tx, outside), pgx.ErrTxClosed)
}

func TestMemoryTxRollback(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	victim := f.enqueue(tagged("v", UniqueWhileLive))
	tx := f.begin()
	id := f.enqueueTx(tx, tagged("t", UniqueForever))
	must(t, f.store.cancel(t.Context(), tx, victim))
	f.enqueueTx(tx, tagged("v", UniqueForever))
	must(t, tx.Rollback(t.Context()))
	f.wantMissing(id)
	f.wantStatus(victim, StatusPending)
	f.wantHeld("v", victim)
	f.enqueue(tagged("t", UniqueForever))
	f.claimOne(victim)
	wantError(t, tx.Rollback(t.Context()), pgx.ErrTxClosed)
}

func TestMemoryTxEndedContextRollsBack(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	tx := f.begin()
	f.enqueueTx(tx, tagged("t", UniqueForever))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, tx.Commit(ended), context.Canceled)
	wantError(t, tx.Commit(t.Context()), pgx.ErrTxClosed)
	f.enqueue(tagged("t", UniqueForever))
}

func TestMemoryTxSavepoints(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	tx := f.begin()
	kept := f.enqueueTx(tx)
	savepoint, err := tx.Begin(t.Context())
	must(t, err)
	merged := f.enqueueTx(savepoint, tagged("merged", UniqueForever))
	must(t, savepoint.Commit(t.Context()))
	wantError(t, savepoint.Rollback(t.Context()), pgx.ErrTxClosed)

	outer, err := tx.Begin(t.Context())
	must(t, err)
	inner, err := outer.Begin(t.Context())
	must(t, err)
	discarded := f.enqueueTx(inner, tagged("t", UniqueForever))
	must(t, f.store.cancel(t.Context(), inner, kept))
	must(t, inner.Commit(t.Context()))
	must(t, outer.Rollback(t.Context()))
	wantError(t, f.store.enqueueTx(t.Context(), outer, []*newTask{newTestTask()}), pgx.ErrTxClosed)
	again := f.enqueueTx(tx, tagged("t", UniqueForever))

	left, err := tx.Begin(t.Context())
	must(t, err)
	open := f.enqueueTx(left)
	must(t, tx.Commit(t.Context()))
	wantError(t, left.Commit(t.Context()), pgx.ErrTxClosed)

	f.wantStatus(kept, StatusPending)
	f.wantStatus(merged, StatusPending)
	f.wantMissing(discarded)
	f.wantHeld("t", again)
	f.wantStatus(open, StatusPending)
}

func TestMemoryTxCancel(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	running := f.enqueue()
	f.claimOne(running)
	pending := f.enqueue(tagged("t", UniqueWhileLive))
	tx := f.begin()
	own := f.enqueueTx(tx, tagged("own", UniqueWhileLive))
	for _, id := range []int64{running, pending, own} {
		must(t, f.store.cancel(t.Context(), tx, id))
	}
	wantError(t, f.store.cancel(t.Context(), tx, pending), ErrTaskNotCancellable)
	wantError(t, f.store.cancel(t.Context(), tx, own), ErrTaskNotCancellable)
	wantError(t, f.store.cancel(t.Context(), tx, 99), ErrTaskNotFound)
	f.wantStatus(pending, StatusPending)
	if got := f.statsOf("default").Ready; got != 1 {
		t.Errorf("%d ready, want 1: the cancellation is not committed", got)
	}
	if claimed := f.claimAll(1); len(claimed) > 0 {
		t.Errorf("claimed %v, which an open transaction cancels", claimedIDs(claimed))
	}
	successor := f.enqueueTx(tx, tagged("t", UniqueWhileLive))
	ownSuccessor := f.enqueueTx(tx, tagged("own", UniqueForever))
	f.heard()
	must(t, tx.Commit(t.Context()))
	f.wantStatus(running, StatusRunning)
	f.wantStatus(pending, StatusCancelled)
	f.wantStatus(own, StatusCancelled)
	f.wantHeld("t", successor)
	f.wantHeld("own", ownSuccessor)
	if heard := f.heard(); len(heard) == 0 || heard[0] != (wakeup{cancelled: running}) && heard[len(heard)-1] != (wakeup{cancelled: running}) {
		t.Errorf("wakeups %v, want one of the cancellation", heard)
	}
	if claimed := f.claimAll(10); len(claimed) != 2 {
		t.Errorf("claimed %v, want the two successors", claimedIDs(claimed))
	}
}

func TestMemoryTxCancelOfATaskThatEndsMeanwhile(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	completed, retried := f.enqueue(), f.enqueue()
	tasks := f.claimAll(2)
	tx := f.begin()
	must(t, f.store.cancel(t.Context(), tx, completed))
	must(t, f.store.cancel(t.Context(), tx, retried))
	f.end(tasks[0], outcomeCompleted)
	f.end(tasks[1], outcomeRetried)
	must(t, tx.Commit(t.Context()))
	f.wantStatus(completed, StatusCompleted)
	f.wantStatus(retried, StatusCancelled)
}

func TestMemoryTxMakesOthersWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(pgx.Tx, context.Context) error
	}{
		{"commit", pgx.Tx.Commit}, {"rollback", pgx.Tx.Rollback},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newMemoryFixture(t)
				victim := f.enqueue()
				tx := f.begin()
				holder := f.enqueueTx(tx, tagged("t", UniqueForever))
				must(t, f.store.cancel(t.Context(), tx, victim))

				hurried, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				wantError(t, f.store.enqueue(hurried, []*newTask{newTestTask(tagged("t", UniqueForever))}), context.DeadlineExceeded)
				must(t, f.store.releaseTag(t.Context(), "t")) // nobody holds it yet

				enqueued, cancelled := make(chan error, 1), make(chan error, 1)
				go func() {
					enqueued <- f.store.enqueue(t.Context(), []*newTask{newTestTask(), newTestTask(tagged("t", UniqueForever))})
				}()
				go func() { cancelled <- f.store.cancel(t.Context(), nil, victim) }()
				synctest.Wait()
				if len(enqueued)+len(cancelled) > 0 {
					t.Fatal("did not wait")
				}
				must(t, test.end(tx, t.Context()))
				if test.name == "commit" {
					wantExists(t, <-enqueued, "t", holder)
					wantError(t, <-cancelled, ErrTaskNotCancellable)
				} else {
					must(t, <-enqueued)
					must(t, <-cancelled)
				}
				f.wantStatus(victim, StatusCancelled)
			})
		})
	}
}

func TestMemoryTxSavepointLetsOthersGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		tx := f.begin()
		savepoint, err := tx.Begin(t.Context())
		must(t, err)
		f.enqueueTx(savepoint, tagged("t", UniqueForever))
		enqueued := make(chan error, 1)
		go func() { enqueued <- f.store.enqueue(t.Context(), []*newTask{newTestTask(tagged("t", UniqueForever))}) }()
		synctest.Wait()
		must(t, savepoint.Rollback(t.Context()))
		must(t, <-enqueued)
		must(t, tx.Commit(t.Context()))
	})
}

func TestMemoryTxDeadlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newMemoryFixture(t)
		one, two := f.begin(), f.begin()
		f.enqueueTx(one, tagged("1", UniqueForever))
		f.enqueueTx(two, tagged("2", UniqueForever))
		waited := make(chan error, 1)
		go func() {
			waited <- f.store.enqueueTx(t.Context(), one, []*newTask{newTestTask(tagged("2", UniqueForever))})
		}()
		synctest.Wait()
		wantError(t, f.store.enqueueTx(t.Context(), two, []*newTask{newTestTask(tagged("1", UniqueForever))}), errMemoryDeadlock)
		must(t, two.Rollback(t.Context()))
		must(t, <-waited)
		must(t, one.Commit(t.Context()))
	})
}

func TestMemoryTxRefusesSQL(t *testing.T) {
	t.Parallel()
	f := newMemoryFixture(t)
	task := f.claimOne(f.enqueue())
	user := f.begin()
	savepoint, err := user.Begin(t.Context())
	must(t, err)
	closed := f.begin()
	must(t, closed.Rollback(t.Context()))
	for _, test := range []struct {
		name string
		tx   pgx.Tx
		want error
	}{
		{"handler", f.memorySession.begin(task, time.Second).handler(), ErrNoTransaction},
		{"user", user, ErrNoTransaction},
		{"savepoint", savepoint, ErrNoTransaction},
		{"closed", closed, pgx.ErrTxClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			tx, ctx := test.tx, t.Context()
			_, err := tx.Exec(ctx, "select 1")
			wantError(t, err, test.want)
			rows, err := tx.Query(ctx, "select 1")
			wantError(t, err, test.want)
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			wantError(t, err, test.want)
			_, err = rows.Values()
			wantError(t, err, test.want)
			var n int
			wantError(t, tx.QueryRow(ctx, "select 1").Scan(&n), test.want)
			_, err = tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"c"}, pgx.CopyFromRows(nil))
			wantError(t, err, test.want)
			_, err = tx.Prepare(ctx, "p", "select 1")
			wantError(t, err, test.want)
			batch := &pgx.Batch{}
			batch.Queue("select 1")
			results := tx.SendBatch(ctx, batch)
			_, err = results.Exec()
			wantError(t, err, test.want)
			rows, err = results.Query()
			wantError(t, err, test.want)
			wantError(t, rows.Err(), test.want)
			wantError(t, results.QueryRow().Scan(&n), test.want)
			wantError(t, results.Close(), test.want)
			if tx.Conn() != nil {
				t.Error("Conn is not nil")
			}
			objects := tx.LargeObjects() // pgx makes them, with an error of its own
			_, err = objects.Create(ctx, 0)
			wantError(t, err, pgx.ErrTxClosed)
			_, err = objects.Open(ctx, 1, pgx.LargeObjectModeRead)
			wantError(t, err, pgx.ErrTxClosed)
			wantError(t, objects.Unlink(ctx, 1), pgx.ErrTxClosed)
		})
	}
}
