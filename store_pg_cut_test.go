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
