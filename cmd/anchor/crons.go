package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anchor-go/anchor"
)

func (a *app) cronsCommand() *cobra.Command {
	return a.group("crons", "List, pause, resume and run schedules", a.cronsListCommand(),
		a.cronCommand("pause", "Stop a schedule until resume", (*anchor.Client).PauseCron),
		a.cronCommand("resume", "Let a schedule go on with its next tick", (*anchor.Client).ResumeCron),
		a.cronRunCommand())
}

// shownCron is a schedule in JSON, with its parameters only when they are asked for.
type shownCron struct {
	*anchor.CronInfo
	Params json.RawMessage `json:"params,omitempty"`
}

func (a *app) cronsListCommand() *cobra.Command {
	var params bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the schedules",
		Args:  cobra.NoArgs,
		RunE: a.withDatabase(func(ctx context.Context, db *database, _ []string) error {
			crons, err := db.client.Crons(ctx)
			if err != nil {
				return err
			}
			shown := make([]shownCron, len(crons))
			for i, c := range crons {
				shown[i] = shownCron{CronInfo: c}
				if params {
					shown[i].Params = c.Params
				}
			}
			return a.show(shown, func(w io.Writer) { writeCrons(w, shown, params) })
		}),
	}
	cmd.Flags().BoolVar(&params, "params", false, "with their parameters, which may hold secrets")
	return cmd
}

func writeCrons(w io.Writer, crons []shownCron, params bool) {
	if len(crons) == 0 {
		fmt.Fprintln(w, "no schedules")
		return
	}
	columns := []string{"NAME", "TASK", "EXPRESSION", "ZONE", "QUEUE", "STATE", "NEXT TICK", "LAST TICK", "NEWEST TASK"}
	if params {
		columns = append(columns, "PARAMETERS")
	}
	g := newGrid(columns...)
	for _, c := range crons {
		newest := ""
		if c.TaskID != 0 {
			newest = fmt.Sprint(c.TaskID)
		}
		cells := []any{c.Name, c.TaskName, c.Expression, c.TimeZone, c.Queue, cronState(c.CronInfo), clock(c.NextRun), clock(c.LastTick), newest}
		if params {
			cells = append(cells, string(c.Params))
		}
		g.add(cells...)
	}
	g.write(w)
	for _, c := range crons {
		if c.Problem != "" {
			fmt.Fprintf(w, "\n%s is stopped: %s\n", clean(c.Name), clean(c.Problem))
		}
	}
}

func cronState(c *anchor.CronInfo) string {
	switch {
	case c.Problem != "":
		return "stopped"
	case !c.Enabled:
		return "paused"
	case c.Orphaned:
		return "orphaned"
	}
	return "ticking"
}

func (a *app) cronCommand(verb, short string, do func(*anchor.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " NAME",
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCrons,
		RunE: a.withDatabase(func(ctx context.Context, db *database, args []string) error {
			if err := do(db.client, ctx, args[0]); err != nil {
				return ofCron(args[0], err)
			}
			crons, err := db.client.Crons(ctx)
			if err != nil {
				return err
			}
			for _, c := range crons {
				if c.Name == args[0] {
					return a.show(shownCron{CronInfo: c}, func(w io.Writer) {
						next := ""
						if !c.NextRun.IsZero() {
							next = ", its next tick is " + clock(c.NextRun)
						}
						fmt.Fprintf(w, "schedule %s is %s%s\n", quote(c.Name), cronState(c), next)
					})
				}
			}
			return ofCron(args[0], anchor.ErrCronNotFound) // deleted meanwhile
		}),
	}
}

func (a *app) cronRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "run NAME",
		Short:             "Make an instance of a schedule now, beside its ticks",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeCrons,
		RunE: a.withDatabase(func(ctx context.Context, db *database, args []string) error {
			id, err := db.client.RunCronNow(ctx, args[0])
			if err != nil {
				return ofCron(args[0], err)
			}
			task, err := db.client.Task(ctx, id)
			if err != nil {
				return ofTask(id, err)
			}
			return a.show(taskState{id, task.Status}, func(w io.Writer) {
				fmt.Fprintf(w, "task %d is %s\n", id, task.Status)
			})
		}),
	}
}

// ofCron adds to an error which schedule it is about.
func ofCron(name string, err error) error {
	if errors.Is(err, anchor.ErrCronNotFound) {
		return fmt.Errorf("schedule %s: %w (anchor crons list shows those there are)", quote(name), anchor.ErrCronNotFound)
	}
	return fmt.Errorf("schedule %s: %w", quote(name), err)
}
