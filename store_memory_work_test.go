package anchor

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

type workParams struct {
	N int `json:"n"`
}

// TestMemoryStoreAtWork runs a worker in virtual time.
func TestMemoryStoreAtWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := NewMemoryStore()
		start := time.Now()
		var client *Client
		var ran []time.Duration
		child := Define("child", func(context.Context, pgx.Tx, *workParams) error {
			ran = append(ran, time.Since(start))
			return nil
		})
		var child1, child2 int64
		parent := Define("parent", func(ctx context.Context, tx pgx.Tx, _ *workParams) (err error) {
			child1, err = child.RunWithTx(ctx, client, tx, &workParams{1}, WithDelay(90*time.Minute))
			return err
		})
		failing := Define("failing", func(ctx context.Context, tx pgx.Tx, _ *workParams) error {
			_, err := child.RunWithTx(ctx, client, tx, &workParams{2})
			return errors.Join(err, errors.New("broken"))
		}, WithRetryPolicy("1m", 2)).OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *workParams) (err error) {
			child2, err = child.RunWithTx(ctx, client, tx, &workParams{3})
			return err
		})
		endless := Define("endless", func(ctx context.Context, _ pgx.Tx, _ *workParams) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, WithTimeout("24h"))
		client, err := New(store, WithTasks(child, parent, failing, endless), WithLogger(slog.New(slog.DiscardHandler)))
		must(t, err)

		working, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- client.Work(working) }()
		want := func(id int64, status Status) *TaskInfo {
			t.Helper()
			info, err := client.Wait(ctx, id)
			must(t, err)
			if info.Status != status {
				t.Errorf("task %d (%s) is %s, want %s: %v", id, info.Name, info.Status, status, info.Errors)
			}
			return info
		}

		cancelled, err := endless.Run(ctx, client, &workParams{})
		must(t, err)
		parentID, err := parent.Run(ctx, client, &workParams{})
		must(t, err)
		want(parentID, StatusCompleted)
		if info := want(child1, StatusCompleted); !info.StartedAt.Equal(info.NextRun) {
			t.Errorf("due at %v, started at %v", info.NextRun, info.StartedAt)
		}
		failingID, err := failing.Run(ctx, client, &workParams{})
		must(t, err)
		if info := want(failingID, StatusFailed); info.Attempts != 2 || len(info.Errors) != 2 {
			t.Errorf("failed: %+v", info)
		}
		want(child2, StatusCompleted)
		must(t, client.Cancel(ctx, cancelled))
		want(cancelled, StatusCancelled)
		if len(ran) != 2 {
			t.Errorf("child ran %d times, want 2: a failed attempt's enqueue counts for nothing", len(ran))
		}

		tx, err := store.Begin(ctx)
		must(t, err)
		last, err := child.RunWithTx(ctx, client, tx, &workParams{})
		must(t, err)
		time.Sleep(time.Minute)
		must(t, tx.Commit(ctx))
		want(last, StatusCompleted)

		stop()
		must(t, <-ended)
		stats, err := client.Stats(ctx)
		must(t, err)
		if diff := cmp.Diff(&Stats{Queues: []QueueStats{{Queue: "default", Failed: 1}}}, stats); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	})
}
