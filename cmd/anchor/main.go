// Command anchor looks at the tasks, queues, schedules and workers of a database, and steps in. See anchor --help.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the zones of schedules, and TZ, on machines that have none
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := bufio.NewWriter(os.Stdout)
	a := &app{out: out, errs: os.Stderr, terminal: isTerminal(os.Stdout)}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(os.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError{fmt.Errorf("%w; see %q", err, cmd.CommandPath()+" --help")}
	}
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("writing the output: %w", flushed)
	}
	if err == nil {
		return exitDone
	}
	code, text := a.verdict(ctx, err)
	if text != "" {
		fmt.Fprintln(os.Stderr, "anchor: "+text)
	}
	return code
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
