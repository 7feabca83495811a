package anchor

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pruneRig is a rig with a completed task in every slot of the ring, each as old as asked for.
func newPruneRig(t *testing.T, age time.Duration) *pgRig {
	t.Helper()
	rig := newPG(t)
	for slot := 1; slot <= 8; slot++ {
		rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec, status, slot, finished_at)
			values ('a', 'q', 1, '{}', 'completed', $1, clock_timestamp() - $2::interval)`, slot, age)
	}
	return rig
}

func (r *pgRig) prune() { r.t.Helper(); r.exec("select anchor_empty_slot(), anchor_prune(1000)") }

// slots are those of the ring that hold a task.
func (r *pgRig) slots() []int {
	r.t.Helper()
	return readAll[int](r, "select distinct slot from anchor_tasks where slot > 0 order by slot")
}

// slotsWithout are all slots of the ring but the one that is written next.
func (r *pgRig) slotsWithoutNext() []int {
	r.t.Helper()
	return readAll[int](r, "select s from generate_series(1, 8) s where s <> anchor_ring_slot(clock_timestamp() + interval '4 hours') order by s")
}

func TestPruneEmptiesTheSlotThatIsWrittenNextIfItIsOld(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age     time.Duration
		emptied bool
	}{
		"old":        {25 * time.Hour, true},
		"not so old": {23 * time.Hour, false},
		"just now":   {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newPruneRig(t, c.age)
			want := []int{1, 2, 3, 4, 5, 6, 7, 8}
			if c.emptied {
				want = rig.slotsWithoutNext()
			}
			rig.prune()
			if diff := cmp.Diff(want, rig.slots()); diff != "" {
				t.Errorf("slots that hold a task (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPruneKeepsASlotWithAYoungTaskAmongOldOnes(t *testing.T) {
	t.Parallel()
	rig := newPruneRig(t, 30*time.Hour)
	rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec, status, slot, finished_at)
		select 'a', 'q', 1, '{}', 'completed', anchor_ring_slot(clock_timestamp() + interval '4 hours'), clock_timestamp() - interval '1 hour'`)
	rig.prune()
	if got := len(rig.slots()); got != 8 {
		t.Errorf("%d slots hold a task, want all 8", got)
	}
}

func TestPruneGivesUpQuicklyUnderALock(t *testing.T) {
	t.Parallel()
	rig := newPruneRig(t, 30*time.Hour)
	tx, err := rig.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "select count(*) from anchor_tasks"); err != nil { // a reader's lock on every slot
		t.Fatal(err)
	}
	// It waits for the lock no longer than the tenth part of a second, or the statement ends with an error here.
	rig.exec("set statement_timeout = 10000; select anchor_empty_slot(); reset statement_timeout")
	if got := len(rig.slots()); got != 8 {
		t.Errorf("%d slots hold a task, want all 8", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.prune()
	if got := len(rig.slots()); got != 7 {
		t.Errorf("%d slots hold a task without the lock, want 7", got)
	}
}

func TestPruneDropsFailedTasksAndTheirErrorsAfterAWeek(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	for _, age := range []int{1, 6, 8, 20} {
		for _, status := range []string{"failed", "cancelled"} {
			rig.exec(`with t as (insert into anchor_tasks (name, queue, max_attempts, spec, status, slot, finished_at)
				values ($1, 'q', 1, '{}', $2, -1, clock_timestamp() - make_interval(days => $3)) returning id)
				insert into anchor_task_errors (task_id, attempt, at, message) select id, 1, clock_timestamp() - make_interval(days => $3), $1 from t`,
				fmt.Sprintf("%s %d days ago", status, age), status, age)
		}
	}
	// An old error of a task that lives, and one of a task that is gone.
	rig.exec(`with t as (insert into anchor_tasks (name, queue, max_attempts, spec) values ('pending', 'q', 5, '{}') returning id)
		insert into anchor_task_errors (task_id, attempt, at, message) select id, 1, clock_timestamp() - interval '30 days', 'pending' from t`)
	rig.exec(`insert into anchor_task_errors (task_id, attempt, at, message) values (1 << 30, 1, clock_timestamp() - interval '30 days', 'gone')`)
	rig.prune()
	want := []string{"cancelled 1 days ago", "cancelled 6 days ago", "failed 1 days ago", "failed 6 days ago", "pending"}
	if diff := cmp.Diff(want, readAll[string](rig, "select name from anchor_tasks order by name")); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	eventually(t, "the errors of dropped tasks dropped", func() bool {
		rig.prune()
		return cmp.Equal(want, readAll[string](rig, "select message from anchor_task_errors where at < clock_timestamp() - interval '8 days' or task_id in (select id from anchor_tasks) order by message"))
	})
}

func TestPruneGoesOnUntilNothingOldIsLeft(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec, status, slot, finished_at)
		select 'a', 'q', 1, '{}', 'failed', -1, clock_timestamp() - interval '8 days' from generate_series(1, $1::int + 5)`, 2*pruneRows)
	rig.exec(`insert into anchor_unique_tags (tag, task_id, expires_at)
		select 't' || i, 0, clock_timestamp() - interval '1 hour' from generate_series(1, $1::int + 5) i`, 2*pruneRows)
	session, err := rig.store.openSession(t.Context(), workerRecord{id: newWorkerID(), lease: time.Minute, names: []string{"a"}, slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.close(context.Background()) }()
	if err := session.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tasks, tags := readOne[int](rig, "select count(*) from anchor_tasks"), readOne[int](rig, "select count(*) from anchor_unique_tags"); tasks+tags != 0 {
		t.Errorf("%d old tasks and %d expired tags are left after one round, want none", tasks, tags)
	}
}

// What is slow to prune must not keep a slot from being emptied.
func TestPruneEmptiesItsSlotThoughTheRestFails(t *testing.T) {
	t.Parallel()
	rig := newPruneRig(t, 30*time.Hour)
	want := rig.slotsWithoutNext()
	rig.exec("alter table anchor_task_errors rename to gone")
	session, err := rig.store.openSession(t.Context(), workerRecord{id: newWorkerID(), lease: time.Minute, names: []string{"a"}, slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.close(context.Background()) }()
	if err := session.prune(t.Context()); err == nil {
		t.Error("no error of pruning without a table")
	}
	if diff := cmp.Diff(want, rig.slots()); diff != "" {
		t.Errorf("slots that hold a task (-want +got):\n%s", diff)
	}
}
