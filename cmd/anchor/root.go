package main

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const about = `anchor looks at the background tasks in a PostgreSQL database, and steps in.

The database is given by DATABASE_URL, for example
  postgres://user:password@host:5432/database
(or "host=... user=... dbname=..."), or by --database-url, which other users of the machine can see. Take the anchor of
the same version as the library that your program uses: it refuses a schema of another version.

On a terminal it writes tables, with times in the local zone (TZ) unless --utc is given. Elsewhere, and with --json, it
writes JSON, with times in UTC, those of schedules in their own zone.

Parameters of tasks may hold secrets: they are shown by "tasks show", and elsewhere only with --params.

Exit codes:
  0  done
  1  something else went wrong, which stderr tells
  2  wrong usage: an unknown command or flag, a bad value, no database given
  3  the database cannot be reached, or refuses the login
  4  the schema is not migrated for this version: run "anchor migrate"
  5  there is no such task or schedule
  6  the task's state does not allow it: it has ended, or has not, or its unique tag is held by another`

// app is one run of the program.
type app struct {
	out      io.Writer
	errs     io.Writer
	terminal bool // standard output is one

	databaseURL string
	schema      string
	json        bool
	table       bool
	utc         bool
	timeout     time.Duration

	started bool // the command line was understood
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "anchor",
		Short:             "Look at background tasks in PostgreSQL, and step in",
		Long:              about,
		Version:           version(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              a.noSuchCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.prepare() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.databaseURL, "database-url", "", "the database, instead of DATABASE_URL")
	flags.StringVar(&a.schema, "schema", "public", "the schema of the tables")
	flags.BoolVar(&a.json, "json", false, "write JSON, also on a terminal")
	flags.BoolVar(&a.table, "table", false, "write tables, also elsewhere")
	flags.BoolVar(&a.utc, "utc", false, "show times in UTC")
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for the database, 0 for ever; migrate waits for ever by default")
	root.SuggestionsMinimumDistance = 2
	root.AddCommand(a.migrateCommand(), a.sqlCommand(), a.tasksCommand(), a.queuesCommand(), a.cronsCommand(), a.workersCommand(), a.statsCommand())
	return root
}

// prepare settles what the flags mean together.
func (a *app) prepare() error {
	if a.timeout < 0 {
		return errors.New("--timeout is negative")
	}
	if a.json && a.table {
		return errors.New("--json and --table exclude each other")
	}
	a.started = true
	if !a.table && !a.terminal {
		a.json = true
	}
	if a.json || a.utc {
		time.Local = time.UTC
	}
	return nil
}

// version is that of the module, if it was built as one.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// group is a command that has only others.
func (a *app) group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: a.noSuchCommand, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// noSuchCommand refuses what cobra takes for arguments of a group. What may be a URL is not repeated.
func (a *app) noSuchCommand(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case looksSecret(args[0]):
		return errors.New("the database is given by DATABASE_URL or --database-url, not as an argument")
	}
	text := "there is no command " + quote(args[0]) + " in " + quote(cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		slices.Sort(near)
		text += ", did you mean " + strings.Join(near, " or ") + "?"
	}
	return errors.New(text)
}

// withDatabase makes a command of what is done with a database that is migrated.
func (a *app) withDatabase(do func(ctx context.Context, db *database, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.bounded(cmd.Context())
		defer cancel()
		db, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer db.pool.Close()
		if err := db.store.CheckMigrated(ctx); err != nil {
			return err
		}
		return do(ctx, db, args)
	}
}

// bounded ends a context after the timeout.
func (a *app) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, a.timeout, errTimeout)
}
