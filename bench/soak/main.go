// Command soak keeps a steady mixed load on one worker and fails when something grows. Run it from a checkout: make
// soak, or for a shorter time:
//
//	go run ./soak -for 5m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/anchor-go/anchor/bench/internal/report"
	"github.com/anchor-go/anchor/bench/internal/server"
	"github.com/anchor-go/anchor/bench/internal/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// minSamples is how many it takes to tell a slope from chance.
const minSamples = 12

func run(ctx context.Context, args []string) (err error) {
	o := soak.Options{Every: 10 * time.Second}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&o.For, "for", 30*time.Minute, "how long")
	flags.DurationVar(&o.Every, "every", o.Every, "time between samples")
	flags.Float64Var(&o.Rate, "rate", 200, "tasks a second that are enqueued one by one; 100 more come in bulk")
	docs := flags.String("docs", "", "folder for soak.md and its charts; empty: print only")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.Rate <= 0 || o.Every <= 0 || o.For < minSamples*o.Every {
		return fmt.Errorf("-rate and -every must be positive, and -for at least %d times -every", minSamples)
	}
	postgres, err := server.StartPostgres(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Stop()) }()
	machine := server.Describe(ctx, postgres)
	o.Progress = func(s soak.Sample) {
		fmt.Fprintf(os.Stderr, "%5.0f s: %.0f tasks/s, pickup p99 %.1f ms, hot %.1f MB + indexes %.1f MB, %.0f dead, %.0f pending, resident %.1f MB, %.0f goroutines\n",
			s.Second, s.Rate, s.Pickup, s.HotBytes/1e6, s.HotIndexBytes/1e6, s.DeadTuples, s.Pending, s.Resident/1e6, s.Goroutines)
	}
	samples, err := soak.Run(ctx, postgres, o)
	if err != nil {
		return err
	}
	if len(samples) < minSamples {
		return fmt.Errorf("only %d samples, too few to judge", len(samples))
	}
	verdicts := soak.Judge(samples)
	var errs []error
	for _, v := range verdicts {
		fmt.Println(v)
		if v.Bad {
			errs = append(errs, fmt.Errorf("%s %s", v.Measure.Name, v.Word()))
		}
	}
	if *docs != "" {
		errs = append(errs, report.WriteSoak(*docs, machine, samples, verdicts))
	}
	return errors.Join(errs...)
}
