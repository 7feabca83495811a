// Package server starts the servers that the measured queues work on, and reads what they spend.
package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/testdb"
)

// Postgres is a private PostgreSQL cluster with the settings of internal/testdb: fsync, synchronous_commit and
// full_page_writes on, 256 MB of shared buffers, 2 GB of max_wal_size, everything else at PostgreSQL's defaults.
type Postgres struct {
	cluster    *testdb.Cluster
	admin      *pgxpool.Pool
	statements bool
}

const startTimeout = 2 * time.Minute

// StartPostgres starts a cluster. trackNested counts statements inside functions too, which costs a little.
func StartPostgres(ctx context.Context, trackNested bool) (*Postgres, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	settings := []string{"shared_preload_libraries=pg_stat_statements"}
	if trackNested {
		settings = append(settings, "pg_stat_statements.track=all", "track_io_timing=on")
	}
	statements := true
	cluster, err := testdb.Start(ctx, testdb.WithSettings(settings...))
	if err != nil { // the contrib modules need not be installed
		statements = false
		if cluster, err = testdb.Start(ctx); err != nil {
			return nil, err
		}
	}
	admin, err := pgxpool.New(ctx, cluster.URL())
	if err != nil {
		return nil, err
	}
	p := &Postgres{cluster: cluster, admin: admin, statements: statements}
	if statements {
		if _, err := admin.Exec(ctx, "create extension pg_stat_statements"); err != nil {
			p.statements = false
		}
	}
	return p, nil
}

// Stop ends the cluster and removes it.
func (p *Postgres) Stop() error {
	p.admin.Close()
	return p.cluster.Stop()
}

// Folder is where the cluster's files are.
func (p *Postgres) Folder() string { return filepath.Dir(p.cluster.LogFile()) }

// Version is the server's, such as "15.18 (Debian 15.18-0+deb12u1)".
func (p *Postgres) Version(ctx context.Context) string {
	var version string
	if err := p.admin.QueryRow(ctx, "show server_version").Scan(&version); err != nil {
		return "unknown"
	}
	return version
}

// Database is one database of the cluster.
type Database struct {
	URL    string
	Name   string
	server *Postgres
	pool   *pgxpool.Pool
	asking *pgx.Conn // of Bool
}

// Create makes an empty database.
func (p *Postgres) Create(ctx context.Context) (*Database, error) {
	name := "bench_" + strings.ToLower(rand.Text()[:12])
	url, err := testdb.Create(ctx, p.cluster.URL(), name)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(ctx, url)
	return &Database{URL: url, Name: name, server: p, pool: pool}, err
}

// Drop removes the database.
func (d *Database) Drop(ctx context.Context) error {
	d.pool.Close()
	if d.asking != nil {
		_ = d.asking.Close(ctx)
	}
	return testdb.Drop(ctx, d.server.cluster.URL(), d.Name)
}

// Exec runs a statement without arguments.
func (d *Database) Exec(ctx context.Context, statement string) error {
	_, err := d.pool.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	return err
}

// Bool answers a query of one boolean, on a connection with the settings given: statements that are run once.
func (d *Database) Bool(ctx context.Context, settings, query string) (bool, error) {
	if d.asking == nil {
		conn, err := pgx.Connect(ctx, d.URL)
		if err != nil {
			return false, err
		}
		d.asking = conn
		if _, err := conn.Exec(ctx, settings); err != nil {
			return false, err
		}
	}
	var answer bool
	err := d.asking.QueryRow(ctx, query).Scan(&answer)
	return answer, err
}

// Int answers a query of one integer.
func (d *Database) Int(ctx context.Context, query string) (int64, error) {
	var answer int64
	err := d.pool.QueryRow(ctx, query).Scan(&answer)
	return answer, err
}

// HoldSnapshot opens a REPEATABLE READ transaction that sees the database as it is now, until release is called.
func (d *Database) HoldSnapshot(ctx context.Context) (release func(), err error) {
	conn, err := pgx.Connect(ctx, d.URL)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{"begin isolation level repeatable read", "select count(*) from pg_class"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("hold a snapshot: %w", err)
		}
	}
	return func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
}

// Checkpoint lets the writes of what came before not fall into what is measured.
func (p *Postgres) Checkpoint(ctx context.Context) error {
	_, err := p.admin.Exec(ctx, "checkpoint")
	return err
}
