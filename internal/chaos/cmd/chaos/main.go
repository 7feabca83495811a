//go:build unix

// Command chaos runs the fault tests with their full counts, and prints a table of what came of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/anchor-go/anchor/internal/chaos"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run() error {
	only := flag.String("only", "", "run only the faults whose name contains this")
	scenes := flag.Int("scenes", 6, "how many scenes run at a time")
	count := flag.Int("n", 0, "how often to do each fault, 0 for the full count")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	suite, err := chaos.Start(ctx, *scenes, report)
	if err != nil {
		return err
	}
	defer suite.Close()
	failed := false
	for _, fault := range chaos.Matrix {
		if !strings.Contains(fault.Name, *only) {
			continue
		}
		n := fault.Full
		if *count > 0 {
			n = *count
		}
		result, err := suite.Run(ctx, fault, n)
		fmt.Printf("%s: %d %s, %d tasks, %d violations, slowest recovery %v, took %v\n", fault.Name, result.Runs, fault.Unit,
			result.Tasks, len(result.Violations), result.Slowest, result.Took)
		for _, v := range result.Violations[:min(len(result.Violations), 10)] {
			fmt.Println("  ", v)
		}
		if err != nil {
			report("%v", err)
		}
		failed = failed || err != nil || len(result.Violations) > 0
	}
	if failed {
		return fmt.Errorf("a promise was broken, or a fault could not be made")
	}
	return nil
}
