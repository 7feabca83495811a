package anchor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// frontRig claims from floors and from beginnings, as tests ask for it, of one lane.
type frontRig struct {
	*claimRig
}

// onward claims up to 500 tasks from a session's floor, from time 0 if it has none.
func (r frontRig) onward(s *pgSession, firstHand int, names ...string) (ids []int64, tasks []*claimedTask) {
	r.t.Helper()
	if s.floors.count == 0 {
		s.floors.raise(lane{"default", 0}, position{time.Unix(0, 0), 0}, false)
	}
	s.floors.nextHead = time.Now().Add(time.Hour)
	return r.look(s, claimRequest{names: names, limit: 500, firstHand: firstHand, hinted: []string{"default"}})
}

// fromTheBeginning claims up to 500 tasks by a look from the beginning of the lane.
func (r frontRig) fromTheBeginning(s *pgSession) (ids []int64, tasks []*claimedTask) {
	r.t.Helper()
	s.floors.nextHead = time.Time{}
	return r.look(s, claimRequest{names: []string{"Claimed"}, limit: 500, firstHand: 500, hinted: []string{"default"}})
}

func (r frontRig) look(s *pgSession, req claimRequest) (ids []int64, tasks []*claimedTask) {
	r.t.Helper()
	found, err := s.claim(r.t.Context(), req)
	must(r.t, err)
	for _, task := range found.tasks {
		ids = append(ids, task.id)
	}
	return ids, found.tasks
}

func (r frontRig) wantIDs(what string, want, got []int64) {
	r.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// A claim that has its turn begins where the others' claims of the same names have ended. What stands before that is
// found by looks from the beginning.
func TestALargeClaimBeginsWhereOthersHaveEnded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tasks     int // the first worker asks for 500 of them
		firstHand int // of these, of which ten are there
		second    []string
		future    bool // the clock was set back since
		passed    bool
	}{
		"the same names":            {700, 500, []string{"Claimed"}, false, true},
		"nothing stands behind it":  {500, 500, []string{"Claimed"}, false, true},
		"other names":               {700, 500, []string{"Claimed", "Other"}, false, false},
		"less was there than asked": {499, 500, []string{"Claimed"}, false, false},
		"some had to be left":       {700, 5, []string{"Claimed"}, false, false},
		"the time is yet to come":   {700, 500, []string{"Claimed"}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := frontRig{newClaimRig(t)}
			ids := r.enqueued(c.tasks)
			r.exec("update anchor_tasks set attempts = 1 where id = any ($1)", ids[100:110])
			first := r.session()
			_, tasks := r.onward(first, c.firstHand, "Claimed")
			r.finish(first, outcomeReleased, tasks[0])
			r.finish(first, outcomeCompleted, tasks[1:]...)
			if c.future {
				r.exec("update anchor_claims set to_next_run = to_next_run + interval '1 hour'")
			}
			s := r.session()
			claimed, _ := r.onward(s, 500, c.second...)
			if passed := !slices.Contains(claimed, ids[0]); passed != c.passed {
				t.Fatalf("it passed a task before the end of the other's claim: %t, want %t", passed, c.passed)
			}
			if !c.passed {
				return
			}
			if at := s.floors.floors["default"][0].at; at.id < ids[499] {
				t.Errorf("its floor is at %d, want the other's end or behind that, %d", at.id, ids[499])
			}
			claimed, tasks = r.fromTheBeginning(s)
			r.wantIDs("claimed from the beginning", ids[:1], claimed)
			r.finish(s, outcomeReleased, tasks...)
			third := r.session()
			third.floors.raise(lane{"default", 0}, position{time.Unix(0, 0), 0}, false)
			claimed, _ = r.fromTheBeginning(third)
			r.wantIDs("claimed from the beginning, which its floor is before", ids[:1], claimed)
		})
	}
}

// What a worker had to leave, because it has no free slot for it, is claimed by its next looks, however far others came meanwhile.
func TestWhatHadToBeLeftIsNotPassedBy(t *testing.T) {
	t.Parallel()
	r := frontRig{newClaimRig(t)}
	ids := r.enqueued(1500)
	r.exec("update anchor_tasks set attempts = 1 where id = any ($1)", ids[100:110])
	s := r.session()
	claimed, _ := r.onward(s, 0, "Claimed")
	r.wantIDs("claimed without a free slot", ids[:100], claimed)
	other := r.session()
	r.exec("update anchor_tasks set next_run = clock_timestamp() where id >= $1", ids[600])
	at := readOne[time.Time](r.pgRig, "select next_run from anchor_tasks where id = $1", ids[600])
	other.floors.raise(lane{"default", 0}, position{at, 0}, false) // it met those that were left while they were held
	_, tasks := r.onward(other, 500, "Claimed")
	r.finish(other, outcomeReleased, tasks[0])
	claimed, _ = r.onward(s, 500, "Claimed")
	r.wantIDs("claimed with free slots", ids[100:600], claimed)
	claimed, _ = r.onward(s, 500, "Claimed")
	r.wantIDs("claimed behind the other's end", ids[1100:1500], claimed)
}

// Many tasks that come to stand before what was claimed are claimed one look after the other, once one look has found them.
func TestWhatCameLateIsNotPassedBy(t *testing.T) {
	t.Parallel()
	r := frontRig{newClaimRig(t)}
	ids := r.enqueued(2500)
	late, rest := ids[:2000], ids[2000:]
	r.exec("update anchor_tasks set next_run = clock_timestamp() + interval '1 hour' where id < $1", rest[0])
	s := r.session()
	claimed, _ := r.onward(s, 500, "Claimed")
	r.wantIDs("claimed at first", rest, claimed)
	r.exec("update anchor_tasks set next_run = clock_timestamp() - interval '1 hour' where id < $1", rest[0])
	got, _ := r.fromTheBeginning(s)
	for range 3 {
		claimed, _ := r.onward(s, 500, "Claimed")
		got = append(got, claimed...)
	}
	slices.Sort(got)
	r.wantIDs("claimed then", late, got)
}

// The farthest front is found by one descent of its index, whatever the statistics.
func TestFrontIsFoundByItsIndex(t *testing.T) {
	t.Parallel()
	rig := newPlanRig(t)
	rig.exec("alter table anchor_claims set (autovacuum_enabled = off)")
	rig.fill(2000)
	check := func(what string) {
		t.Helper()
		rig.claimPlans(1000, planOfFloors)
		looks := 0
		for _, notice := range rig.notices {
			if !strings.Contains(notice, "plan:") || !strings.Contains(notice, "c.front = v_front") {
				continue
			}
			looks++
			_, nodes, _ := strings.Cut(notice, "limit 1")
			if !strings.Contains(nodes, "Scan Backward using anchor_claims_fronts") || strings.Contains(nodes, "Sort") || strings.Contains(nodes, "Filter") {
				t.Errorf("%s, the plan of a look for the front is\n%s", what, notice)
			}
		}
		if looks == 0 {
			t.Errorf("%s, there was no look for a front", what)
		}
	}
	check("empty")
	rig.exec(`insert into anchor_claims (worker_id, token, part, ids, front, to_next_run, to_id)
		select $1, i, 1, '{1}', nullif(i % 100, 0), now() - interval '1 ms' * i, i from generate_series(100, 5000) i`, planWorker)
	check("filled, never analysed")
	rig.exec("analyze anchor_claims")
	check("filled and analysed")
	rig.exec("delete from anchor_claims")
	rig.exec("analyze anchor_claims")
	check("analysed when it was empty")
}
