//go:build !unix

package testdb

import (
	"context"
	"fmt"
	"runtime"
)

// Cluster does not exist on this system.
type Cluster struct{}

// Start always fails: give the URL of a server in ANCHOR_TEST_DATABASE_URL.
func Start(context.Context, ...Option) (*Cluster, error) {
	return nil, fmt.Errorf("no private PostgreSQL on %s: set %s to the URL of a server", runtime.GOOS, URLVariable)
}

// Available is an error: nothing can be started here.
func Available(ctx context.Context) error {
	_, err := Start(ctx)
	return err
}

// URL is empty.
func (*Cluster) URL() string { return "" }

// Stop does nothing.
func (*Cluster) Stop() error { return nil }

// LogFile is empty.
func (*Cluster) LogFile() string { return "" }
