package anchor

import (
	"slices"
	"testing"
	"time"
)

// looking is a claimFloors with a clock of its own and one look after the other.
type looking struct {
	t      *testing.T
	floors claimFloors
	now    time.Time
}

func newLooking(t *testing.T) *looking { return &looking{t: t, now: time.Unix(1_000_000, 0)} }

func (l *looking) next(req claimRequest) *claimLook {
	l.t.Helper()
	if req.limit == 0 {
		req.limit, req.firstHand = 100, 100
	}
	look, _ := l.floors.next(req, l.now)
	return look
}

// took is a look that took so long and found reports.
func (l *looking) took(look *claimLook, d time.Duration, reports ...laneReport) (more bool, again time.Duration) {
	began := l.now
	l.now = l.now.Add(d)
	return l.floors.looked(look, claimFound{reports: reports}, began, l.now)
}

func report(queue string, state laneState, id int64) laneReport {
	return laneReport{lane: lane{queue, 0}, state: state, at: position{time.Unix(1000, 0), id}, known: true}
}

// However long one look took, a second later polls find everything again.
func TestASlowLookDoesNotBlindTheNextPolls(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	l.took(l.next(claimRequest{sweep: true}), 8*time.Second)
	l.now = l.now.Add(time.Second)
	if look := l.next(claimRequest{sweep: true}); look == nil || !look.sweep {
		t.Errorf("a second behind a look of 8 s a poll looks at %+v", look)
	}
}

func TestASweepDoesNotStarveHintedQueues(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	l.took(l.next(claimRequest{sweep: true}), time.Millisecond, report("a", laneStopped, 1))
	for i := range 4 {
		l.now = l.now.Add(time.Second)
		look := l.next(claimRequest{hinted: []string{"b"}})
		if i%2 == 0 && (look.sweep || !look.heads || !slices.Contains(look.queues, "b")) {
			t.Fatalf("look %d: %+v, want the beginning of b", i, look)
		}
		if i%2 == 1 && (!look.sweep || look.from.queue != "a" || look.from.id == 0) {
			t.Fatalf("look %d: %+v, want the sweep to go on in a", i, look)
		}
		state := laneRead
		if look.sweep {
			state = laneStopped
		}
		l.took(look, time.Millisecond, report("a", state, int64(i+2)))
	}
}

// A queue of which a look has read enough is left to the sweep: it is not looked at again and again.
func TestABacklogOfOthersIsNotReadForEver(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	req := claimRequest{hinted: []string{"q"}}
	for looks := range 10 {
		look := l.next(req)
		req.hinted = nil
		if look == nil {
			if looks > 3 {
				t.Errorf("it took %d looks to come to rest", looks)
			}
			return
		}
		state := laneRead
		if look.heads {
			state = laneStopped
		}
		l.took(look, 50*time.Millisecond, report("q", state, int64(looks+1)))
		l.now = l.now.Add(2 * time.Second)
	}
	t.Error("the looks never come to rest")
}

// A large look from the beginning knows where to end its careful part.
func TestLooksFromTheBeginningKnowTheFloors(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	l.took(l.next(claimRequest{hinted: []string{"q"}}), time.Millisecond, report("q", laneRead, 50))
	l.now = l.now.Add(time.Second)
	for _, sweep := range []bool{false, true} {
		look := l.next(claimRequest{hinted: []string{"q"}, sweep: sweep, limit: largeClaim})
		if look == nil || !look.heads || look.sweep != sweep || !slices.Equal(look.floorQueues, []string{"q"}) || !slices.Equal(look.ids, []int64{50}) {
			t.Errorf("the look is %+v, want one from the beginning with the floor of q", look)
		}
	}
	if look := l.next(claimRequest{hinted: []string{"q"}, sweep: true, limit: largeClaim - 1}); !look.heads || look.floorQueues != nil {
		t.Errorf("the small look is %+v, want one from the beginning without a floor", look)
	}
}

// A look that failed is not repeated as it was: perhaps it met too many tasks of others behind a floor.
func TestASweepThatFailedIsCarefulNextTime(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	l.took(l.next(claimRequest{hinted: []string{"q"}}), time.Millisecond, report("q", laneLeft, 50))
	l.now = l.now.Add(time.Second)
	look := l.next(claimRequest{sweep: true, limit: largeClaim})
	if !look.sweep || !slices.Equal(look.careful, []bool{false}) {
		t.Fatalf("the look is %+v, want a sweep with the floor of q", look)
	}
	l.floors.failed(look)
	if look := l.next(claimRequest{limit: largeClaim}); !look.sweep || !slices.Equal(look.careful, []bool{true}) {
		t.Errorf("the look behind the one that failed is %+v", look)
	}
}

// Who has waited for its turn in vain does not do so again at once.
func TestACrowdedLaneIsNotWaitedForAgain(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	req := claimRequest{hinted: []string{"q"}, limit: largeClaim}
	look := l.next(req)
	if !look.wait {
		t.Error("the first look does not wait for its turn")
	}
	l.floors.looked(look, claimFound{crowded: true}, l.now, l.now)
	l.now = l.now.Add(crowdedPause - time.Millisecond)
	if l.next(req).wait {
		t.Error("the next look waits too")
	}
	l.now = l.now.Add(time.Millisecond)
	if !l.next(req).wait {
		t.Errorf("no look waits after %v", crowdedPause)
	}
}

// Who has met others that take no turns locks for a while what it will update.
func TestAContestedLaneIsLockedForAWhile(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	req := claimRequest{hinted: []string{"q"}, limit: largeClaim}
	look := l.next(req)
	if !look.optimistic {
		t.Error("the first look locks")
	}
	l.floors.contested(l.now)
	l.now = l.now.Add(contestedPause - time.Millisecond)
	if l.next(req).optimistic {
		t.Error("the next look does not lock")
	}
	l.now = l.now.Add(time.Millisecond)
	if !l.next(req).optimistic {
		t.Errorf("all looks lock after %v", contestedPause)
	}
}

// What others were faster with was not left for want of slots: the next look asks for as much, and at once.
func TestAContestedLookIsNoReasonToAskForLess(t *testing.T) {
	t.Parallel()
	for _, took := range []int{0, 3} {
		l := newLooking(t)
		req := claimRequest{hinted: []string{"q"}, limit: largeClaim}
		look := l.next(req)
		look.heads = false
		left := report("q", laneLeft, 0)
		left.known, left.contested = false, true
		tasks := make([]*claimedTask, took)
		for i := range tasks {
			tasks[i] = &claimedTask{queue: "q", nextRun: time.Unix(1000, 0), id: int64(i + 1)}
		}
		more, again := l.floors.looked(look, claimFound{tasks: tasks, reports: []laneReport{left}, contested: true}, l.now, l.now)
		if !more || again > time.Microsecond {
			t.Errorf("with %d tasks the next look comes %t in %v, want at once", took, more, again)
		}
		if look := l.next(claimRequest{limit: largeClaim}); look == nil || look.limit != largeClaim || slices.Contains(look.behind, true) {
			t.Errorf("with %d tasks the next look is %+v, want one as large, and as far", took, look)
		}
	}
}

// Where tasks were left is where the next look begins, carefully if that is behind what was read before.
func TestFloorsMoveToWhatWasLeft(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	l.took(l.next(claimRequest{hinted: []string{"q"}}), time.Millisecond, report("q", laneRead, 50))
	l.now = l.now.Add(time.Second)
	l.took(l.next(claimRequest{hinted: []string{"q"}}), 100*time.Millisecond, report("q", laneLeft, 20))
	look := l.next(claimRequest{})
	if look == nil || look.heads || !slices.Equal(look.ids, []int64{20}) || !slices.Equal(look.careful, []bool{true}) || !slices.Equal(look.starts, []int32{1, 2}) {
		t.Errorf("the next look is %+v, want one of q from 20, carefully", look)
	}
}

// Where others' claims have ended is no place to begin for who has left tasks before that.
func TestFloorsRememberWhatWasLeftBehindThem(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	for _, step := range []struct {
		what  string
		heads bool
		state laneState
		to    int64 // 0: the tasks tell
		found int   // of 100, the last of them at the floor
		floor int64
		want  bool
	}{
		{"tasks were left when it was first seen", true, laneLeft, 50, 0, 50, true},
		{"the next look came not that far", true, laneStopped, 30, 0, 50, true},
		{"one before them was full", true, laneLeft, 0, 100, 50, true},
		{"it was read to its end", false, laneRead, 50, 0, 50, false},
		{"tasks were left for want of slots", false, laneLeft, 0, 99, 51, true},
		{"all was claimed that was asked for", false, laneLeft, 0, 100, 52, false},
		{"there were tasks before it", true, laneLeft, 20, 100, 20, true},
		{"more of them were there", false, laneLeft, 0, 100, 40, true},
		{"there were some even before those", true, laneLeft, 10, 100, 10, true},
		{"they are claimed up to there", false, laneLeft, 0, 100, 40, true},
		{"they are claimed up to where it once was", false, laneLeft, 0, 100, 52, false},
	} {
		found := claimFound{reports: []laneReport{report("q", step.state, step.to)}}
		found.reports[0].known = step.to > 0
		for range step.found {
			found.tasks = append(found.tasks, &claimedTask{queue: "q", nextRun: found.reports[0].at.nextRun, id: step.floor})
		}
		l.floors.looked(&claimLook{limit: 100, heads: step.heads, queues: []string{"q"}}, found, l.now, l.now)
		var look claimLook
		l.floors.complete(&look, []string{"q"}, l.now)
		if !slices.Equal(look.ids, []int64{step.floor}) || !slices.Equal(look.behind, []bool{step.want}) {
			t.Errorf("once %s the floor is %d with tasks left there: %t; want %d: %t", step.what, look.ids, look.behind, step.floor, step.want)
		}
	}
}

// A lane of which tasks were left is one also when the claim was filled from the next.
func TestWhatWasLeftIsOfItsLane(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	found := claimFound{reports: []laneReport{report("q", laneLeft, 50), report("r", laneLeft, 60)}, tasks: make([]*claimedTask, 100)}
	for i := range found.tasks {
		found.tasks[i] = &claimedTask{queue: "r", nextRun: found.reports[1].at.nextRun, id: 60}
	}
	l.floors.looked(&claimLook{limit: 100, queues: []string{"q", "r"}}, found, l.now, l.now)
	var look claimLook
	l.floors.complete(&look, []string{"q", "r"}, l.now)
	if !slices.Equal(look.behind, []bool{true, false}) {
		t.Errorf("tasks were left at the floors: %t, want of the first", look.behind)
	}
}
