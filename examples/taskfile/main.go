// Command taskfile shows tasks.yaml: the file is exported from the Go types, checked against them, and changes the
// policies of the tasks without a new build.
//
//	go run ./examples/taskfile export > tasks.yaml     # the declared tasks
//	go run ./examples/taskfile check tasks.yaml        # does the file fit the code?
//	go run ./examples/taskfile run -tasks tasks.yaml   # enqueue some tasks and work on them, in memory
//	go run ./examples/taskfile schema > schema.json    # for editors
//	go run ./examples/taskfile compare old.yaml        # would tasks queued under old.yaml still run?
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchor-go/anchor"
)

const usage = `usage: taskfile export | check FILE | run [-tasks FILE] | schema | compare FILE`

var errUsage = errors.New(usage)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, errUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	verb, file := "", ""
	if len(args) > 0 {
		verb = args[0]
	}
	if len(args) == 2 {
		file = args[1]
	}
	switch {
	case verb == "export" && len(args) == 1:
		client, err := newClient("")
		if err != nil {
			return err
		}
		return client.ExportYAML(out)
	case verb == "schema" && len(args) == 1:
		_, err := out.Write(anchor.TaskFileSchema())
		return err
	case verb == "check" && file != "":
		if _, err := newClient(file); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "%s fits the code\n", file)
		return err
	case verb == "compare" && file != "":
		return compare(file, out)
	case verb == "run":
		flags := flag.NewFlagSet("run", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		tasks := flags.String("tasks", "", "the task file; without one the tasks are as declared")
		if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
			return errUsage
		}
		return run(ctx, *tasks, out)
	}
	return errUsage
}

// newClient makes a client of the declared tasks, changed by the file where there is one.
func newClient(file string) (*anchor.Client, error) {
	opts := []anchor.ClientOption{anchor.WithTasks(SendWelcomeEmail, MakeThumbnail), anchor.WithLogger(slog.New(slog.DiscardHandler))}
	if file != "" {
		opts = append(opts, anchor.WithTaskFile(file))
	}
	return anchor.New(anchor.NewMemoryStore(), opts...)
}

// compare lists what has changed since an export that would break queued tasks: a step for CI.
func compare(file string, out io.Writer) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	client, err := newClient("")
	if err != nil {
		return err
	}
	var now bytes.Buffer
	if err := client.ExportYAML(&now); err != nil {
		return err
	}
	found, err := anchor.CheckCompatible(old, now.Bytes())
	if err != nil {
		return err
	}
	for _, incompatibility := range found {
		fmt.Fprintln(out, incompatibility)
	}
	if len(found) > 0 {
		return fmt.Errorf("changes that break tasks in the queue: %d", len(found))
	}
	_, err = fmt.Fprintln(out, "no change breaks tasks in the queue")
	return err
}
