package anchor

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A task that is made pending again keeps its tag, although the tag's time ends before that commits.
func TestTagThatExpiresDuringARetryIsNotGivenAway(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define[noParams]("Tagged", nil)
	client := rig.newClient(task)
	id := enqueue(rig, client, task, &noParams{}, WithUniqueTag("t", UniqueFor(time.Hour)))
	if err := client.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	rig.exec("update anchor_unique_tags set expires_at = clock_timestamp() + interval '200 milliseconds'")
	retry, err := rig.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := retry.Exec(t.Context(), "select anchor_retry($1)", id); err != nil {
		t.Fatal(err)
	}
	if n := readOne[int](rig, "select count(*) from anchor_unique_tags where expires_at > clock_timestamp()"); n != 1 {
		t.Fatal("the tag had expired before the retry")
	}
	eventually(t, "end of the tag's time", func() bool {
		return readOne[int](rig, "select count(*) from anchor_unique_tags where expires_at > clock_timestamp()") == 0
	})
	rig.exec("select anchor_prune(1000)")
	enqueued := make(chan error, 1)
	go func() {
		_, err := task.Run(t.Context(), client, &noParams{}, WithUniqueTag("t"))
		enqueued <- err
	}()
	waits := func() bool {
		return readOne[int](rig, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()") > 0
	}
	eventually(t, "the enqueue waits, or is through", func() bool { return waits() || len(enqueued) > 0 })
	if err := retry.Commit(t.Context()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		t.Fatal(err)
	}
	err = receive(t, "end of the enqueue", enqueued)
	var exists *TaskExistsError
	if !errors.As(err, &exists) || exists.ID != id {
		t.Errorf("error %v, want that task %d has the tag", err, id)
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks_hot where unique_tag = 't'"); n != 1 {
		t.Errorf("%d live tasks of one tag, want 1", n)
	}
}
