// Command schedules shows what schedules do: one that is declared with its task, one for each customer in their time
// zone, and how they are paused, resumed and run at once.
//
//	go run ./examples/schedules                                 # in memory, nothing to install
//	go run ./examples/schedules -database-url postgres://...    # the same on PostgreSQL
//
// Start reading in schedules.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the time zones, for machines that have none

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

func main() {
	url := flag.String("database-url", "", "run on this PostgreSQL, postgres://user@host/database; in memory without")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "schedules:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, out io.Writer) error {
	var store anchor.Store = anchor.NewMemoryStore()
	if url != "" {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		defer pool.Close()
		store = anchor.NewPGStore(pool)
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}

	p := newProgram(out)
	client, err := anchor.New(store, anchor.WithTasks(p.heartbeat, p.statement), anchor.WithLogger(slog.Default()))
	if err != nil {
		return err
	}
	p.client = client

	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := client.Work(ctx); err != nil {
			cancel(err)
		}
	}()
	err = p.demonstrate(ctx)
	cancel(nil)
	<-stopped
	return err
}
