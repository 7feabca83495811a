// Command quickstart is a sign-up flow on anchor: users are registered, welcomed, charged and asked how they like
// it, and every step in the life of their tasks is printed.
//
//	go run ./examples/quickstart                                 # in memory, nothing to install
//	go run ./examples/quickstart -database-url postgres://...    # the same on PostgreSQL
//	go run ./examples/quickstart -n 100000                       # and so many tasks more
//
// Start reading in signup.go, which declares the tasks and enqueues them. On PostgreSQL it keeps its users in
// the table quickstart_users, and may be run any number of times.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/anchor-go/anchor"
)

const maxMore = 10_000_000

type config struct {
	databaseURL string
	more        int
}

func main() {
	config, err := parse(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", oneLine(err))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, config, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", oneLine(err))
		os.Exit(1)
	}
}

func parse(args []string, help io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a mistake is told in one line
	flags.StringVar(&c.databaseURL, "database-url", "", "run on this PostgreSQL, postgres://user@host/database; in memory without")
	flags.IntVar(&c.more, "n", 0, "run so many tasks more, and show their progress")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(help, "usage: quickstart [flags]")
		flags.SetOutput(help)
		flags.PrintDefaults()
		return c, err
	case err != nil:
		return c, err
	case flags.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.more < 0 || c.more > maxMore:
		return c, fmt.Errorf("-n %d is not between 0 and %d", c.more, maxMore)
	}
	return c, nil
}

func run(ctx context.Context, c config, out *os.File) error {
	store, users, closeStore, err := open(ctx, c.databaseURL)
	if err != nil {
		return err
	}
	defer closeStore()

	// Migrate is safe to call whenever a program starts, from any number of processes.
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	life := newNarrator(out)
	app := newSignUp(users, life)
	client, err := anchor.New(store,
		anchor.WithTasks(app.welcome, app.charge, app.followUp, app.resize),
		anchor.WithLogger(slog.New(life)), // without it, slog.Default()
	)
	if err != nil {
		return err
	}
	app.client = client

	life.heading("Signing up. No worker runs yet, so the tasks wait.")
	if err := app.signUpAll(ctx); err != nil {
		return err
	}

	life.heading("Working.")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		// Work runs tasks until its context is done. A program that only works calls it in main. Delayed and
		// retried tasks are found by polling: four times a second suits a demonstration.
		if err := client.Work(ctx, anchor.WithPollInterval(250*time.Millisecond)); err != nil {
			cancel(err)
		}
	}()
	err = app.follow(ctx)
	if err == nil && c.more > 0 {
		life.heading(fmt.Sprintf("%d tasks more.", c.more))
		err = app.resizeMany(ctx, c.more, newProgress(out, c.more))
	}
	if err == nil {
		life.heading("Summary.")
		err = app.summary(ctx, out)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil) // Work drains: it waits for what still runs
	<-stopped
	return err
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
