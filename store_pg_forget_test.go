package anchor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Of a table that was vacuumed empty the planner knows no size: any index that it may use for an id looks as good as the
// primary key, and a session keeps such a plan while the table fills.
func TestNoLookUpByIDWalksTheReadyIndex(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	r.exec("vacuum analyze anchor_tasks_hot")
	const worker = "00000000-0000-4000-8000-000000000001"
	r.exec("insert into anchor_claims (worker_id, token, part, ids) values ($1::uuid, 7, 1, '{1,2}')", worker)
	r.exec("vacuum analyze anchor_claims")
	for _, statement := range []string{
		"select anchor_complete('{1,2}', '{7,7}')",
		"select anchor_settle('{1,2}', '{7,7}', '{retried,failed}', '{0,0}', '{a,b}')",
		"select anchor_held('{1,2}')",
		"select anchor_complete_attempt(1, 7)",
		"select anchor_hold_claim(1, 7)",
		"select anchor_cancel(1)",
		"select anchor_is_live(1)",
		"select anchor_forget_claims('" + worker + "', '{7}')",
		"select anchor_forget_claims('" + worker + "', '{7}', true)",
	} {
		// It may say that the claim is lost.
		plans := r.plansOf("do $$ begin perform set_config('anchor.claim', '1:7', true); " + strings.Replace(statement, "select", "perform", 1) +
			"; exception when sqlstate 'AN001' then null; end $$")
		if len(plans) == 0 {
			t.Errorf("%s has no plan", statement)
		}
		for _, plan := range plans {
			if strings.Contains(inLane.ReplaceAllString(plan, ""), "anchor_tasks_ready") {
				t.Errorf("%s reads the ready index:\n%s", statement, plan)
			}
		}
	}
}

// inLane is the node of a plan that reads the ready index between two places of one lane.
var inLane = regexp.MustCompile(`Index Scan using anchor_tasks_ready on anchor_tasks_hot t\w*  \([^)]*\)\n` +
	`\s*Index Cond: \(\(queue = k\.queue\) AND \(priority = k\.priority\) AND \(ROW\(next_run, id\) >= ROW\([^)]*\)\) AND \(ROW\(next_run, id\) <= ROW\([^)]*\)\)\)\n`)

// newForgetRig has one claim of 500 tasks with a front, and the session whose it is. What setUp does is done before.
func newForgetRig(t *testing.T, setUp string) (r frontRig, s *pgSession, tasks []*claimedTask) {
	t.Helper()
	r = frontRig{newClaimRig(t)}
	r.enqueued(500)
	r.exec(setUp)
	s = r.session()
	_, tasks = r.onward(s, 500, "Claimed")
	if fronts := readOne[int](r.pgRig, "select count(*) from anchor_claims where front is not null"); len(tasks) != 500 || fronts != 1 {
		t.Fatalf("%d tasks were claimed, with %d fronts", len(tasks), fronts)
	}
	return r, s, tasks
}

func TestASettledClaimIsKeptWhileAnyOfItsTasksRuns(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]int{"the first": 0, "one between": 250, "the last": 499} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s, tasks := newForgetRig(t, "update anchor_tasks set next_run = now() - id * interval '1 ms'") // the greatest id stands first
			r.finish(s, outcomeCompleted, slices.Concat(tasks[:runs], tasks[runs+1:])...)
			const forget = "select anchor_forget_claims($1::uuid, $2::bigint[], true)"
			r.exec(forget, s.id(), []int64{tasks[0].token})
			r.want("with one task left", 1, 1, 0)
			r.finish(s, outcomeCompleted, tasks[runs])
			r.exec(forget, s.id(), []int64{tasks[0].token})
			r.want("with none left", 0, 0, 0)
		})
	}
}

// A look from the beginning passes all that has ended and was not vacuumed yet. It must not read the tasks again for that.
func TestForgettingAClaimSparesOthersReadingItsTasks(t *testing.T) {
	t.Parallel()
	r, s, tasks := newForgetRig(t, "alter table anchor_tasks_hot set (autovacuum_enabled = false)")
	r.finish(s, outcomeCompleted, tasks...)
	ended := readOne[int64](r.pgRig, "select pg_current_xact_id()::text::bigint")
	eventually(t, "the end of all that may still see these tasks", func() bool {
		return readOne[bool](r.pgRig, "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1", ended)
	})
	r.beat(s)
	r.want("after a heartbeat", 0, 0, 0)
	conn, err := r.pool.Acquire(t.Context())
	must(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off")
	must(t, err)
	var explained []struct {
		Plan struct {
			Blocks int `json:"Shared Hit Blocks"`
		}
	}
	must(t, conn.QueryRow(t.Context(), `explain (analyze, buffers, format json)
		select from anchor_tasks_hot where queue > '' order by queue, priority, next_run, id limit 1`).Scan(&explained))
	if pages := readOne[int](r.pgRig, "select pg_relation_size('anchor_tasks_ready') / 8192"); explained[0].Plan.Blocks > pages {
		t.Errorf("a look from the beginning reads %d pages, of an index of %d", explained[0].Plan.Blocks, pages)
	}
}

// Between ids that are far apart any number of others' tasks may stand, which a heartbeat must not read.
func TestASettledClaimIsWalkedInItsLaneOnlyIfItsIDsStandClose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setUp string
		lane  bool
	}{
		"close":     {"select", true},
		"far apart": {"update anchor_tasks set id = id * 1000", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s, tasks := newForgetRig(t, c.setUp)
			r.finish(s, outcomeCompleted, tasks...)
			tx, err := r.pool.Begin(t.Context())
			must(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			_, err = tx.Exec(t.Context(), "select anchor_forget_claims($1::uuid, $2::bigint[], true)", s.id(), []int64{tasks[0].token})
			must(t, err)
			var noted, scans int
			must(t, tx.QueryRow(t.Context(), "select (select count(*) from anchor_claims), pg_stat_get_xact_numscans('anchor_tasks_ready'::regclass)").Scan(&noted, &scans))
			if noted != 0 || scans > 0 != c.lane {
				t.Errorf("%d claims are left, %d walks of the lane, want any: %t", noted, scans, c.lane)
			}
		})
	}
}

// stalledClaim is a claim whose process is stopped before it reads the answer, which does not fit into the sockets.
func (r *claimRig) stalledClaim(s *pgSession, settled *claimedTask) {
	r.t.Helper()
	r.enqueued(40)
	r.exec(`update anchor_tasks_hot set spec = jsonb_build_object('x', (select string_agg(md5(random()::text || g::text || id::text), '') from generate_series(1, 6000) g)) where status = 'pending'`)
	conn, err := pgx.ConnectConfig(r.t.Context(), r.pool.Config().ConnConfig)
	must(r.t, err)
	stopped, err := conn.PgConn().Hijack()
	must(r.t, err)
	r.t.Cleanup(func() { _ = stopped.Conn.Close() })
	statement := fmt.Sprintf(`select spec from anchor_claim('%s', 7, '{Claimed}', 1000, 1000, 100000000, 20000, null, '', 0, '-infinity', 0, null, null, null, null, null, '{%d}')`,
		s.id(), settled.token)
	_, err = stopped.Conn.Write(append(append([]byte{'Q'}, messageLength(statement)...), append([]byte(statement), 0)...))
	must(r.t, err)
	eventually(r.t, "a claim that nobody reads", func() bool {
		return readOne[int](r.pgRig, "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'ClientWrite'") == 1
	})
}

func messageLength(text string) []byte {
	n := len(text) + 5
	return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

func TestAClaimThatNobodyReadsKeepsNoTaskFromBeingTakenBack(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	stopped, dead, survivor := r.session(), r.session(), r.session()
	r.enqueued(1)
	settled := r.claim(stopped, 1)
	r.enqueued(2)
	r.claim(stopped, 2)
	r.finish(stopped, outcomeCompleted, settled...)
	r.enqueued(2)
	r.claim(dead, 2)
	r.stalledClaim(stopped, settled[0])
	r.die(stopped)
	r.die(dead)
	if taken := r.takeBack(survivor, 1000); taken.count != 4 {
		t.Errorf("took back %d tasks, want 4", taken.count)
	}
}

func TestAClaimThatNobodyReadsHoldsUpNoHeartbeat(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	s := r.session()
	r.enqueued(1)
	settled := r.claim(s, 1)
	r.finish(s, outcomeCompleted, settled...)
	r.stalledClaim(s, settled[0])
	r.beat(s)
}

// A second disowning adds to what nobody owns while others take the first part back.
func TestTasksThatWereDisownedInPartsAreAllTakenBack(t *testing.T) {
	t.Parallel()
	r := newClaimRig(t)
	ctx := t.Context()
	r.enqueued(2, WithRetryPolicy("1s", 1))
	dead := r.session()
	r.claim(dead, 2)
	r.die(dead)
	s, other := r.session(), r.session()
	token := newToken()
	rows, err := r.pool.Query(ctx, r.store.sql(takeBackTasks), s.id(), token, []string{"Claimed"}, 100)
	must(t, err)
	unseen, err := readTakenBack(rows, s.id(), token)
	must(t, err)
	const disown = "select anchor_disown($1::uuid, $2::bigint, false)"
	lock, err := r.pool.Begin(ctx)
	must(t, err)
	_, err = lock.Exec(ctx, "select from anchor_tasks_hot where id = $1 for update", unseen.exhausted[1].id)
	must(t, err)
	r.exec(disown, s.id(), token)
	must(t, lock.Rollback(ctx))
	second, err := r.pool.Begin(ctx)
	must(t, err)
	_, err = second.Exec(ctx, disown, s.id(), token)
	must(t, err)
	first := make(chan takenBack, 1)
	go func() {
		taken, err := other.takeBack(context.Background(), []string{"Claimed"}, 100)
		if err != nil {
			t.Error(err)
		}
		first <- taken
	}()
	eventually(t, "taking back to end, or to wait", func() bool {
		return len(first) == 1 || readOne[int](r.pgRig, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") == 1
	})
	must(t, second.Commit(ctx))
	count := (<-first).count
	count += r.takeBack(other, 100).count
	if count != 2 {
		t.Errorf("%d of 2 exhausted tasks were taken back", count)
	}
}
