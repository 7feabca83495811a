package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/anchor-go/anchor"
)

func (a *app) workersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "workers",
		Short: "List the workers, what they take and how many tasks they hold",
		Args:  cobra.NoArgs,
		RunE: a.withDatabase(func(ctx context.Context, db *database, _ []string) error {
			workers, err := db.client.Workers(ctx)
			if err != nil {
				return err
			}
			if workers == nil {
				workers = []*anchor.WorkerInfo{}
			}
			return a.show(workers, func(w io.Writer) {
				if len(workers) == 0 {
					fmt.Fprintln(w, "no workers")
					return
				}
				writeWorkers(w, workers)
			})
		}),
	}
}

func writeWorkers(w io.Writer, workers []*anchor.WorkerInfo) {
	g := newGrid("WORKER", "HOST", "PROCESS", "STATE", "TASKS", "STARTED", "LEASE UNTIL", "QUEUES", "HANDLES")
	for _, info := range workers {
		state := "alive"
		if !info.Alive {
			state = "lost"
		}
		queues := "all"
		if len(info.Queues) > 0 {
			queues = listed(info.Queues)
		}
		g.add(info.ID, info.Host, info.PID, state, fmt.Sprintf("%d of %d", info.Held, info.Slots), clock(info.StartedAt), clock(info.LeaseUntil), queues, listed(info.Tasks))
	}
	g.write(w)
}

// listed is a list that does not get too long for a table.
func listed(names []string) string {
	const most = 60
	var shown []string
	length := 0
	for i, name := range names {
		if length += utf8.RuneCountInString(name) + 2; i > 0 && length > most {
			return fmt.Sprintf("%s and %d more", strings.Join(shown, ", "), len(names)-i)
		}
		shown = append(shown, name)
	}
	return strings.Join(shown, ", ")
}
