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
	const held = "select count(*) from anchor_unique_tags where expires_at > clock_timestamp()"
	var retry pgx.Tx
	lasts := 100 * time.Millisecond
	eventually(t, "a retry before the tag's time ends", func() bool {
		lasts *= 2
		rig.exec("update anchor_unique_tags set expires_at = clock_timestamp() + $1::interval", lasts)
		tx, err := rig.connect().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "select anchor_retry($1)", id); err != nil {
			t.Fatal(err)
		}
		if readOne[int](rig, held) == 0 {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			return false
		}
		retry = tx
		return true
	})
	eventually(t, "end of the tag's time", func() bool {
		return readOne[int](rig, held) == 0
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
	err := receive(t, "end of the enqueue", enqueued)
	var exists *TaskExistsError
	if !errors.As(err, &exists) || exists.ID != id {
		t.Errorf("error %v, want that task %d has the tag", err, id)
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks_hot where unique_tag = 't'"); n != 1 {
		t.Errorf("%d live tasks of one tag, want 1", n)
	}
}
