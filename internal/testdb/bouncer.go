//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	bouncerPort    = 6432
	bouncerProgram = "/usr/sbin/pgbouncer" // where Debian has it, which is not on every PATH
)

// Bouncer starts a PgBouncer in transaction mode in front of the cluster and
// returns the URL of database postgres behind it, when that answers. It has
// poolSize connections for each database, and ends with the cluster. As root on
// a Debian-like machine without PgBouncer it installs the package. It may be
// called once.
func (c *Cluster) Bouncer(ctx context.Context, poolSize int) (string, error) {
	database, err := c.startBouncer(ctx, poolSize)
	if err != nil {
		return "", fmt.Errorf("start PgBouncer: %w", err)
	}
	return database, nil
}

func (c *Cluster) startBouncer(ctx context.Context, poolSize int) (string, error) {
	program, err := findBouncer(ctx, bouncerProgram)
	if err != nil {
		return "", err
	}
	if c.bouncer != nil {
		return "", errors.New("it is running")
	}
	path := filepath.Join(c.folder, "pgbouncer.ini")
	if err := os.WriteFile(path, []byte(bouncerConfiguration(c.folder, c.port, poolSize)), 0o644); err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(c.folder, "pgbouncer.log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := c.run(log, program, path)
	cmd.SysProcAttr.Pgid = c.watchdog.group()
	if err := cmd.Start(); err != nil {
		return "", err
	}
	c.bouncer = cmd
	database := url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"sslmode": {"disable"}, "host": {c.folder}, "port": {strconv.Itoa(bouncerPort)}}.Encode(),
	}
	for {
		conn, err := pgx.Connect(ctx, database.String())
		if err == nil {
			return database.String(), conn.Close(ctx)
		}
		if !pause(ctx, pollInterval) {
			text, _ := os.ReadFile(log.Name())
			return "", fmt.Errorf("it is not ready in time: %w; its log:\n%s", err, text)
		}
	}
}

func bouncerConfiguration(folder string, port, poolSize int) string {
	return strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d user=postgres", folder, port),
		"[pgbouncer]",
		"listen_addr =",
		fmt.Sprintf("listen_port = %d", bouncerPort),
		"unix_socket_dir = " + folder,
		"auth_type = any",
		"pool_mode = transaction",
		fmt.Sprintf("default_pool_size = %d", poolSize),
		"max_client_conn = 1000",
		"",
	}, "\n")
}

// findBouncer is the PgBouncer on PATH, else that of Debian, which is installed
// if need be.
func findBouncer(ctx context.Context, debian string) (string, error) {
	find := func() string {
		if path, err := exec.LookPath("pgbouncer"); err == nil {
			return path
		}
		if _, err := os.Stat(debian); err == nil {
			return debian
		}
		return ""
	}
	if path := find(); path != "" {
		return path, nil
	}
	none := errors.New("no PgBouncer found: install it (Debian, Ubuntu: sudo apt-get install pgbouncer; macOS: brew install pgbouncer)")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", none
	}
	fmt.Fprintln(os.Stderr, "testdb: no PgBouncer found, installing it: apt-get install -y pgbouncer")
	if err := install(ctx, "pgbouncer"); err != nil {
		return "", err
	}
	if path := find(); path != "" {
		return path, nil
	}
	return "", none
}

// reapBouncer must only be called when the cluster is gone, and PgBouncer with it.
func (c *Cluster) reapBouncer() {
	if c.bouncer != nil {
		c.bouncer.Wait()
		c.bouncer = nil
	}
}
