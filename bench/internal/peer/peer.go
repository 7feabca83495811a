// Package peer knows the queues that are compared: what to run for each, what it needs, and how to tell from
// outside that all its tasks are done.
package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/anchor-go/anchor/bench/internal/protocol"
	"github.com/anchor-go/anchor/bench/internal/server"
)

// Peer is one queue with one set of settings.
type Peer struct {
	// Name is what flags and results call it.
	Name string
	// Label is what readers see.
	Label string
	// onRedis tells that it keeps its tasks there.
	onRedis bool
	// unfinished is a query that answers whether any task is left, from an end of an index where the tasks that
	// finish last are, so that it stays cheap beside a snapshot that keeps dead entries.
	unfinished string
	// command runs the peer's process, which takes a spec as its last argument.
	command func(spec string) (*exec.Cmd, error)
	// available says why it cannot be measured here, nil when it can.
	available func(ctx context.Context) error
}

// planner settings that leave only index scans; they are of the connection that asks.
const indexOnly = `set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off`

const (
	anchorUnfinished = `select coalesce(
  (select true from anchor_tasks_hot where queue >= '' order by queue desc, priority desc, next_run desc, id desc limit 1),
  (select true from anchor_tasks_hot where queue >= '' order by queue, priority, next_run, id limit 1), false)`

	riverUnfinished = `select coalesce(
  (select true from river_job where state = 'running' and queue = 'default' order by priority desc, scheduled_at desc, id desc limit 1),
  (select true from river_job where state = 'available' and queue = 'default' order by priority desc, scheduled_at desc, id desc limit 1), false)`

	graphileUnfinished = `select coalesce((select true from graphile_worker._private_jobs order by id desc limit 1), false)`
)

// The peers.
var (
	Anchor        = Peer{Name: "anchor", Label: "this library", unfinished: anchorUnfinished, command: self}
	Bare          = Peer{Name: "bare", Label: "bare claim-and-complete loop", unfinished: anchorUnfinished, command: self}
	River         = Peer{Name: "river", Label: "River, defaults", unfinished: riverUnfinished, command: self}
	RiverTuned    = Peer{Name: "river-tuned", Label: "River, its benchmark's settings", unfinished: riverUnfinished, command: self}
	Graphile      = Peer{Name: "graphile", Label: "graphile-worker, defaults", unfinished: graphileUnfinished, command: node, available: installed}
	GraphileTuned = Peer{Name: "graphile-tuned", Label: "graphile-worker, local queue and batches", unfinished: graphileUnfinished, command: node, available: installed}
	Asynq         = Peer{Name: "asynq", Label: "asynq on Redis", onRedis: true, command: self, available: redisFound}
)

// All lists the peers in the order in which they take turns.
var All = []Peer{Anchor, Bare, River, RiverTuned, Graphile, GraphileTuned, Asynq}

// Available is nil when the peer can be measured here.
func (p Peer) Available(ctx context.Context) error {
	if p.available == nil {
		return nil
	}
	return p.available(ctx)
}

// ChildArgument makes this program a measured process.
const ChildArgument = "-child"

func self(spec string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(program, ChildArgument, spec), nil
}

func redisFound(context.Context) error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return server.ErrNoRedis
	}
	return nil
}

// Site is an empty queue of one peer on a server.
type Site struct {
	Peer     Peer
	Database *server.Database // nil on Redis
	redis    *server.Redis
}

// effects is where handlers write a row of their own.
const effects = `create table bench_effects (n bigint not null, note text not null)`

// Open makes a site: a database with the peer's tables, or a fresh Redis.
func Open(ctx context.Context, postgres *server.Postgres, p Peer) (*Site, error) {
	s := &Site{Peer: p}
	if p.onRedis {
		redis, err := server.StartRedis(ctx)
		s.redis = redis
		return s, err
	}
	database, err := postgres.Create(ctx)
	if err != nil {
		return nil, err
	}
	s.Database = database
	if err := s.setUp(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: set up: %w", p.Name, err), s.Close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *Site) setUp(ctx context.Context) error {
	if err := s.Database.Exec(ctx, effects); err != nil {
		return err
	}
	migrate, err := s.Start(ctx, protocol.Spec{Role: protocol.Migrate})
	if err != nil {
		return err
	}
	_, err = migrate.Wait(ctx, protocol.Done)
	return errors.Join(err, migrate.Close())
}

// Close drops the database or ends the Redis.
func (s *Site) Close(ctx context.Context) error {
	if s.redis != nil {
		return s.redis.Stop()
	}
	return s.Database.Drop(ctx)
}

// address is what the spec of a process says.
func (s *Site) address() string {
	if s.redis != nil {
		return s.redis.Address()
	}
	return s.Database.URL
}

// Unfinished tells whether tasks are left that are not done, as of the moment it is called.
func (s *Site) Unfinished(ctx context.Context) (bool, error) {
	if s.redis != nil {
		return asynqUnfinished(s.redis.Address())
	}
	return s.Database.Bool(ctx, indexOnly, s.Peer.unfinished)
}
