package anchor

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// What must not wait in a buffer is claimed as slots come free, not once a poll interval.
func TestTasksOfOneAttemptAreClaimedAsSlotsComeFree(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, runs := newRecorder("Recorded")
	client := rig.newClient(task)
	const count = 3000
	params := make([]*caseParams, count)
	for i := range params {
		params[i] = &caseParams{"once"}
	}
	ids, err := task.RunMany(t.Context(), client, params, WithRetryPolicy("1s", 1))
	must(t, err)
	rig.startWork(client, WithConcurrency(10), WithPollInterval(time.Hour))
	rig.ended(client, ids[count-1])
	eventually(t, "all to have run", func() bool { return len(runs.all()) == count })
}

// Tasks that this worker has no handlers for are passed in pieces, and not again by each claim.
func TestTasksOfOthersDoNotHideOurs(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.fill(3*claimWalk, "Others", "default", "-1 hour")
	task, _ := newRecorder("Recorded")
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(time.Hour))
	for range 3 {
		rig.ended(client, enqueue(rig, client, task, &caseParams{"ours"}))
	}
	if pending := readOne[int](rig, "select count(*) from anchor_tasks_hot where name = 'Others' and status = 'pending' and attempts = 0"); pending != 3*claimWalk {
		t.Errorf("%d of the others' %d tasks are untouched", pending, 3*claimWalk)
	}
}

// A new lane of a higher priority is found by its hint, however much waits in the others.
func TestAHigherPriorityNeedsNoSweep(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	goOn := make(chan struct{})
	runs := &recorded{}
	task := Define("Blocked", func(_ context.Context, _ pgx.Tx, p *caseParams) error {
		runs.add(p.Case)
		<-goOn
		return nil
	})
	client := rig.newClient(task)
	many := make([]*caseParams, 200)
	for i := range many {
		many[i] = &caseParams{"many"}
	}
	_, err := task.RunMany(t.Context(), client, many)
	must(t, err)
	rig.startWork(client, WithConcurrency(2), WithPollInterval(time.Hour))
	eventually(t, "two to run", func() bool { return len(runs.all()) == 2 })
	urgent := enqueue(rig, client, task, &caseParams{"urgent"}, WithPriority(-10))
	// One after the other, so that the hint has the time of a hundred tasks to arrive.
	for n := 2; n < 100 && !slices.Contains(runs.all(), "urgent"); n++ {
		goOn <- struct{}{}
		eventually(t, "the next to run", func() bool { return len(runs.all()) > n })
	}
	close(goOn)
	rig.ended(client, urgent)
	if place := slices.Index(runs.all(), "urgent"); place > 100 {
		t.Errorf("the urgent task ran behind %d of 200 others", place)
	}
}
