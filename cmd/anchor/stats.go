package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anchor-go/anchor"
)

const minWatchInterval = 100 * time.Millisecond

func (a *app) statsCommand() *cobra.Command {
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count tasks by queue, and workers",
		Long: `stats counts the tasks of each queue and the workers. It reads all that is pending: on queues of millions, take a long
--interval. With --watch it goes on until it is interrupted: in place on a terminal, elsewhere a line of JSON each time.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often, with --watch")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if interval < minWatchInterval {
			return usageError{fmt.Errorf("--interval: %v is less than %v", interval, minWatchInterval)}
		}
		if cmd.Flags().Changed("interval") && !watch {
			return usageError{fmt.Errorf("--interval is of use with --watch only")}
		}
		forever := cmd.Context()
		return a.withDatabase(func(ctx context.Context, db *database, _ []string) error {
			if watch {
				return a.watchStats(forever, db, interval)
			}
			o, err := db.overview(ctx)
			if err != nil {
				return err
			}
			return a.show(o, o.write)
		})(cmd, args)
	}
	return cmd
}

// overview is what stats shows.
type overview struct {
	At      time.Time       `json:"at"`
	Queues  []shownQueue    `json:"queues"`
	Workers workersOverview `json:"workers"`
	stats   *anchor.Stats
}

type workersOverview struct {
	Alive int `json:"alive"`
	Lost  int `json:"lost"`
	Slots int `json:"slots"` // of those alive, as is held
	Held  int `json:"held"`
}

func (db *database) overview(ctx context.Context) (*overview, error) {
	stats, err := db.client.Stats(ctx)
	if err != nil {
		return nil, err
	}
	workers, err := db.client.Workers(ctx)
	if err != nil {
		return nil, err
	}
	o := &overview{At: time.Now().Local(), Queues: shownQueues(stats), stats: stats}
	for _, w := range workers {
		if !w.Alive {
			o.Workers.Lost++
			continue
		}
		o.Workers.Alive++
		o.Workers.Slots += w.Slots
		o.Workers.Held += w.Held
	}
	return o, nil
}

func (o *overview) write(w io.Writer) {
	g := queueGrid(o.stats.Queues)
	total := anchor.QueueStats{Queue: "total"}
	for _, q := range o.stats.Queues {
		total.Ready += q.Ready
		total.Scheduled += q.Scheduled
		total.Running += q.Running
		total.Failed += q.Failed
		total.OldestReady = max(total.OldestReady, q.OldestReady)
	}
	g.add("total", total.Ready, total.Scheduled, total.Running, total.Failed, age(total.OldestReady), "")
	g.write(w)
	if o.Workers.Alive+o.Workers.Lost == 0 {
		fmt.Fprintln(w, "\nno workers")
		return
	}
	lost := ""
	if o.Workers.Lost > 0 {
		lost = fmt.Sprintf(", %d lost", o.Workers.Lost)
	}
	fmt.Fprintf(w, "\n%s alive%s, with %s for %s\n", count(o.Workers.Alive, "worker", "workers"), lost,
		count(o.Workers.Held, "task", "tasks"), count(o.Workers.Slots, "slot", "slots"))
}

// watchStats shows the counts until ctx ends, which is no error. Once it has begun, neither is trouble with the
// database, which is told.
func (a *app) watchStats(ctx context.Context, db *database, interval time.Duration) error {
	for begun := false; ; begun = true {
		bounded, cancel := a.bounded(ctx)
		o, err := db.overview(bounded)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !begun {
			return err
		}
		if err := a.frame(ctx, o, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// frame writes one look.
func (a *app) frame(ctx context.Context, o *overview, failed error) error {
	var b bytes.Buffer
	switch {
	case failed != nil:
		_, text := a.judge(ctx, failed)
		fmt.Fprintf(a.errs, "anchor: %s: %s\n", clock(time.Now()), text)
		return nil
	case a.json:
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(o); err != nil {
			return err
		}
	default:
		fmt.Fprintln(&b, clock(o.At))
		fmt.Fprintln(&b)
		o.write(&b)
	}
	text := b.String()
	if !a.json && a.terminal {
		// From the top, line by line, so that nothing flickers.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	} else if !a.json {
		text += "\n"
	}
	if _, err := io.WriteString(a.out, text); err != nil {
		return err
	}
	if f, ok := a.out.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}
