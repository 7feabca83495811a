package anchor

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sweepRig has one task that is found by a look at everything only.
type sweepRig struct {
	*claimRig
}

func newSweepRig(t *testing.T) sweepRig {
	t.Helper()
	r := sweepRig{newClaimRig(t)}
	r.enqueued(1)
	return r
}

// worker is a session of a worker of these tasks and queues.
func (r sweepRig) worker(names, queues []string) *pgSession {
	r.t.Helper()
	opened, err := r.store.openSession(r.t.Context(), workerRecord{
		id: newWorkerID(), host: "h", pid: 1, lease: time.Hour, names: names, queues: queues, slots: 100, crons: map[string]string{},
	})
	must(r.t, err)
	r.t.Cleanup(func() { _ = opened.close(context.Background()) })
	return opened.(*pgSession)
}

// sweep is how many tasks a worker claims that asks for others' sweeps of the last 8 minutes.
func (r sweepRig) sweep(s *pgSession, queues []string) int {
	r.t.Helper()
	s.floors.dear = true
	found, err := s.claim(r.t.Context(), claimRequest{names: []string{"Claimed"}, queues: queues, limit: 100, firstHand: 100, sweep: true, interval: 10 * time.Minute})
	must(r.t, err)
	return len(found.tasks)
}

// began says that a worker has begun a sweep for others so long ago.
func (r sweepRig) began(s *pgSession, ago time.Duration) {
	r.t.Helper()
	r.exec("update anchor_workers set swept_at = clock_timestamp() - $2::bigint * interval '1 microsecond' where id = $1::uuid", s.id(), ago.Microseconds())
}

func TestASweepIsLeftToAnotherWorkerOfTheSame(t *testing.T) {
	t.Parallel()
	names, queues := []string{"Claimed", "Other"}, []string{"default"}
	for name, c := range map[string]struct {
		names, queues []string // of the worker that sweeps for others
		mine          []string // queues of this one
		ago           time.Duration
		want          int
	}{
		"the same":             {names, queues, queues, 7 * time.Minute, 0},
		"both work on all":     {names, nil, nil, 7 * time.Minute, 0},
		"it is too old":        {names, queues, queues, 9 * time.Minute, 1},
		"it handles less":      {names[:1], queues, queues, time.Minute, 1},
		"it works on another":  {names, []string{"another"}, queues, time.Minute, 1},
		"it works on all":      {names, nil, queues, time.Minute, 1},
		"only it works on one": {names, queues, nil, time.Minute, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSweepRig(t)
			other, s := r.worker(c.names, c.queues), r.worker(names, c.mine)
			r.began(other, c.ago)
			if got := r.sweep(s, c.mine); got != c.want {
				t.Errorf("it claims %d tasks, want %d", got, c.want)
			}
		})
	}
}

func TestAWorkerSweepsForOthersUnlessItLeavesTasks(t *testing.T) {
	t.Parallel()
	r := newSweepRig(t)
	s, other := r.worker([]string{"Claimed"}, nil), r.worker([]string{"Claimed"}, nil)
	if got := r.sweep(s, nil); got != 1 {
		t.Errorf("the first claims %d tasks, want 1", got)
	}
	r.enqueued(101)
	if got := r.sweep(other, nil); got != 0 {
		t.Errorf("the other claims %d tasks meanwhile, want none", got)
	}
	s.floors.nextHead = time.Time{}
	if got := r.sweep(s, nil); got != 100 {
		t.Errorf("the first claims %d tasks of 101, want 100: its own sweep counts for nothing", got)
	}
	if s.floors.sweeping {
		s.floors.nextHead = time.Time{}
		r.sweep(s, nil)
	}
	if got := r.sweep(other, nil); got != 1 {
		t.Errorf("the other claims %d of those that the first had no room for, want 1", got)
	}
}

// What stands from a floor on is for a claim that goes on there: a sweep of many lanes with a backlog each is one claim.
func TestASweepReadsLanesUpToTheirFloors(t *testing.T) {
	t.Parallel()
	r := sweepRig{newClaimRig(t)}
	var late []int64
	for _, queue := range []string{"a", "b"} {
		ids := r.enqueued(600, WithQueue(queue))
		r.exec("update anchor_tasks set next_run = next_run - interval '1 minute' where id = $1", ids[0])
		late = append(late, ids[0])
	}
	s := r.worker([]string{"Claimed"}, nil)
	floor := position{readOne[time.Time](r.pgRig, "select min(next_run) from anchor_tasks where not id = any ($1)", late), 0}
	s.floors.raise(lane{"a", 0}, floor, false)
	s.floors.raise(lane{"b", 0}, floor, false)
	s.floors.hot = []string{"a", "b"}
	req := claimRequest{names: []string{"Claimed"}, limit: largeClaim, firstHand: largeClaim, sweep: true}
	sweep, err := s.claim(t.Context(), req)
	must(t, err)
	if diff := cmp.Diff(late, claimedIDs(sweep.tasks)); diff != "" {
		t.Errorf("the sweep claims (-want +got):\n%s", diff)
	}
	if !sweep.more || s.floors.sweeping {
		t.Errorf("there is more: %t; the sweep goes on: %t", sweep.more, s.floors.sweeping)
	}
	req.sweep = false
	onward, err := s.claim(t.Context(), req)
	must(t, err)
	if len(onward.tasks) != largeClaim {
		t.Errorf("the next claim has %d tasks, want %d", len(onward.tasks), largeClaim)
	}
}

// A sweep that found nothing before the floors is followed by a claim from there at once.
func TestNoTaskWaitsForASweepThatFoundNothing(t *testing.T) {
	t.Parallel()
	r := sweepRig{newClaimRig(t)}
	r.enqueued(1)
	s := r.worker([]string{"Claimed"}, nil)
	s.floors.raise(lane{"default", 0}, position{time.Unix(0, 0), 0}, false)
	s.floors.hot = []string{"default"}
	sweep, err := s.claim(t.Context(), claimRequest{names: []string{"Claimed"}, limit: largeClaim, firstHand: largeClaim, sweep: true})
	must(t, err)
	if len(sweep.tasks) != 0 || !sweep.more || sweep.again > time.Millisecond {
		t.Errorf("the sweep claims %d tasks, there is more: %t, to be looked for in %s", len(sweep.tasks), sweep.more, sweep.again)
	}
}
