package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completeTimeout bounds how long a shell waits for names.
const completeTimeout = 2 * time.Second

func (a *app) completeQueues(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, db *database) (names []string, err error) {
		stats, err := db.client.Stats(ctx)
		if err == nil {
			for _, q := range stats.Queues {
				names = append(names, q.Queue)
			}
		}
		return names, err
	})
}

func (a *app) completeCrons(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, func(ctx context.Context, db *database) (names []string, err error) {
		crons, err := db.client.Crons(ctx)
		for _, c := range crons {
			names = append(names, c.Name)
		}
		return names, err
	})
}

// complete offers nothing when the database cannot be asked.
func (a *app) complete(cmd *cobra.Command, args []string, find func(ctx context.Context, db *database) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	db, err := a.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer db.pool.Close()
	names, _ := find(ctx, db)
	return names, cobra.ShellCompDirectiveNoFileComp
}
