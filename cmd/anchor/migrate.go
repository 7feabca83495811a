package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/anchor-go/anchor"
)

func (a *app) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the tables to the version of this program",
		Long: `migrate makes or upgrades the tables. It may run any number of times, from any number of places at once, and does nothing
when there is nothing to do. It needs a role that may create tables. Programs that call Migrate need it not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("timeout") {
				a.timeout = 0
			}
			ctx, cancel := a.bounded(cmd.Context())
			defer cancel()
			return a.migrate(ctx)
		},
	}
}

func (a *app) migrate(ctx context.Context) error {
	db, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer db.pool.Close()
	changed := db.store.CheckMigrated(ctx) != nil
	if err := db.store.Migrate(ctx); err != nil {
		return err
	}
	result := struct {
		Schema  string `json:"schema"`
		Changed bool   `json:"changed"`
	}{a.schema, changed}
	return a.show(result, func(w io.Writer) {
		if changed {
			fmt.Fprintf(w, "%s is migrated\n", db.name)
		} else {
			fmt.Fprintf(w, "%s was up to date already\n", db.name)
		}
	})
}

func (a *app) sqlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sql",
		Short: "Write the SQL that migrate runs on an empty database",
		Long: `sql writes what migrate does to a database without anchor's tables, as one script for those who run their own
migrations: run it in one transaction (psql -1), as the role that is to own the tables. It needs no database.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			store := anchor.NewPGStore(&pgxpool.Pool{}, anchor.WithSchema(a.schema))
			if _, err := anchor.New(store); err != nil {
				return a.badSchema(err)
			}
			_, err := io.WriteString(a.out, store.MigrationSQL())
			return err
		},
	}
}
