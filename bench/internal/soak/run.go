package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/bench/internal/server"
)

// Options say how long and how much.
type Options struct {
	For      time.Duration
	Every    time.Duration // between samples
	Rate     float64       // tasks a second that are enqueued one by one
	Progress func(Sample)
}

// Run puts the load on a private database of p and returns the samples, those up to an error too.
func Run(ctx context.Context, p *server.Postgres, o Options) (samples []Sample, err error) {
	database, err := p.Create(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, database.Drop(context.WithoutCancel(ctx))) }()
	pool, err := pgxpool.New(ctx, database.URL)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	m, err := newMix(ctx, pool, anchor.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	load, stopLoad := context.WithTimeout(ctx, o.For)
	defer stopLoad()
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	worked := make(chan error, 1)
	go func() { worked <- m.client.Work(work) }()
	enqueued := make(chan error, 1)
	go func() { enqueued <- m.enqueue(load, o.Rate); stopLoad() }()

	samples, err = m.watch(load, o)
	stopLoad()
	err = errors.Join(err, <-enqueued)
	stopWork()
	return samples, errors.Join(err, <-worked, ctx.Err(), m.check(context.WithoutCancel(ctx)))
}

// watch samples until the load ends.
func (m *mix) watch(load context.Context, o Options) ([]Sample, error) {
	sampling := newSampler(m, m.pool)
	ticker := time.NewTicker(o.Every)
	defer ticker.Stop()
	var samples []Sample
	for {
		select {
		case <-load.Done():
			return samples, nil
		case <-ticker.C:
		}
		sample, err := sampling.take(load)
		if err != nil {
			if load.Err() != nil {
				return samples, nil
			}
			return samples, fmt.Errorf("sample: %w", err)
		}
		samples = append(samples, sample)
		o.Progress(sample)
	}
}

// check is whether everything was done that the load is made of: a soak in which nothing happened proves nothing.
func (m *mix) check(ctx context.Context) error {
	var errs []error
	for what, n := range map[string]int64{
		"handlers": m.handled.Load(), "failed attempts": m.attemptsFailed.Load(), "hooks": m.hooks.Load(),
		"ticks": m.ticks.Load(), "duplicates of a tag": m.duplicates.Load(),
	} {
		if n == 0 {
			errs = append(errs, fmt.Errorf("there were no %s", what))
		}
	}
	var lost int64
	err := m.pool.QueryRow(ctx, `select count(*) from anchor_tasks_hot where status = 'running'`).Scan(&lost)
	if lost > 0 {
		errs = append(errs, fmt.Errorf("%d tasks are running although the worker has stopped", lost))
	}
	return errors.Join(append(errs, err)...)
}
