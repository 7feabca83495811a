package anchor

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"
)

// A claim that has its turn does not lock what it will update. Others that come in between, whatever they do, get what they
// were faster with and are not harmed; it claims the rest, without a word of failure.
func TestAClaimShrugsOffWhoComesInBetween(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		others  func(r frontRig, ids []int64) // behind the first task, while a claim of the first 500 has got to that
		pending bool                          // their tasks still are
		left    []int64                       // places of their tasks
	}{
		"one is cancelled": {func(r frontRig, ids []int64) {
			must(r.t, r.newClient(r.task).Cancel(r.t.Context(), ids[499]))
		}, false, []int64{499}},
		"one is claimed": {func(r frontRig, ids []int64) {
			r.claimUpTo(r.session(), 1, 1)
		}, false, []int64{1}},
		"one is claimed and completed": {func(r frontRig, ids []int64) {
			s := r.session()
			r.finish(s, outcomeCompleted, r.claimUpTo(s, 1, 1)...)
		}, false, []int64{1}},
		"one is claimed and retried later": {func(r frontRig, ids []int64) {
			s := r.session()
			_, err := s.finish(r.t.Context(), []finishedAttempt{{task: r.claimUpTo(s, 1, 1)[0], outcome: outcomeRetried, after: time.Hour}})
			must(r.t, err)
		}, true, []int64{1}},
		"one is claimed and given back": {func(r frontRig, ids []int64) {
			s := r.session()
			r.finish(s, outcomeReleased, r.claimUpTo(s, 1, 1)...)
		}, false, nil},
		"two hold one": {func(r frontRig, ids []int64) {
			for range 2 {
				holder := r.connect()
				_, err := holder.Exec(r.t.Context(), "begin")
				must(r.t, err)
				_, err = holder.Exec(r.t.Context(), "select from anchor_tasks_hot where id = $1 for share", ids[250])
				must(r.t, err)
			}
		}, true, []int64{250}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := frontRig{newClaimRig(t)}
			ids := r.enqueued(600)
			r.exec(`create function come_between() returns trigger language plpgsql as $$
				declare was text := current_setting('lock_timeout');
				begin
					perform set_config('lock_timeout', '0', true);
					perform pg_advisory_xact_lock(42);
					perform set_config('lock_timeout', was, true);
					return new;
				end $$`)
			r.exec("create trigger come_between before update on anchor_tasks_hot for each row when (old.id = " + strconv.FormatInt(ids[0], 10) + ") execute function come_between()")
			gate := r.connect()
			_, err := gate.Exec(t.Context(), "select pg_advisory_lock(42)")
			must(t, err)
			s := r.session()
			var got []*claimedTask
			claimed := make(chan error, 1)
			s.floors.raise(lane{"default", 0}, position{time.Unix(0, 0), 0}, false)
			s.floors.nextHead = time.Now().Add(time.Hour)
			claim := func(hinted ...string) error {
				found, err := s.claim(t.Context(), claimRequest{names: []string{"Claimed"}, limit: 500, firstHand: 500, hinted: hinted})
				got = append(got, found.tasks...)
				return err
			}
			go func() { claimed <- claim("default") }()
			eventually(t, "the claim has got to its first task", func() bool {
				return readOne[bool](r.pgRig, "select exists (select from pg_locks where locktype = 'advisory' and objid = 42 and not granted and database = (select oid from pg_database where datname = current_database()))")
			})
			c.others(r, ids)
			_, err = gate.Exec(t.Context(), "select pg_advisory_unlock(42)")
			must(t, err)
			if err := receive(t, "the claim has ended", claimed); err != nil {
				t.Fatalf("the claim failed: %v", err)
			}
			// Whether what was given back is claimed after all depends on the release of PostgreSQL.
			if s.floors.optimistic.IsZero() && c.left != nil {
				t.Error("the next claim does not lock what it will update")
			}
			for range 5 {
				must(t, claim())
			}
			_, found := r.fromTheBeginning(s) // what was given back stands before what was claimed
			got = append(got, found...)
			var gotIDs, want []int64
			for _, task := range got {
				gotIDs = append(gotIDs, task.id)
			}
			slices.Sort(gotIDs)
			for i, id := range ids {
				if !slices.Contains(c.left, int64(i)) {
					want = append(want, id)
				}
			}
			r.wantIDs("claimed", want, gotIDs)
			pending := readAll[int64](r.pgRig, "select id from anchor_tasks where status = 'pending' order by id")
			wantPending := []int64{}
			for _, i := range c.left {
				if c.pending {
					wantPending = append(wantPending, ids[i])
				}
			}
			r.wantIDs("pending", wantPending, pending)
			r.finish(s, outcomeCompleted, got...)
			_, err = s.heartbeat(context.WithoutCancel(t.Context()), false)
			must(t, err)
			if n := readOne[int](r.pgRig, "select count(*) from anchor_claims where worker_id = $1::uuid", s.id()); n != 0 {
				t.Errorf("%d claims are noted at the end, want none", n)
			}
		})
	}
}
