//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// Standby makes another cluster that follows this one by streaming replication,
// and returns when it accepts connections, which only read until [Cluster.Promote].
// name is its application_name, for synchronous_standby_names. The caller ends it
// with Stop.
func (c *Cluster) Standby(ctx context.Context, name string) (*Cluster, error) {
	conf := config{tcp: c.tcp}
	standby, err := newCluster(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("start a standby: %w", err)
	}
	if err := standby.follow(ctx, conf, c, name); err != nil {
		return nil, fmt.Errorf("start a standby: %w", errors.Join(err, standby.Stop()))
	}
	return standby, nil
}

func (c *Cluster) follow(ctx context.Context, conf config, primary *Cluster, name string) error {
	text, err := configuration(c.folder, c.port, conf)
	if err != nil {
		return err
	}
	source, err := url.Parse(primary.URL())
	if err != nil {
		return err
	}
	query := source.Query()
	query.Set("application_name", name)
	source.RawQuery = query.Encode()
	if err := makeFolder(c.folder, c.user); err != nil {
		return err
	}
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	backup := c.command(log, "pg_basebackup", "--pgdata=data", "--dbname="+source.String(), "--write-recovery-conf",
		"--checkpoint=fast", "--wal-method=stream", "--no-sync")
	if err := errors.Join(backup.Run(), ctx.Err()); err != nil {
		return fmt.Errorf("pg_basebackup: %w%s", err, c.logTail())
	}
	// The last of one name counts.
	file, err := os.OpenFile(filepath.Join(c.folder, "data", "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return c.launch(ctx)
}

// Promote makes a standby a primary, and returns when it accepts writes.
func (c *Cluster) Promote(ctx context.Context) error {
	log, err := c.openLog()
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	defer log.Close()
	if err := errors.Join(c.command(log, "pg_ctl", "promote", "--pgdata=data", "--wait").Run(), ctx.Err()); err != nil {
		return fmt.Errorf("promote: %w%s", err, c.logTail())
	}
	return nil
}
