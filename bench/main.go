// Command bench compares this library with others on one machine and writes docs/performance.md. Run it from a
// checkout: make bench, or for one load in a minute:
//
//	go run . -only burndown,latency -scale 0.1
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/report"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/server"
	"github.com/anchor-go/anchor/bench/internal/subject"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == peer.ChildArgument {
		if err := subject.Run(os.Args[2]); err != nil {
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	loads, peers string
	scale        float64
	runs         int
	docs         string
	save, from   string
	profiles     string
	statements   bool
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.loads, "only", "", "loads to run, separated by commas; empty: all ("+strings.Join(loadNames(), ", ")+")")
	flags.StringVar(&o.peers, "peers", "", "peers to measure, separated by commas; empty: all ("+strings.Join(peerNames(), ", ")+")")
	flags.Float64Var(&o.scale, "scale", 1, "multiplies the numbers of tasks")
	flags.IntVar(&o.runs, "runs", 3, "how often each is measured")
	flags.StringVar(&o.docs, "docs", "", "folder for performance.md and its charts; empty: print the tables only")
	flags.StringVar(&o.save, "save", "", "file to keep the figures in, as JSON")
	flags.StringVar(&o.from, "from", "", "file with figures that were kept: measure nothing, or only what -only says anew")
	flags.StringVar(&o.profiles, "profiles", "", "folder for CPU profiles of the measured processes")
	flags.BoolVar(&o.statements, "statements", false, "print the costliest statements of each run, nested ones too (this costs speed)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.scale <= 0 || o.runs < 1 {
		return errors.New("-scale and -runs must be positive")
	}
	set, err := read(o.from)
	if err != nil {
		return err
	}
	loads, err := chosenLoads(o)
	if err != nil {
		return err
	}
	peers, err := chosenPeers(o)
	if err != nil {
		return err
	}
	var failed error
	if len(loads) > 0 {
		failed = measure(ctx, o, loads, peers, set)
	}
	return errors.Join(failed, tell(o, set))
}

// tell prints and writes what the figures say.
func tell(o options, set *result.Set) error {
	fmt.Print(report.Text(set))
	var errs []error
	if o.docs != "" {
		errs = append(errs, report.Write(o.docs, set))
	}
	if o.save != "" {
		raw, err := json.Marshal(set)
		if err == nil {
			err = os.WriteFile(o.save, append(raw, '\n'), 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func read(path string) (*result.Set, error) {
	set := &result.Set{}
	if path == "" {
		return set, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return set, json.Unmarshal(raw, set)
}

// measure runs the loads; their figures replace those that the set has of them.
func measure(ctx context.Context, o options, loads []*load.Load, peers []string, set *result.Set) (err error) {
	terminal := false
	if info, err := os.Stderr.Stat(); err == nil {
		terminal = info.Mode()&os.ModeCharDevice != 0
	}
	b := &load.Bench{
		Scale: o.scale, Runs: o.runs, Peers: peers, Profiles: o.profiles, Statements: o.statements,
		Progress: load.NewProgress(os.Stderr, terminal),
	}
	if b.Profiles != "" {
		if err := os.MkdirAll(b.Profiles, 0o755); err != nil {
			return err
		}
	}
	if b.Folder, err = os.MkdirTemp("", "anchor-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.Folder)
	b.Progress.Line("starting PostgreSQL")
	if b.Postgres, err = server.StartPostgres(ctx, o.statements); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Postgres.Stop()) }()
	set.Machine = server.Describe(ctx, b.Postgres)
	set.Machine.Scale = o.scale
	var errs []error
	for _, l := range loads {
		kept := set.Runs[:0:0]
		for _, run := range set.Runs {
			if run.Load != l.Name {
				kept = append(kept, run)
			}
		}
		set.Runs = kept
		errs = append(errs, l.Run(ctx, b, func(run result.Run) { set.Runs = append(set.Runs, run) }))
	}
	return errors.Join(errs...)
}

func loadNames() []string {
	var names []string
	for _, l := range load.All() {
		names = append(names, l.Name)
	}
	return names
}

func peerNames() []string {
	var names []string
	for _, p := range peer.All {
		names = append(names, p.Name)
	}
	return names
}

// chosenLoads are those of -only; without it all, or none when there are figures to show.
func chosenLoads(o options) ([]*load.Load, error) {
	all := load.All()
	if o.loads == "" {
		if o.from != "" {
			return nil, nil
		}
		return all, nil
	}
	var chosen []*load.Load
	for _, name := range strings.Split(o.loads, ",") {
		i := slices.IndexFunc(all, func(l *load.Load) bool { return l.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: no load %q; there are %s", name, strings.Join(loadNames(), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func chosenPeers(o options) ([]string, error) {
	if o.peers == "" {
		return peerNames(), nil
	}
	names := strings.Split(o.peers, ",")
	for _, name := range names {
		if !slices.Contains(peerNames(), name) {
			return nil, fmt.Errorf("-peers: no peer %q; there are %s", name, strings.Join(peerNames(), ", "))
		}
	}
	return names, nil
}
