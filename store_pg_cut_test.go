//go:build unix

package anchor

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/chaos/proxy"
)

// proxied is a pool of connections by a proxy, in one of the driver's modes.
func (r *pgRig) proxied(mode pgx.QueryExecMode) (*proxy.Proxy, *pgxpool.Pool) {
	r.t.Helper()
	server := r.pool.Config().ConnConfig
	network, address := pgconn.NetworkAddress(server.Host, server.Port)
	between, err := proxy.Start(network, address)
	must(r.t, err)
	r.t.Cleanup(between.Close)
	config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", server.User, between.Port(), server.Database))
	must(r.t, err)
	config.ConnConfig.DefaultQueryExecMode = mode
	pool, err := pgxpool.NewWithConfig(r.t.Context(), config)
	must(r.t, err)
	r.t.Cleanup(pool.Close)
	return between, pool
}

// The connection is lost between the commit and its answer: nobody may say that it has not happened, nor do it again.
func TestAnEnqueueWhoseAnswerIsLostIsNotSentAgain(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for _, count := range []int{1, enqueueRows + 1} {
			t.Run(fmt.Sprintf("%d in mode %v", count, mode), func(t *testing.T) {
				t.Parallel()
				r := newPG(t)
				between, pool := r.proxied(mode)
				rule := proxy.Rule{Statement: "commit", Whole: true, Act: proxy.CutAfter}
				if count == 1 && mode == pgx.QueryExecModeSimpleProtocol {
					rule = proxy.Rule{Statement: "\n;commit\n;", Act: proxy.CutAfter} // all in one text
				}
				fired := between.Arm(rule)
				if err := NewPGStore(pool).enqueue(t.Context(), someTasks(count)); !errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("answered %v", err)
				}
				receive(t, "the cut", fired)
				if n := readOne[int](r, "select count(*) from anchor_tasks"); n != count {
					t.Errorf("%d tasks, want %d", n, count)
				}
			})
		}
	}
}

// The connection is lost before or behind the commit of a large claim, or before that is durable: what it took is pending
// again by the next heartbeat, as if it had not been.
func TestALargeClaimWhoseAnswerIsLostIsGivenBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for name, rule := range map[string]proxy.Rule{
			"before the claim":  {Statement: "anchor_claim(", Act: proxy.CutBefore},
			"behind the commit": {Statement: "commit", Whole: true, Act: proxy.CutAfter},
			"before the flush":  {Statement: "pg_logical_emit_message", Act: proxy.CutBefore},
		} {
			if mode == pgx.QueryExecModeSimpleProtocol { // all in one text
				if name == "before the flush" {
					continue
				}
				rule.Statement, rule.Whole = "anchor_claim(", false
			}
			t.Run(fmt.Sprintf("%s in mode %v", name, mode), func(t *testing.T) {
				t.Parallel()
				r := frontRig{newClaimRig(t)}
				r.enqueued(1100)
				between, pool := r.proxied(mode)
				r.store = NewPGStore(pool)
				s := r.session()
				if ids, _ := r.look(s, r.largeFrom(s)); len(ids) != largeClaim {
					t.Fatalf("%d tasks were claimed before, want %d", len(ids), largeClaim)
				}
				fired := between.Arm(rule)
				if _, err := s.claim(t.Context(), r.largeFrom(s)); err == nil {
					t.Error("the claim has answered")
				}
				receive(t, "the cut", fired)
				eventually(t, "the server to be done with it", func() bool {
					return readOne[int](r.pgRig, "select count(*) from pg_stat_activity where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()") == 0
				})
				r.beat(s)
				r.want("behind the next heartbeat", 1, largeClaim, 600)
				if ids, _ := r.fromTheBeginning(s); len(ids) != largeClaim {
					t.Errorf("%d tasks were claimed in the end, want %d", len(ids), largeClaim)
				}
			})
		}
	}
}
