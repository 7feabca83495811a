//go:build unix

package anchor

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/chaos/proxy"
)

// throughProxy is a pool of the rig's database that a proxy stands in front of.
func (r *pgRig) throughProxy() (*pgxpool.Pool, *proxy.Proxy) {
	r.t.Helper()
	server := r.pool.Config().ConnConfig
	p, err := proxy.Start(pgconn.NetworkAddress(server.Host, server.Port))
	if err != nil {
		r.t.Fatal(err)
	}
	pool, err := pgxpool.New(context.Background(), fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", server.User, p.Port(), server.Database))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { p.Close(); pool.Close() })
	return pool, p
}

func TestShutdownWaitsForNoSilentDatabase(t *testing.T) {
	t.Parallel()
	const shutdown, busy = time.Second, time.Second
	for name, statement := range map[string]string{
		"a tick": "anchor_cron_tick", "a claim": "anchor_claim", "a heartbeat": "anchor_heartbeat", "taking back": "anchor_take_back",
		"a finish": "anchor_complete(", "a handler's commit": "anchor_complete_attempt", "a final failure": "anchor_hold_claim",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newPG(t)
			pool, p := rig.throughProxy()
			ticking := Define("Ticks", func(context.Context, pgx.Tx, *noParams) error { return nil }).Cron("* * * * * *", &noParams{})
			fails := Define("Fails", func(context.Context, pgx.Tx, *noParams) error { return Fatal(errNoLuck) }).
				OnFailed(func(context.Context, pgx.Tx, Failure, *noParams) error { return nil })
			writes := Define("Writes", func(ctx context.Context, tx pgx.Tx, _ *noParams) error { return noteEffect(ctx, tx, "a") })
			client := rig.clientOf(NewPGStore(pool), ticking, fails, writes)
			armed := p.Arm(proxy.Rule{Statement: statement, Act: proxy.Hold, Delay: time.Minute})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- client.Work(ctx, WithLease(time.Second), WithPollInterval(50*time.Millisecond), WithShutdownTimeout(shutdown))
			}()
			enqueue(rig, rig.newClient(fails, writes), fails, &noParams{})
			enqueue(rig, rig.newClient(fails, writes), writes, &noParams{})
			receive(t, "the statement", armed)
			p.Silence()
			began := time.Now()
			cancel()
			if err := receive(t, "end of Work", ended); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > shutdown+time.Second+busy {
				t.Errorf("Work returned after %v, want %v and a second", took, shutdown)
			} else {
				t.Logf("Work returned after %v", took)
			}
		})
	}
}
