package load

import (
	"context"
	"fmt"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// History is the name of the load that compares a table without finished tasks with one full of them.
const History = "history"

// The variants.
const (
	WithoutHistory = "none"
	WithHistory    = "kept"
)

// historyCount is how many finished tasks are kept at full scale.
const historyCount = 10_000_000

// fillHistory writes finished tasks into the very slot that is being written now: the worst place.
const fillHistory = `do $$
declare
  v_slot smallint := anchor_ring_slot(clock_timestamp());
begin
  insert into anchor_tasks (id, slot, name, queue, status, max_attempts, attempts, spec, claim_token, worker_id, started_at, finished_at)
  select nextval('anchor_tasks_id_seq'), v_slot, 'Bench', 'default', 'completed', 10, 1,
    jsonb_build_object('n', -i, 'email', 'user-' || i || '@example.com', 'text', 'order ' || to_hex(i) || ' of customer ' || i %% 9973, 'sentAt', 0, 'sleepMs', 0),
    i, gen_random_uuid(), now(), now()
  from generate_series(1, %d) as i;
end
$$`

func history() *Load {
	var full *peer.Site
	var filled int64
	return &Load{Name: History, Title: "Finished tasks kept", variants: []variant{
		{name: WithoutHistory, peer: peer.Anchor, run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
			return burnDown(ctx, b, v, 400_000, burn{handler: protocol.Noop})
		}},
		{
			name: WithHistory, peer: peer.Anchor,
			run: func(ctx context.Context, b *Bench, v variant) (result.Run, error) {
				if full == nil {
					site, err := peer.Open(ctx, b.Postgres, v.peer)
					if err != nil {
						return result.Run{}, err
					}
					full = site
				}
				if err := fill(ctx, b, full, &filled); err != nil {
					return result.Run{}, err
				}
				r := burn{b: b, v: v, site: full, count: b.n(400_000), handler: protocol.Noop}
				if err := b.seed(ctx, full, 0, r.count, 0); err != nil {
					return result.Run{}, err
				}
				return r.run(ctx)
			},
			end: func(ctx context.Context) error {
				if full == nil {
					return nil
				}
				return full.Close(ctx)
			},
		},
	}}
}

// fill brings the history to its size, in pieces.
func fill(ctx context.Context, b *Bench, site *peer.Site, filled *int64) error {
	const piece = 250_000
	for total := b.n(historyCount); *filled < total; {
		n := min(piece, total-*filled)
		if err := site.Database.Exec(ctx, fmt.Sprintf(fillHistory, n)); err != nil {
			return fmt.Errorf("fill the history: %w", err)
		}
		*filled += n
		b.Progress.Update("%d of %d finished tasks", *filled, total)
	}
	return site.Database.Exec(ctx, "analyze")
}
