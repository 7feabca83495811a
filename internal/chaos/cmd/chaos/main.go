//go:build unix

// Command chaos runs the fault tests with their full counts, tries every mutant, prints a table of what came of them
// and, with -write, makes a page of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anchor-go/anchor/internal/chaos"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	only := flag.String("only", "", "do only what has this in its name, faults and mutants")
	scenes := flag.Int("scenes", 8, "how many scenes run at a time")
	count := flag.Int("n", 0, "how often to do each fault, 0 for the full count")
	write := flag.String("write", "", "write the page to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	progress := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	suite, err := chaos.Start(ctx, *scenes, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, suite.Close()) }()
	report, err := suite.NewReport(ctx, began)
	if err != nil {
		return err
	}
	report.Results = runMatrix(ctx, suite, *only, *count)
	report.Mutants = tryMutants(ctx, suite, *only, progress)
	report.Took = time.Since(began)
	fmt.Printf("\n%s\n%s\n", report.Table(), report.MutantTable())
	if *write != "" {
		if err := report.Write(*write); err != nil {
			return err
		}
	}
	if report.Failed() {
		return errors.New("a promise was broken, a fault was not made often enough, or a mutant was not caught")
	}
	return ctx.Err()
}

// runMatrix does the faults side by side, as the suite bounds how many scenes that makes, and then those that want to be
// alone.
func runMatrix(ctx context.Context, suite *chaos.Suite, only string, count int) []chaos.Result {
	faults := slices.DeleteFunc(slices.Clone(chaos.Matrix), func(f chaos.Fault) bool { return !strings.Contains(f.Name, only) })
	results := make([]chaos.Result, len(faults))
	var group sync.WaitGroup
	var alone []func()
	for i, fault := range faults {
		n := fault.Full
		if count > 0 {
			n = count
		}
		do := func() {
			r := suite.Run(ctx, fault, n)
			results[i] = r
			fmt.Printf("%s: %d %s, %d tasks, %d violations, slowest recovery %v, took %v\n", fault.Name, r.Runs, fault.Unit, r.Tasks,
				len(r.Violations), r.Slowest.Round(time.Millisecond), r.Took.Round(time.Second))
			for _, v := range r.Violations[:min(len(r.Violations), 10)] {
				fmt.Println("   ", v)
			}
			if r.Err != nil {
				fmt.Println("   ", r.Err)
			}
		}
		if fault.Alone {
			alone = append(alone, do)
		} else {
			group.Go(do)
		}
	}
	group.Wait()
	for _, do := range alone {
		do()
	}
	return results
}

func tryMutants(ctx context.Context, suite *chaos.Suite, only string, progress func(format string, args ...any)) []chaos.Caught {
	var tried []chaos.Caught
	for _, m := range chaos.Mutants {
		if !strings.Contains(m.Name, only) || ctx.Err() != nil {
			continue
		}
		found, err := suite.Try(ctx, m)
		if err != nil {
			progress("%v", err)
		}
		caught := chaos.Caught{Name: m.Name, By: strings.Join(slices.Sorted(maps.Keys(found)), ", "), Missed: found[m.Check] == 0}
		fmt.Printf("mutant %q: caught by %s, missed %v\n", m.Name, caught.By, caught.Missed)
		tried = append(tried, caught)
	}
	return tried
}
