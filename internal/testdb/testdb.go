// Package testdb gives tests a PostgreSQL of their own.
//
// [New] is all that most tests need: an empty database for one test.
// [Start] gives a whole private cluster, for tests that crash or reconfigure
// the server. A cluster ends with the process that started it, even when that
// process is killed with SIGKILL.
//
// Environment:
//
//   - ANCHOR_TEST_DATABASE_URL: use this server (its user must be allowed to
//     create databases) instead of starting a private cluster.
//   - ANCHOR_TEST_KEEP=1: with the former, keep the databases of failed tests.
package testdb

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// URLVariable names the environment variable that holds the URL of a running
// server to use.
const URLVariable = "ANCHOR_TEST_DATABASE_URL"

const (
	startTimeout    = 5 * time.Minute // installing PostgreSQL included
	databaseTimeout = time.Minute
)

// sharedURL is the URL of the server that all databases of this process live
// on. A cluster started here is never stopped: its watchdog does that when the
// process ends.
var sharedURL = sync.OnceValues(func() (string, error) {
	if url := os.Getenv(URLVariable); url != "" {
		return url, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cluster, err := Start(ctx)
	if err != nil {
		return "", err
	}
	return cluster.URL(), nil
})

// New returns the URL of an empty database that belongs to tb alone and is
// dropped, along with whoever is still connected, when tb is done. The server
// is the one of ANCHOR_TEST_DATABASE_URL, else a private cluster that the
// process starts on first use. Safe for concurrent use.
func New(tb testing.TB) string {
	tb.Helper()
	url, err := sharedURL()
	if err != nil {
		tb.Fatalf("testdb: %v", err)
	}
	return NewOn(tb, url)
}

// NewOn is [New] on the server of clusterURL.
func NewOn(tb testing.TB, clusterURL string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), databaseTimeout)
	defer cancel()
	name := databaseName(tb.Name())
	url, err := Create(ctx, clusterURL, name)
	if err != nil {
		tb.Fatalf("testdb: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("testdb: this test used database %s", describe(url))
			if os.Getenv(URLVariable) != "" && os.Getenv("ANCHOR_TEST_KEEP") == "1" {
				tb.Logf("testdb: kept database %s", name)
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
		defer cancel()
		if err := Drop(ctx, clusterURL, name); err != nil {
			tb.Errorf("testdb: %v", err)
		}
	})
	return url
}

// describe tells where a database is, without the password that its URL may hold.
func describe(url string) string {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return "with a URL that does not parse"
	}
	return fmt.Sprintf("%s on %s port %d", config.Database, config.Host, config.Port)
}
