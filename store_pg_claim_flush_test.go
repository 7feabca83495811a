package anchor

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/testdb"
)

// largeFrom is a request for a large claim of a lane from a session's floor, time 0.
func (r frontRig) largeFrom(s *pgSession) claimRequest {
	s.floors.raise(lane{"default", 0}, position{time.Unix(0, 0), 0}, false)
	s.floors.nextHead = time.Now().Add(time.Hour)
	return claimRequest{names: []string{"Claimed"}, limit: largeClaim, firstHand: largeClaim, hinted: []string{"default"}}
}

// While one claim waits for the disk, here for its standby, the next one of the lane goes on. None answers before its wait
// is over.
func TestAClaimHoldsNoTurnWhileItWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	cluster, err := testdb.Start(t.Context(), testdb.WithSettings("shared_buffers=16MB"))
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	r := frontRig{&claimRig{pgRig: newPGAt(t, testdb.NewOn(t, cluster.URL()))}}
	r.exec("insert into anchor_tasks (name, queue, spec) select 'Claimed', 'default', '{}' from generate_series(1, 1200)")
	type answer struct {
		tasks int
		err   error
	}
	answers := make(chan answer, 2)
	sessions := []*pgSession{r.session(), r.session()}
	r.exec("alter system set synchronous_standby_names = 'nobody'")
	r.exec("select pg_reload_conf()")
	eventually(t, "commits to wait", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := r.pool.Exec(ctx, flushCommits)
		return err != nil
	})
	for i, s := range sessions {
		req := r.largeFrom(s)
		go func() {
			found, err := s.claim(context.WithoutCancel(t.Context()), req)
			answers <- answer{len(found.tasks), err}
		}()
		eventually(t, "claims that wait for their standby", func() bool {
			return readOne[int](r.pgRig, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == i+1
		})
		if n := readOne[int](r.pgRig, "select count(*) from anchor_tasks where status = 'running'"); n != (i+1)*largeClaim {
			t.Errorf("%d tasks are claimed by %d claims", n, i+1)
		}
	}
	select {
	case got := <-answers:
		t.Errorf("a claim has answered %+v before its wait was over", got)
	default:
	}
	r.exec("alter system reset synchronous_standby_names")
	r.exec("select pg_reload_conf()")
	for range sessions {
		got := receive(t, "the end of a claim", answers)
		if must(t, got.err); got.tasks != largeClaim {
			t.Errorf("%d tasks were answered, want %d", got.tasks, largeClaim)
		}
	}
}

// The writer of the server's log is kept from coming along, so that only what was waited for is safe.
func TestWhatIsClaimedSurvivesACrashAtOnce(t *testing.T) {
	t.Parallel()
	cluster, err := testdb.Start(t.Context(), testdb.WithSettings("wal_writer_delay=10s", "shared_buffers=16MB"))
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop()) })
	r := frontRig{&claimRig{pgRig: newPGAt(t, testdb.NewOn(t, cluster.URL()))}}
	r.exec("insert into anchor_tasks (name, queue, spec) select 'Claimed', 'default', '{}' from generate_series(1, 600)")
	s := r.session()
	if ids, _ := r.look(s, r.largeFrom(s)); len(ids) != largeClaim {
		t.Fatalf("%d tasks were claimed, want %d", len(ids), largeClaim)
	}
	must(t, cluster.Kill(t.Context()))
	must(t, cluster.Restart(context.WithoutCancel(t.Context()), testdb.Immediate))
	eventually(t, "the server to answer", func() bool { return r.pool.Ping(t.Context()) == nil })
	if n := readOne[int](r.pgRig, "select count(*) from anchor_tasks where status = 'running'"); n != largeClaim {
		t.Errorf("%d tasks are running, want %d", n, largeClaim)
	}
}

// A claim that was committed, and of which the server would not say that it is durable, is given back.
func TestAClaimThatIsNotKnownToBeDurableIsGivenBack(t *testing.T) {
	t.Parallel()
	r := frontRig{newClaimRig(t)}
	r.enqueued(600)
	role := readOne[string](r.pgRig, "select current_database()")
	r.exec("create role " + role)
	t.Cleanup(func() {
		_, err := r.pool.Exec(context.WithoutCancel(t.Context()), "drop owned by "+role+"; drop role "+role, pgx.QueryExecModeSimpleProtocol)
		must(t, err)
	})
	r.exec("grant all on all tables in schema public to " + role)
	r.exec("grant all on all sequences in schema public to " + role)
	config := r.pool.Config()
	config.ConnConfig.RuntimeParams["role"] = role
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	r.store = NewPGStore(pool)
	s := r.session()
	s.store.flushRight.Store(flushAllowed) // as it was when somebody asked last
	r.exec("revoke execute on function pg_logical_emit_message(boolean, text, text) from public")
	if _, err := s.claim(t.Context(), r.largeFrom(s)); sqlState(err) != "42501" {
		t.Fatalf("the claim answered %v, want that the flush is forbidden", err)
	}
	if n := readOne[int](r.pgRig, "select count(*) from anchor_tasks where status = 'running'"); n != largeClaim {
		t.Errorf("%d tasks are claimed behind it, want %d", n, largeClaim)
	}
	r.beat(s)
	if n := readOne[int](r.pgRig, "select count(*) from anchor_tasks where status = 'pending' and attempts = 0"); n != 600 {
		t.Errorf("%d tasks are as they were behind the next heartbeat, want 600", n)
	}
	if ids, _ := r.fromTheBeginning(s); len(ids) != largeClaim {
		t.Errorf("the next claim has %d tasks, want %d", len(ids), largeClaim)
	}
}
