package anchor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

func TestCancelPending(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, ids := populate(t, store)
		for _, id := range []int64{ids["ready"], ids["scheduled"]} {
			if err := client.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if info := mustTask(t, client, id); info.Status != anchor.StatusCancelled || info.FinishedAt.IsZero() || len(info.Errors) != 0 {
				t.Errorf("cancelled: %+v", info)
			}
			wantIs(t, client.Cancel(t.Context(), id), anchor.ErrTaskNotCancellable)
		}
		for _, final := range []string{"completed", "failed", "cancelled"} {
			wantIs(t, client.Cancel(t.Context(), ids[final]), anchor.ErrTaskNotCancellable)
		}
		for _, unknown := range []int64{0, -1, 1 << 60} {
			wantIs(t, client.Cancel(t.Context(), unknown), anchor.ErrTaskNotFound)
		}
	})
}

func TestCancelWithTx(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	id := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t", anchor.UniqueWhileLive))
	ended := mustRun(t, client, task, letter{})
	if err := client.Cancel(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	wantText(t, client.CancelWithTx(t.Context(), nil, id), "tx is nil")
	wantText(t, client.PauseQueue(t.Context(), ""), "anchor: PauseQueue: queue is empty")
	wantText(t, client.ResumeQueue(t.Context(), ""), "anchor: ResumeQueue: queue is empty")

	for _, commit := range []bool{false, true} {
		tx := mustBegin(t, pool, pgx.TxOptions{})
		wantIs(t, client.CancelWithTx(t.Context(), tx, ended), anchor.ErrTaskNotCancellable)
		wantIs(t, client.CancelWithTx(t.Context(), tx, 1<<60), anchor.ErrTaskNotFound)
		if err := client.CancelWithTx(t.Context(), tx, id); err != nil {
			t.Fatal(err)
		}
		wantIs(t, client.CancelWithTx(t.Context(), tx, id), anchor.ErrTaskNotCancellable)
		again, err := task.RunWithTx(t.Context(), client, tx, &letter{}, anchor.WithUniqueTag("t", anchor.UniqueWhileLive))
		if err != nil {
			t.Fatalf("the tag is not free in the same transaction: %v", err)
		}
		if got := mustTask(t, client, id).Status; got != anchor.StatusPending {
			t.Errorf("%s before the commit", got)
		}
		if !commit {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
			wantHolder(t, err, "t", id)
			continue
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := mustTask(t, client, id).Status; got != anchor.StatusCancelled {
			t.Errorf("%s after the commit", got)
		}
		_, err = task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", again)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, ids := populate(t, store)
		for _, name := range []string{"ready", "scheduled", "completed"} {
			wantIs(t, client.Retry(t.Context(), ids[name]), anchor.ErrTaskNotRetryable)
		}
		for _, unknown := range []int64{0, -1, 1 << 60} {
			wantIs(t, client.Retry(t.Context(), unknown), anchor.ErrTaskNotFound)
		}

		before := mustTask(t, client, ids["cancelled"])
		if err := client.Retry(t.Context(), ids["cancelled"]); err != nil {
			t.Fatal(err)
		}
		info := mustTask(t, client, ids["cancelled"])
		if info.Status != anchor.StatusPending || info.Attempts != 0 || !info.FinishedAt.IsZero() || info.NextRun.Before(before.FinishedAt) {
			t.Errorf("the cancelled task, retried: %+v", info)
		}
		wantIs(t, client.Retry(t.Context(), ids["cancelled"]), anchor.ErrTaskNotRetryable)

		// The worker fails it a second time: the attempts count from 0, both errors are on record.
		if err := client.Retry(t.Context(), ids["failed"]); err != nil {
			t.Fatal(err)
		}
		info = mustWait(t, client, ids["failed"])
		var attempts []int
		for _, failure := range info.Errors {
			attempts = append(attempts, failure.Attempt)
		}
		if diff := cmp.Diff([]int{1, 1}, attempts); diff != "" || info.Attempts != 1 || info.Status != anchor.StatusFailed {
			t.Errorf("the failed task, retried: %+v, attempts of its errors (-want +got):\n%s", info, diff)
		}
	})
}

// A task that runs again takes its tag again, unless another has it by now.
func TestRetryTakesItsTag(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		cancelled := func(scope anchor.UniqueScope) int64 {
			id := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t", scope))
			if err := client.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			return id
		}
		first := cancelled(anchor.UniqueWhileLive)
		second := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t", anchor.UniqueWhileLive))
		wantHolder(t, client.Retry(t.Context(), first), "t", second)
		if got := mustTask(t, client, first).Status; got != anchor.StatusCancelled {
			t.Errorf("the task that was refused is %s", got)
		}

		if err := client.Cancel(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		if err := client.Retry(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		_, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", first)
		wantHolder(t, client.Retry(t.Context(), second), "t", first)

		// Taken again, the tag is held while the task is live. One that was never lost keeps its scope.
		if err := client.Cancel(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		forever := cancelled(anchor.UniqueForever)
		if err := client.Retry(t.Context(), forever); err != nil {
			t.Fatal(err)
		}
		if err := client.Cancel(t.Context(), forever); err != nil {
			t.Fatal(err)
		}
		_, err = task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", forever)
	})
}

// A tag whose time is over is nobody's, also when its former holder comes back before another has taken it.
func TestRetryAfterTheTagsTimeIsOver(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		id := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t", anchor.UniqueFor(time.Millisecond)))
		if err := client.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the tag to be free", func() bool {
			other, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t", anchor.UniqueWhileLive))
			if errors.Is(err, anchor.ErrTaskAlreadyExists) {
				return false
			}
			return err == nil && client.Cancel(t.Context(), other) == nil
		})
		if err := client.Retry(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		_, err := task.Run(t.Context(), client, &letter{}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", id)
	})
}

func TestPauseAndResumeQueue(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		mustRun(t, client, task, letter{}, anchor.WithQueue("a"))
		paused := func() []string {
			stats, err := client.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, queue := range stats.Queues {
				if queue.Paused {
					names = append(names, queue.Queue)
				}
			}
			return names
		}
		for _, step := range []struct {
			do   func() error
			want []string
		}{
			{func() error { return client.ResumeQueue(t.Context(), "a") }, nil},
			{func() error { return client.PauseQueue(t.Context(), "a") }, []string{"a"}},
			{func() error { return client.PauseQueue(t.Context(), "a") }, []string{"a"}},
			{func() error { return client.PauseQueue(t.Context(), "empty") }, []string{"a", "empty"}},
			{func() error { return client.ResumeQueue(t.Context(), "a") }, []string{"empty"}},
			{func() error { return client.ResumeQueue(t.Context(), "empty") }, nil},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(step.want, paused()); diff != "" {
				t.Errorf("paused (-want +got):\n%s", diff)
			}
		}
		wantText(t, client.PauseQueue(t.Context(), ""), "queue is empty")
		wantText(t, client.ResumeQueue(t.Context(), strings.Repeat("q", 101)), "queue has 101 bytes")
	})
}
