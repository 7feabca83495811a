package anchor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestAClaimIsSettledWithTheLastOfItsTasks(t *testing.T) {
	t.Parallel()
	const me = "me"
	var held heldClaims
	tasks := []*claimedTask{{id: 1}, {id: 2}, {id: 3}}
	held.add(me, 7, tasks)
	for _, task := range []*claimedTask{tasks[0], tasks[1], tasks[0], tasks[0], tasks[1]} {
		task.settle()
		if tokens := tokensOf(held.take(me, 1)); tokens != nil {
			t.Fatalf("settled with task 3 left: %v", tokens)
		}
	}
	tasks[2].settle()
	claims := held.take(me, 1)
	if diff := cmp.Diff([]int64{7}, tokensOf(claims)); diff != "" {
		t.Errorf("settled (-want +got):\n%s", diff)
	}
	if tokens := tokensOf(held.take(me, 1)); tokens != nil {
		t.Errorf("taken a second time: %v", tokens)
	}
	held.put(claims)
	if diff := cmp.Diff([]int64{7}, tokensOf(held.take(me, 1))); diff != "" {
		t.Errorf("settled, after the database was not reached (-want +got):\n%s", diff)
	}
	held.put(claims)
	if tokens := tokensOf(held.take("another", 1)); tokens != nil {
		t.Errorf("of another worker: %v", tokens)
	}
	held.add(me, 8, nil)
	if diff := cmp.Diff([]int64{8}, tokensOf(held.take(me, 1))); diff != "" {
		t.Errorf("settled, of what the session was before or without tasks (-want +got):\n%s", diff)
	}
	(&claimedTask{id: 4}).settle() // of a store that does not count
}

func TestAClaimIsSettledOnceByManyAtATime(t *testing.T) {
	t.Parallel()
	var held heldClaims
	tasks := make([]*claimedTask, 1000)
	for i := range tasks {
		tasks[i] = &claimedTask{id: int64(i)}
	}
	held.add("me", 7, tasks)
	var settling sync.WaitGroup
	for range 4 {
		settling.Go(func() {
			for _, task := range tasks {
				task.settle()
			}
		})
	}
	settling.Wait()
	if diff := cmp.Diff([]int64{7}, tokensOf(held.take("me", 1))); diff != "" {
		t.Errorf("settled (-want +got):\n%s", diff)
	}
}

// claimRig has sessions of its own instead of workers. Its leases last.
type claimRig struct {
	*pgRig
	task *Task[noParams]
}

func newClaimRig(t *testing.T) *claimRig {
	t.Helper()
	return &claimRig{newPG(t), Define("Claimed", func(context.Context, pgx.Tx, *noParams) error { return nil })}
}

// enqueued are the ids of new tasks.
func (r *claimRig) enqueued(n int, opts ...RunOption) []int64 {
	r.t.Helper()
	ids, err := r.task.RunMany(r.t.Context(), r.newClient(r.task), manyParams(n), opts...)
	must(r.t, err)
	return ids
}

func (r *claimRig) session() *pgSession {
	r.t.Helper()
	opened, err := r.store.openSession(r.t.Context(), workerRecord{
		id: newWorkerID(), host: "h", pid: 1, lease: time.Hour, names: []string{"Claimed"}, slots: 100, crons: map[string]string{},
	})
	must(r.t, err)
	r.t.Cleanup(func() { _ = opened.close(context.Background()) })
	return opened.(*pgSession)
}

func (r *claimRig) claim(s *pgSession, want int) []*claimedTask {
	r.t.Helper()
	return r.claimUpTo(s, 100, want)
}

// claimUpTo claims at most limit tasks.
func (r *claimRig) claimUpTo(s *pgSession, limit, want int) []*claimedTask {
	r.t.Helper()
	got, err := s.claim(r.t.Context(), claimRequest{names: []string{"Claimed"}, limit: limit, firstHand: limit, sweep: true, fresh: true})
	must(r.t, err)
	if len(got.tasks) != want {
		r.t.Fatalf("%d tasks were claimed, want %d", len(got.tasks), want)
	}
	return got.tasks
}

func (r *claimRig) finish(s *pgSession, outcome outcome, tasks ...*claimedTask) {
	r.t.Helper()
	var batch []finishedAttempt
	for _, task := range tasks {
		batch = append(batch, finishedAttempt{task: task, outcome: outcome})
	}
	_, err := s.finish(r.t.Context(), batch)
	must(r.t, err)
}

func (r *claimRig) beat(s *pgSession) {
	r.t.Helper()
	_, err := s.heartbeat(r.t.Context(), false)
	must(r.t, err)
}

func (r *claimRig) takeBack(s *pgSession, limit int) takenBack {
	r.t.Helper()
	taken, err := s.takeBack(r.t.Context(), []string{"Claimed"}, limit)
	must(r.t, err)
	return taken
}

// die ends a worker's lease.
func (r *claimRig) die(s *pgSession) {
	r.t.Helper()
	r.exec("update anchor_workers set lease_until = clock_timestamp() where id = $1::uuid", s.id())
}

// want checks how many claims are noted, how many tasks run and how many are pending.
func (r *claimRig) want(when string, noted, running, pending int) {
	r.t.Helper()
	got := [3]int{
		readOne[int](r.pgRig, "select count(*) from anchor_claims"),
		readOne[int](r.pgRig, "select count(*) from anchor_tasks where status = 'running'"),
		readOne[int](r.pgRig, "select count(*) from anchor_tasks where status = 'pending'"),
	}
	if diff := cmp.Diff([3]int{noted, running, pending}, got); diff != "" {
		r.t.Errorf("%s, claims noted, tasks running and pending (-want +got):\n%s", when, diff)
	}
}

func TestAClaimIsNotedUntilItsTasksAreSettled(t *testing.T) {
	t.Parallel()
	for _, how := range []outcome{outcomeCompleted, outcomeRetried, outcomeFailed, outcomeReleased, outcomeCancelled} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			r := newClaimRig(t)
			ids := r.enqueued(3)
			s := r.session()
			tasks := r.claim(s, 3)
			noted := readOne[[]int64](r.pgRig, "select ids from anchor_claims where worker_id = $1::uuid and token = $2", s.id(), tasks[0].token)
			if diff := cmp.Diff(ids, noted); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
			r.finish(s, outcomeCompleted, tasks[0], tasks[2])
			r.beat(s)
			r.want("with one task left", 1, 1, 0)
			r.finish(s, how, tasks[1])
			r.beat(s)
			if n := readOne[int](r.pgRig, "select count(*) from anchor_claims"); n != 0 {
				t.Errorf("%d claims are noted at the end, want none", n)
			}
		})
	}
}

// A claim deletes what was noted of those before it, together and before any heartbeat.
func TestAClaimForgetsThoseThatAreSettled(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	s := r.session()
	for i := range forgetTogether {
		r.want("before", i, 0, 0)
		r.enqueued(1)
		r.finish(s, outcomeCompleted, r.claim(s, 1)...)
	}
	r.enqueued(1)
	tasks := r.claim(s, 1)
	if diff := cmp.Diff([]int64{tasks[0].token}, readAll[int64](r.pgRig, "select token from anchor_claims")); diff != "" {
		t.Errorf("noted (-want +got):\n%s", diff)
	}
}

func TestAClaimOfSeveralLanesIsNotedAsAWhole(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(2, WithPriority(1))
	r.enqueued(2, WithPriority(2))
	s := r.session()
	tasks := r.claim(s, 4)
	r.want("claimed", 2, 4, 0)
	r.finish(s, outcomeCompleted, tasks[1:]...)
	r.beat(s)
	r.want("with one task left", 2, 1, 0)
	r.die(s)
	if taken := r.takeBack(r.session(), 100); taken.count != 1 {
		t.Errorf("%d tasks were taken back, want 1", taken.count)
	}
	r.want("taken back", 0, 0, 1)
}

// Nobody would ever take back what runs without being noted, so no mistake of a worker may bring that about.
func TestWhatRunsStaysNotedWhateverItsWorkerSays(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(2)
	s := r.session()
	tasks := r.claim(s, 2)
	r.finish(s, outcomeCompleted, tasks[0])
	s.held.put([]*heldClaim{tasks[1].claim})
	r.beat(s)
	r.want("after a heartbeat that calls it settled", 1, 1, 0)
	s.held.put(slices.Repeat([]*heldClaim{tasks[1].claim}, forgetTogether))
	r.claim(s, 0)
	r.want("after a claim that does", 1, 1, 0)
}

// Whether anything of a claim runs is read by its ids, or by walking over them where they stand close together.
func TestAClaimStaysNotedWhileAnyOfItsTasksRuns(t *testing.T) {
	t.Parallel()
	for _, gap := range []int64{1, 1000} {
		for _, last := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("gap %d, task %d", gap, last), func(t *testing.T) {
				t.Parallel()
				r := newClaimRig(t)
				ids := r.enqueued(6)
				r.exec("update anchor_tasks set id = $1 + (id - $1) * $2", ids[0], gap)
				s := r.session()
				tasks := r.claimUpTo(s, 3, 3)
				r.claim(s, 3) // another's tasks run all the while
				for i, task := range tasks {
					if i != last {
						r.finish(s, outcomeCompleted, task)
					}
				}
				forget := func() {
					r.exec("select anchor_forget_claims($1::uuid, array[$2::bigint])", s.id(), tasks[0].token)
				}
				forget()
				r.want("with one that runs", 2, 4, 0)
				r.finish(s, outcomeCompleted, tasks[last])
				forget()
				r.want("with none", 1, 3, 0)
			})
		}
	}
}

func TestWhatCouldNotBeFinishedStaysNoted(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.enqueued(2)
	s := r.session()
	tasks := r.claim(s, 2)
	holder, err := r.pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = holder.Rollback(context.Background()) }()
	_, err = holder.Exec(t.Context(), "select from anchor_tasks_hot where id = $1 for update", tasks[1].id)
	must(t, err)
	batch := []finishedAttempt{{task: tasks[0]}, {task: tasks[1]}}
	if _, err := s.finish(t.Context(), batch); err == nil {
		t.Fatal("finished what somebody holds")
	}
	if tokens := tokensOf(s.held.take(s.id(), 1)); tokens != nil {
		t.Errorf("settled with a task that is held: %v", tokens)
	}
	must(t, holder.Rollback(t.Context()))
	r.finish(s, outcomeCompleted, tasks[1])
	if diff := cmp.Diff([]int64{tasks[0].token}, tokensOf(s.held.take(s.id(), 1))); diff != "" {
		t.Errorf("settled (-want +got):\n%s", diff)
	}
}

// A claim is a HOT update: no index has anything that it changes, and its page has room.
func TestAClaimTouchesNoIndexOfTheTasks(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.exec("alter table anchor_tasks_hot set (autovacuum_enabled = off)")
	r.enqueued(5000)
	s := r.session()
	tx, err := r.pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	look, _ := (&claimFloors{}).next(claimRequest{limit: 5000, firstHand: 5000, sweep: true}, time.Now())
	found, err := s.plainClaim(t.Context(), tx, claimCall{worker: s.id(), token: 7, req: claimRequest{names: []string{"Claimed"}, firstHand: 5000}, look: look})
	must(t, err)
	var hot int
	must(t, tx.QueryRow(t.Context(), "select pg_stat_get_xact_tuples_hot_updated('anchor_tasks_hot'::regclass)").Scan(&hot))
	// What a claim adds is much of a task without parameters: the last of a page may not fit.
	if len(found.tasks) != 5000 || hot < 4500 {
		t.Errorf("%d of %d claims were HOT updates, want at least 4500 of 5000", hot, len(found.tasks))
	}
}

// What runs stands where claims look: it must neither hide what is ready, nor be passed again by each claim.
func TestRunningTasksDoNotHideOurs(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.fill(3*claimWalk, "Recorded", "default", "-1 hour")
	rig.exec(`update anchor_tasks_hot set status = 'running', attempts = 1, claim_token = 1, worker_id = gen_random_uuid(), started_at = now()`)
	task, _ := newRecorder("Recorded")
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(time.Hour))
	for range 3 {
		rig.ended(client, enqueue(rig, client, task, &caseParams{"ours"}))
	}
}

// What others are about to claim, seen from the beginning of a lane, is no reason to come home with nothing.
func TestASweepPassesWhatOthersAreClaiming(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	ids := r.enqueued(300)
	s := r.session()
	other, err := r.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := other.Exec(t.Context(), "select from anchor_tasks_hot where id <= $1 for update", ids[149]); err != nil {
		t.Fatal(err)
	}
	tasks := r.claim(s, 100)
	for i, task := range tasks {
		if task.id != ids[150+i] {
			t.Fatalf("task %d of the claim is %d, want %d", i, task.id, ids[150+i])
		}
	}
}

// Large claims of one lane take turns, so that none passes what others are claiming. One that comes to no end, because its
// process is stopped, holds up another for a moment only.
func TestLargeClaimsTakeTurns(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	ids := r.enqueued(2000)
	begin := func() pgx.Tx {
		tx, err := r.connect().Begin(t.Context())
		must(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		return tx
	}
	s := r.session()
	claim := func(what string, tx pgx.Tx, limit int, want []int64, wantTurn, wantCrowded bool) {
		t.Helper()
		var floors claimFloors
		look, _ := floors.next(claimRequest{limit: limit, hinted: []string{"default"}}, time.Now())
		// A look that goes on where another has ended.
		look.heads, look.starts, look.priorities, look.ids, look.careful = false, []int32{1, 2}, []int32{0}, []int64{0}, []bool{false}
		look.nextRuns = []time.Time{time.Unix(0, 0)}
		found, err := s.plainClaim(t.Context(), tx, claimCall{worker: s.id(), token: newToken(), req: claimRequest{names: []string{"Claimed"}, firstHand: limit}, look: look})
		must(t, err)
		if found.crowded != wantCrowded {
			t.Errorf("%s has waited in vain: %t, want %t", what, found.crowded, wantCrowded)
		}
		var got []int64
		for _, task := range found.tasks {
			got = append(got, task.id)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s claimed (-want +got):\n%s", what, diff)
		}
		var turn bool
		must(t, tx.QueryRow(t.Context(), `select exists (select from pg_locks
			where locktype = 'advisory' and classid = 1634624364 and granted and pid = pg_backend_pid())`).Scan(&turn))
		if turn != wantTurn {
			t.Errorf("%s has its turn: %t, want %t", what, turn, wantTurn)
		}
	}
	first := begin()
	claim("the first", first, 500, ids[:500], true, false)
	claim("one that waited for the first in vain", begin(), 500, ids[500:1000], false, true)
	claim("a small one", begin(), 100, ids[1000:1100], false, false)
	must(t, first.Commit(t.Context()))
	claim("one behind the first", begin(), 500, ids[1100:1600], true, false)
}

// A look from the beginning of a lane takes what came to stand before the floor, and goes on behind it.
func TestALookFromTheBeginningGoesOnAtTheFloor(t *testing.T) {
	t.Parallel()
	for _, late := range []int{0, 2, 500, 700} {
		t.Run(strconv.Itoa(late), func(t *testing.T) {
			t.Parallel()
			r := newClaimRig(t)
			ids := r.enqueued(2000)
			s := r.session()
			claim := func(req claimRequest) (got []int64) {
				t.Helper()
				req.names, req.limit, req.firstHand = []string{"Claimed"}, 500, 500
				claimed, err := s.claim(t.Context(), req)
				must(t, err)
				for _, task := range claimed.tasks {
					got = append(got, task.id)
				}
				return got
			}
			if diff := cmp.Diff(ids[:500], claim(claimRequest{hinted: []string{"default"}})); diff != "" {
				t.Fatalf("claimed first (-want +got):\n%s", diff)
			}
			first := len(ids) - late // of those that come to stand before the others
			r.exec("update anchor_tasks set next_run = next_run - interval '1 hour' where id >= $1", ids[500]+int64(first-500))
			want := slices.Concat(ids[first:], ids[500:first])
			s.floors.nextHead = time.Time{}
			got := claim(claimRequest{sweep: true})
			for range 2 {
				got = append(got, claim(claimRequest{})...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("claimed then (-want +got):\n%s", diff)
			}
		})
	}
}
