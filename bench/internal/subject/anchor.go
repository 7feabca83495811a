package subject

import (
	"context"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// anchorQueue is this library with no option set, unless the spec asks for a number of slots.
type anchorQueue struct {
	pool   *pgxpool.Pool
	store  *anchor.PGStore
	client *anchor.Client
	task   *anchor.Task[protocol.Payload]
	do     handler
	slots  int
}

func openAnchor(ctx context.Context, spec protocol.Spec) (queue, error) {
	pool, err := newPool(ctx, spec)
	if err != nil {
		return nil, err
	}
	q := &anchorQueue{pool: pool, store: anchor.NewPGStore(pool), slots: spec.Slots}
	q.task = anchor.Define("Bench", q.handle)
	q.client, err = anchor.New(q.store, anchor.WithTasks(q.task), anchor.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	return q, err
}

func (q *anchorQueue) handle(ctx context.Context, tx pgx.Tx, p *protocol.Payload) error {
	q.do.handle(p)
	if !q.do.insert {
		return nil
	}
	_, err := tx.Exec(ctx, insertEffect, p.N, p.Text)
	return err
}

func (q *anchorQueue) migrate(ctx context.Context) error { return q.store.Migrate(ctx) }

func (q *anchorQueue) enqueue(ctx context.Context, p *protocol.Payload) error {
	_, err := q.task.Run(ctx, q.client, p)
	return err
}

func (q *anchorQueue) enqueueMany(ctx context.Context, payloads []*protocol.Payload) error {
	_, err := q.task.RunMany(ctx, q.client, payloads)
	return err
}

func (q *anchorQueue) enqueueTx(ctx context.Context, p *protocol.Payload) error {
	return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		_, err := q.task.RunWithTx(ctx, q.client, tx, p)
		return err
	})
}

func (q *anchorQueue) work(ctx context.Context, h handler) (func() error, error) {
	q.do = h
	var opts []anchor.WorkOption
	if q.slots > 0 {
		opts = append(opts, anchor.WithConcurrency(q.slots))
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- q.client.Work(ctx, opts...) }()
	return func() error { cancel(); return <-ended }, nil
}

func (q *anchorQueue) close() { q.pool.Close() }
