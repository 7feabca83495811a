package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anchor-go/anchor"
)

func (a *app) queuesCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the queues that hold tasks or are paused",
		Args:  cobra.NoArgs,
		RunE: a.withDatabase(func(ctx context.Context, db *database, _ []string) error {
			stats, err := db.client.Stats(ctx)
			if err != nil {
				return err
			}
			return a.show(shownQueues(stats), func(w io.Writer) {
				if len(stats.Queues) == 0 {
					fmt.Fprintln(w, "no queue holds a task or is paused")
					return
				}
				queueGrid(stats.Queues).write(w)
			})
		}),
	}
	return a.group("queues", "List, pause and resume queues", list,
		a.queueCommand("pause", "Stop the claiming of a queue's tasks, in every worker, until resume", (*anchor.Client).PauseQueue),
		a.queueCommand("resume", "End a pause", (*anchor.Client).ResumeQueue))
}

// shownQueue is a queue in JSON, with its age in a unit that its name tells.
type shownQueue struct {
	anchor.QueueStats
	OldestReady        *struct{} `json:"oldestReady,omitempty"` // hides the one that is embedded
	OldestReadySeconds float64   `json:"oldestReadySeconds"`
}

func shownQueues(stats *anchor.Stats) []shownQueue {
	queues := make([]shownQueue, len(stats.Queues))
	for i, q := range stats.Queues {
		queues[i] = shownQueue{QueueStats: q, OldestReadySeconds: q.OldestReady.Seconds()}
	}
	return queues
}

func queueGrid(queues []anchor.QueueStats) *grid {
	g := newGrid("QUEUE", "READY", "SCHEDULED", "RUNNING", "FAILED", "OLDEST READY", "PAUSED SINCE")
	for _, q := range queues {
		g.add(q.Queue, q.Ready, q.Scheduled, q.Running, q.Failed, age(q.OldestReady), clock(q.PausedSince))
	}
	return g
}

func (a *app) queueCommand(verb, short string, do func(*anchor.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " QUEUE",
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeQueues,
		RunE: a.withDatabase(func(ctx context.Context, db *database, args []string) error {
			if err := do(db.client, ctx, args[0]); err != nil {
				return err
			}
			stats, err := db.client.Stats(ctx)
			if err != nil {
				return err
			}
			q := anchor.QueueStats{Queue: args[0]}
			for _, other := range stats.Queues {
				if other.Queue == args[0] {
					q = other
				}
			}
			if q.Ready+q.Scheduled+q.Running+q.Failed == 0 {
				fmt.Fprintf(a.errs, "anchor: note: queue %s holds no task now; is that its name?\n", quote(q.Queue))
			}
			return a.show(shownQueues(&anchor.Stats{Queues: []anchor.QueueStats{q}})[0], func(w io.Writer) {
				state := "not paused"
				if q.Paused {
					state = "paused since " + clock(q.PausedSince)
				}
				fmt.Fprintf(w, "queue %s is %s: %d ready, %d scheduled, %d running\n", quote(q.Queue), state, q.Ready, q.Scheduled, q.Running)
			})
		}),
	}
}
