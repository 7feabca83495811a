package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anchor-go/anchor"
)

const maxTaskPage = 5000

func (a *app) tasksCommand() *cobra.Command {
	return a.group("tasks", "List, show, explain, retry and cancel tasks",
		a.tasksListCommand(), a.tasksShowCommand(), a.tasksExplainCommand(),
		a.eachTaskCommand("retry", "failed", "Make failed or cancelled tasks pending again, attempts counted from 0", (*anchor.Client).Retry),
		a.eachTaskCommand("cancel", "pending", "Cancel pending tasks at once, ask running ones to end", (*anchor.Client).Cancel))
}

func (a *app) tasksListCommand() *cobra.Command {
	var query anchor.TaskQuery
	var statuses []string
	var params bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tasks, newest first",
		Long: `list shows a page of tasks, the newest first. The next page is had with --before and the last id of this one; JSON has it
as "next" while there is one. Completed tasks are kept for 24 to 28 hours, failed and cancelled ones for 7 days.`,
		Example: `  anchor tasks list --status failed
  anchor tasks list --queue mail --name SendWelcomeEmail --limit 10
  anchor tasks list --before 1234`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&statuses, "status", nil, "only these: pending, running, completed, failed, cancelled")
	flags.StringVar(&query.Queue, "queue", "", "only of this queue")
	flags.StringVar(&query.Name, "name", "", "only of this name")
	flags.StringVar(&query.UniqueTag, "tag", "", "only of this unique tag")
	flags.Int64Var(&query.Before, "before", 0, "only of lower ids than this one")
	flags.IntVar(&query.Limit, "limit", 50, fmt.Sprintf("how many at most, up to %d", maxTaskPage))
	flags.BoolVar(&params, "params", false, "with their parameters, which may hold secrets")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"pending", "running", "completed", "failed", "cancelled"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("queue", a.completeQueues)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, status := range statuses {
			query.Status = append(query.Status, anchor.Status(status))
			switch anchor.Status(status) {
			case anchor.StatusPending, anchor.StatusRunning, anchor.StatusCompleted, anchor.StatusFailed, anchor.StatusCancelled:
			default:
				return usageError{fmt.Errorf("--status: %s is none of pending, running, completed, failed, cancelled", quote(status))}
			}
		}
		if query.Limit < 1 || query.Limit > maxTaskPage {
			return usageError{fmt.Errorf("--limit: %d is not between 1 and %d", query.Limit, maxTaskPage)}
		}
		if query.Before < 0 || query.Before == 0 && cmd.Flags().Changed("before") {
			return usageError{fmt.Errorf("--before: %d is no task's id", query.Before)}
		}
		return a.withDatabase(func(ctx context.Context, db *database, _ []string) error { return a.listTasks(ctx, db, query, params) })(cmd, args)
	}
	return cmd
}

func (a *app) listTasks(ctx context.Context, db *database, query anchor.TaskQuery, params bool) error {
	limit := query.Limit
	query.Limit++ // one more tells whether there is a next page
	tasks, err := db.client.Tasks(ctx, query)
	if err != nil {
		return err
	}
	page := struct {
		Tasks []*anchor.TaskInfo `json:"tasks"`
		Next  int64              `json:"next,omitzero"`
	}{Tasks: tasks}
	if len(tasks) > limit {
		page.Tasks = tasks[:limit]
		page.Next = page.Tasks[limit-1].ID
	}
	if page.Tasks == nil {
		page.Tasks = []*anchor.TaskInfo{}
	}
	if !params {
		for _, task := range page.Tasks {
			task.Params = nil
		}
	}
	return a.show(page, func(w io.Writer) {
		if len(page.Tasks) == 0 {
			fmt.Fprintln(w, "no tasks")
			return
		}
		columns := []string{"ID", "NAME", "QUEUE", "STATUS", "ATTEMPTS", "CREATED", "DUE, STARTED OR ENDED"}
		if params {
			columns = append(columns, "PARAMETERS")
		}
		g := newGrid(columns...)
		for _, task := range page.Tasks {
			cells := []any{task.ID, task.Name, task.Queue, task.Status, attempts(task), clock(task.CreatedAt), newest(task)}
			if params {
				cells = append(cells, string(task.Params))
			}
			g.add(cells...)
		}
		g.write(w)
		if page.Next != 0 {
			fmt.Fprintf(w, "\nthere are more: --before %d\n", page.Next)
		}
	})
}

func attempts(task *anchor.TaskInfo) string {
	if task.MaxAttempts < 0 {
		return fmt.Sprintf("%d of any", task.Attempts)
	}
	return fmt.Sprintf("%d of %d", task.Attempts, task.MaxAttempts)
}

// newest is the newest thing that happened to a task, or the next that will.
func newest(task *anchor.TaskInfo) string {
	switch task.Status {
	case anchor.StatusPending:
		return "due " + clock(task.NextRun)
	case anchor.StatusRunning:
		return "started " + clock(task.StartedAt)
	}
	return "ended " + clock(task.FinishedAt)
}

// taskID reads an id of the command line.
func taskID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id < 1 {
		return 0, usageError{fmt.Errorf("%s is no task's id, which is a whole number from 1", quote(arg))}
	}
	return id, nil
}

// ofTask adds to an error which task it is about.
func ofTask(id int64, err error) error {
	if errors.Is(err, anchor.ErrTaskNotFound) {
		return fmt.Errorf("task %d: %w (its retention is over, its transaction has not committed, or there never was one)", id, err)
	}
	return fmt.Errorf("task %d: %w", id, err)
}

// withTask does something about the task whose id is the argument.
func (a *app) withTask(do func(ctx context.Context, db *database, id int64) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		id, err := taskID(args[0])
		if err != nil {
			return err
		}
		return a.withDatabase(func(ctx context.Context, db *database, _ []string) error {
			if err := do(ctx, db, id); err != nil {
				return ofTask(id, err)
			}
			return nil
		})(cmd, args)
	}
}

func (a *app) tasksShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show all of one task, its parameters and errors included",
		Args:  cobra.ExactArgs(1),
		RunE: a.withTask(func(ctx context.Context, db *database, id int64) error {
			task, err := db.client.Task(ctx, id)
			if err != nil {
				return err
			}
			return a.show(task, func(w io.Writer) { writeTask(w, task) })
		}),
	}
}

func writeTask(w io.Writer, task *anchor.TaskInfo) {
	g := &grid{}
	field := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			g.add(name, text)
		}
	}
	field("id", task.ID)
	field("name", task.Name)
	field("queue", task.Queue)
	field("status", task.Status)
	field("priority", task.Priority)
	field("attempts", attempts(task))
	field("unique tag", task.UniqueTag)
	field("created", clock(task.CreatedAt))
	field("scheduled for", clock(task.ScheduledFor))
	field("due", clock(task.NextRun))
	field("started", clock(task.StartedAt))
	field("ended", clock(task.FinishedAt))
	field("worker", task.WorkerID)
	g.write(w)
	fmt.Fprintln(w, "parameters")
	var pretty strings.Builder
	encoder := json.NewEncoder(&pretty)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(task.Params) // it is JSON
	fmt.Fprint(w, indented(pretty.String(), "  "))
	writeErrors(w, task)
}

func writeErrors(w io.Writer, task *anchor.TaskInfo) {
	for _, failure := range task.Errors {
		fmt.Fprintf(w, "attempt %d failed at %s\n%s", failure.Attempt, clock(failure.At), indented(failure.Message, "  "))
	}
}

func (a *app) tasksExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Tell why a task is not running, and since when",
		Long: `explain tells why a task is not running: its queue is paused, no live worker takes it, it is not due, others are before
it; or who runs it, or how it ended. JSON has the reason as one of queue_paused, no_worker, not_due, waiting, running,
worker_lost, completed, failed, cancelled.`,
		Args: cobra.ExactArgs(1),
		RunE: a.withTask(func(ctx context.Context, db *database, id int64) error {
			e, err := db.client.Explain(ctx, id)
			if err != nil {
				return err
			}
			return a.show(e, func(w io.Writer) { writeExplanation(w, e) })
		}),
	}
}

func writeExplanation(w io.Writer, e *anchor.Explanation) {
	reason := ""
	if string(e.Reason) != string(e.Task.Status) {
		reason = ": " + strings.ReplaceAll(string(e.Reason), "_", " ")
	}
	fmt.Fprintf(w, "task %d, %s in queue %s, is %s%s\n%s\n", e.Task.ID, clean(e.Task.Name), clean(e.Task.Queue), e.Task.Status, reason, clean(e.Text))
	if len(e.Takers) == 0 && len(e.Others) > 0 {
		fmt.Fprintln(w)
		writeWorkers(w, e.Others)
	}
	if len(e.Task.Errors) > 0 {
		fmt.Fprintln(w)
		writeErrors(w, e.Task)
	}
}

// taskState is what became of a task that was changed.
type taskState struct {
	ID     int64         `json:"id"`
	Status anchor.Status `json:"status"`
}

// eachTaskCommand does something to each of the tasks given: to the others, too, when one does not allow it.
func (a *app) eachTaskCommand(verb, status, short string, do func(*anchor.Client, context.Context, int64) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " ID...",
		Short: short,
		Long:  short + ". Each is tried; the exit code is that of the first that could not be done.",
		Example: "  anchor tasks " + verb + " 12 13\n" +
			"  anchor tasks list --status " + status + " --json | jq -r '.tasks[].id' | xargs anchor tasks " + verb,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []int64
			for _, arg := range args {
				id, err := taskID(arg)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return a.withDatabase(func(ctx context.Context, db *database, _ []string) error {
				return a.eachTask(ctx, db, ids, do)
			})(cmd, args)
		},
	}
}

func (a *app) eachTask(ctx context.Context, db *database, ids []int64, do func(*anchor.Client, context.Context, int64) error) error {
	done := []taskState{}
	var first error
	for _, id := range ids {
		err := do(db.client, ctx, id)
		var task *anchor.TaskInfo
		if err == nil {
			task, err = db.client.Task(ctx, id)
		}
		if err != nil {
			err = ofTask(id, err)
			if len(ids) > 1 {
				_, text := a.judge(ctx, err)
				fmt.Fprintln(a.errs, "anchor: "+text)
				err = toldError{err}
			}
			if first == nil {
				first = err
			}
			continue
		}
		done = append(done, taskState{id, task.Status})
	}
	if first != nil && len(done) == 0 {
		return first
	}
	err := a.show(done, func(w io.Writer) {
		for _, task := range done {
			switch task.Status {
			case anchor.StatusRunning:
				fmt.Fprintf(w, "task %d is running, and was asked to end\n", task.ID)
			default:
				fmt.Fprintf(w, "task %d is %s\n", task.ID, task.Status)
			}
		}
	})
	return errors.Join(first, err)
}
