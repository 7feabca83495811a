package anchor

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func (r *claimRig) wantWorkers(want int) {
	r.t.Helper()
	if n := readOne[int](r.pgRig, "select count(*) from anchor_workers"); n != want {
		r.t.Errorf("%d workers are on record, want %d", n, want)
	}
}

// A crash between the end of some tasks and their being forgotten gives back the others only.
func TestOnlyWhatStillRunsIsTakenBack(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(3)
	dead, survivor := r.session(), r.session()
	tasks := r.claim(dead, 3)
	r.finish(dead, outcomeCompleted, tasks[0])
	r.finish(dead, outcomeReleased, tasks[1])
	again := r.claim(survivor, 1)
	r.die(dead)
	if taken := r.takeBack(survivor, 100); taken.count != 1 {
		t.Errorf("%d tasks were taken back, want 1", taken.count)
	}
	r.want("taken back", 1, 1, 1)
	r.wantWorkers(1)
	if info, err := r.newClient().Task(t.Context(), again[0].id); err != nil || info.WorkerID != survivor.id() {
		t.Errorf("what the survivor had claimed: %+v, %v", info, err)
	}
}

// The row of a claim that has ended harms nobody when its worker dies before it is forgotten.
func TestAClaimThatIsLeftOverGoesWithItsWorker(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(2)
	dead := r.session()
	r.finish(dead, outcomeCompleted, r.claim(dead, 2)...)
	r.want("finished", 1, 0, 0)
	r.die(dead)
	if taken := r.takeBack(r.session(), 100); taken.count != 0 {
		t.Errorf("%d tasks were taken back, want none", taken.count)
	}
	r.want("taken back", 0, 0, 0)
	r.wantWorkers(1)
}

func TestWhatIsTakenBackInPiecesStaysNotedUntilTheLast(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	dead, survivor := r.session(), r.session()
	const count = 210
	for range count {
		r.enqueued(1)
		r.claim(dead, 1)
	}
	r.die(dead)
	r.want("claimed", count, count, 0)
	for i, left := range []int{60, 0, 0} {
		if taken, want := r.takeBack(survivor, 150).count, []int{150, 60, 0}[i]; taken != want {
			t.Errorf("taking back %d: %d tasks, want %d", i+1, taken, want)
		}
		r.want("taken back", left, left, count-left)
	}
	r.wantWorkers(1)
}

// A worker that is alone takes back what it held under the id that it has lost.
func TestALoneWorkerTakesBackFromItsFormerSelf(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(2)
	s := r.session()
	tasks := r.claim(s, 2)
	former := s.id()
	r.finish(s, outcomeCompleted, tasks[0])
	beat, err := s.heartbeat(t.Context(), true)
	if err != nil || beat.workerID == former {
		t.Fatalf("%+v, %v, want another id than %s", beat, err, former)
	}
	s.adopt(beat.workerID)
	r.finish(s, outcomeCompleted, tasks[1]) // as far as it knows, it is still its own
	r.claim(s, 0)
	r.want("under another id", 1, 0, 0)
	r.takeBack(s, 100)
	r.want("taken back", 0, 0, 0)
	r.wantWorkers(1)
}

// exhaust leaves one task without attempts in the hands of a dead worker.
func (r *claimRig) exhaust() int64 {
	r.t.Helper()
	id := r.enqueued(1, WithRetryPolicy("1s", 1))[0]
	dead := r.session()
	r.claim(dead, 1)
	r.die(dead)
	return id
}

func TestAnExhaustedTaskIsNotedForWhoeverTookItBack(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	id := r.exhaust()
	first, second := r.session(), r.session()
	if taken := r.takeBack(first, 100); len(taken.exhausted) != 1 {
		t.Fatalf("taken back %+v, want one exhausted task", taken)
	}
	r.want("in the hands of the first", 1, 1, 0)
	r.die(first)
	taken := r.takeBack(second, 100)
	if len(taken.exhausted) != 1 {
		t.Fatalf("taken back %+v, want one exhausted task", taken)
	}
	r.want("in the hands of the second", 1, 1, 0)
	must(t, second.fail(t.Context(), taken.exhausted[0], finalFailure{message: "over", idle: callTimeout}))
	r.beat(second)
	r.want("failed", 0, 0, 0)
	if info, err := r.newClient().Task(t.Context(), id); err != nil || info.Status != StatusFailed || info.Attempts != 1 {
		t.Errorf("%+v, %v, want it failed after 1 attempt", info, err)
	}
}

// What was taken back with an answer that was lost is nobody's, and taken back by the next.
func TestAnExhaustedTaskOfALostAnswerIsTakenBackAgain(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.exhaust()
	s := r.session()
	lost := lostToken{worker: s.id(), token: newToken()}
	rows, err := r.pool.Query(t.Context(), r.store.sql(takeBackTasks), lost.worker, lost.token, []string{"Claimed"}, 100)
	must(t, err)
	unseen, err := readTakenBack(rows, lost.worker, lost.token)
	must(t, err)
	s.remember(lost)
	for range 2 {
		r.beat(s)
		r.want("disowned", 1, 1, 0)
	}
	taken := r.takeBack(s, 100)
	if len(unseen.exhausted) != 1 || len(taken.exhausted) != 1 {
		t.Fatalf("taken back %+v, then %+v, want one exhausted task", unseen, taken)
	}
	r.want("taken back again", 1, 1, 0)
	r.finish(s, outcomeFailed, taken.exhausted[0])
	r.beat(s)
	r.want("failed", 0, 0, 0)
}

func TestAClaimOfALostAnswerIsGivenBackAndForgotten(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(3)
	s := r.session()
	lost := lostToken{worker: s.id(), token: newToken(), claimed: true}
	look, _ := (&claimFloors{}).next(claimRequest{limit: 2, firstHand: 2, sweep: true}, time.Now())
	_, err := s.plainClaim(t.Context(), r.pool, claimCall{worker: lost.worker, token: lost.token, req: claimRequest{names: []string{"Claimed"}, firstHand: 2}, look: look})
	must(t, err)
	r.want("claimed", 1, 2, 1)
	s.remember(lost)
	r.beat(s)
	r.want("given back", 0, 0, 3)
	if n := readOne[int](r.pgRig, "select sum(attempts) from anchor_tasks"); n != 0 {
		t.Errorf("%d attempts are counted, want none", n)
	}
}

// isolationLevels are what a database may have as its default.
var isolationLevels = []string{"read committed", "repeatable read", "serializable"}

func (r *claimRig) setIsolation(level string) {
	r.t.Helper()
	r.exec(fmt.Sprintf("alter database %s set default_transaction_isolation = '%s'",
		pgx.Identifier{readOne[string](r.pgRig, "select current_database()")}.Sanitize(), level))
	r.pool.Reset()
}

// claimUnderWay is a claim that is not committed yet, of a worker that is signed off or forgotten at that moment.
func (r *claimRig) claimUnderWay(s *pgSession) pgx.Tx {
	r.t.Helper()
	tx, err := r.pool.Begin(r.t.Context())
	must(r.t, err)
	r.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = tx.Exec(r.t.Context(), `select from anchor_claim($1::uuid, 7, '{Claimed}', 10, 10, 1000000, 20000, null, '', 0, '-infinity', 0, null, null, null, null, null)`, s.id())
	must(r.t, err)
	return tx
}

// A worker's row must outlive its claims: nobody looks for tasks of a worker that is not on record. Nor may a claim that
// does not come to its end, of a process that is stopped, keep what else it has from being taken back.
func TestAWorkerIsNotForgottenWhileItClaims(t *testing.T) {
	t.Parallel()
	for _, level := range isolationLevels {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			r := newClaimRig(t)
			r.setIsolation(level)
			dead, survivor := r.session(), r.session()
			r.enqueued(2)
			r.claim(dead, 2)
			r.enqueued(1)
			tx := r.claimUnderWay(dead)
			r.exec("update anchor_workers set lease_until = now() - interval '1 hour' where id = $1::uuid", dead.id())
			if taken := r.takeBack(survivor, 100); taken.count != 2 {
				t.Errorf("%d tasks were taken back while a claim was not committed, want the other 2", taken.count)
			}
			r.wantWorkers(2)
			must(t, tx.Commit(t.Context()))
			r.want("claimed", 1, 1, 2)
			if taken := r.takeBack(survivor, 100); taken.count != 1 {
				t.Errorf("%d tasks were taken back, want 1", taken.count)
			}
			r.want("taken back", 0, 0, 3)
			r.wantWorkers(1)
		})
	}
}

func TestAWorkerThatSignsOffWaitsForItsClaim(t *testing.T) {
	t.Parallel()
	for _, level := range isolationLevels {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			r := newClaimRig(t)
			r.setIsolation(level)
			r.enqueued(1)
			s := r.session()
			tx := r.claimUnderWay(s)
			ended := make(chan error, 1)
			go func() { ended <- s.signOff(context.Background()) }()
			eventually(t, "the sign-off to wait", func() bool {
				return readOne[int](r.pgRig, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") > 0
			})
			must(t, tx.Commit(t.Context()))
			must(t, receive(t, "the end of the sign-off", ended))
			r.wantWorkers(1)
			if taken := r.takeBack(r.session(), 100); taken.count != 1 {
				t.Errorf("%d tasks were taken back, want 1", taken.count)
			}
		})
	}
}

// A claim of a worker that has signed off, whose row is gone, must not take anything.
func TestAWorkerThatHasSignedOffClaimsNothing(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(1)
	s := r.session()
	must(t, s.signOff(t.Context()))
	if _, err := s.claim(t.Context(), claimRequest{names: []string{"Claimed"}, limit: 1, firstHand: 1, sweep: true}); err == nil {
		t.Error("claimed")
	}
	r.want("signed off", 0, 0, 1)
}
