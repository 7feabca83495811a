package subject

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// riverQueue is River with its defaults (MaxWorkers has none, its README's 100 is taken), or with the settings of
// its own benchmark.
type riverQueue struct {
	pool    *pgxpool.Pool
	driver  *riverpgxv5.Driver
	config  river.Config
	inserts *river.Client[pgx.Tx]
}

type riverArgs struct{ protocol.Payload }

func (riverArgs) Kind() string { return "bench" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	pool *pgxpool.Pool
	do   handler
}

func (w *riverWorker) Work(ctx context.Context, job *river.Job[riverArgs]) error {
	w.do.handle(&job.Args.Payload)
	if !w.do.insert {
		return nil
	}
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertEffect, job.Args.N, job.Args.Text); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

func openRiver(ctx context.Context, spec protocol.Spec, tuned bool) (queue, error) {
	pool, err := newPool(ctx, spec)
	if err != nil {
		return nil, err
	}
	slots := 100
	q := &riverQueue{pool: pool, driver: riverpgxv5.New(pool)}
	q.config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if tuned {
		q.config.FetchCooldown = 2 * time.Millisecond
		q.config.FetchPollInterval = 20 * time.Millisecond
		slots = 2000
	}
	q.inserts, err = river.NewClient(q.driver, &q.config)
	if spec.Slots > 0 {
		slots = spec.Slots
	}
	q.config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}}
	return q, err
}

func (q *riverQueue) migrate(ctx context.Context) error {
	migrator, err := rivermigrate.New(q.driver, &rivermigrate.Config{Logger: q.config.Logger})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func (q *riverQueue) enqueue(ctx context.Context, p *protocol.Payload) error {
	_, err := q.inserts.Insert(ctx, riverArgs{*p}, nil)
	return err
}

func (q *riverQueue) enqueueMany(ctx context.Context, payloads []*protocol.Payload) error {
	params := make([]river.InsertManyParams, len(payloads))
	for i, p := range payloads {
		params[i].Args = riverArgs{*p}
	}
	_, err := q.inserts.InsertManyFast(ctx, params)
	return err
}

func (q *riverQueue) enqueueTx(ctx context.Context, p *protocol.Payload) error {
	return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		_, err := q.inserts.InsertTx(ctx, tx, riverArgs{*p}, nil)
		return err
	})
}

func (q *riverQueue) work(ctx context.Context, h handler) (func() error, error) {
	config := q.config
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, &riverWorker{pool: q.pool, do: h})
	client, err := river.NewClient(q.driver, &config)
	if err != nil {
		return nil, err
	}
	if err := client.Start(ctx); err != nil {
		return nil, err
	}
	return func() error { return client.Stop(ctx) }, nil
}

func (q *riverQueue) close() { q.pool.Close() }
