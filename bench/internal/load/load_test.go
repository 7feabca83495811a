package load

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/server"
	"github.com/anchor-go/anchor/bench/internal/subject"
)

// TestMain makes this binary a measured process, as main does.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == peer.ChildArgument {
		if err := subject.Run(os.Args[2]); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// newBench is one at the smallest scale, for the Go peers on PostgreSQL, which are everywhere.
func newBench(t *testing.T) *Bench {
	t.Helper()
	postgres, err := server.StartPostgres(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := postgres.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &Bench{
		Postgres: postgres, Scale: 1e-9, Runs: 1, Folder: t.TempDir(), Progress: NewProgress(io.Discard, false),
		Peers: []string{peer.Anchor.Name, peer.Bare.Name, peer.RiverTuned.Name},
	}
}

// measureLoad runs one load and answers its metrics by variant.
func measureLoad(t *testing.T, b *Bench, l *Load) map[string]map[string]float64 {
	t.Helper()
	all := map[string]map[string]float64{}
	if err := l.Run(t.Context(), b, func(run result.Run) { all[run.Variant] = run.Metrics }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLoadsMeasure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, test := range []struct {
		load     *Load
		variants []string
		metrics  []string
	}{
		{burndown(), []string{"anchor", "bare", "river-tuned"}, []string{result.Rate, result.WAL, result.ClientCPU}},
		{transactional(), []string{"anchor", "river-tuned"}, []string{result.Rate}},
		{processes(), []string{"anchor-1", "anchor-2", "anchor-4"}, []string{result.Rate}},
		{history(), []string{WithoutHistory, WithHistory}, []string{result.Rate}},
		{bulk(), []string{"anchor"}, []string{result.Rate, result.WAL}},
	} {
		all := measureLoad(t, b, test.load)
		if len(all) != len(test.variants) {
			t.Errorf("%s: %d variants, want %d", test.load.Name, len(all), len(test.variants))
		}
		for _, variant := range test.variants {
			for _, metric := range test.metrics {
				if !(all[variant][metric] > 0) {
					t.Errorf("%s, %s: %s is %v, want more than 0", test.load.Name, variant, metric, all[variant][metric])
				}
			}
			if twice, missed := all[variant][result.Twice], all[variant][result.Missed]; twice+missed != 0 {
				t.Errorf("%s, %s: %v tasks handled twice, %v not at all", test.load.Name, variant, twice, missed)
			}
		}
	}
}

func TestSeenCountsWhatWasHandledTwiceAndNotAtAll(t *testing.T) {
	t.Parallel()
	r := burn{b: &Bench{Folder: t.TempDir()}, count: 4, workers: 2}
	for i, seen := range [][]byte{{1, 0, 2, 0}, {0, 0, 0, 1}} {
		if err := os.WriteFile(r.seenFile(i), seen, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := map[string]float64{}
	if err := r.countSeen(m); err != nil || m[result.Twice] != 1 || m[result.Missed] != 1 {
		t.Errorf("twice %v, missed %v (%v), want 1 and 1", m[result.Twice], m[result.Missed], err)
	}
}

func TestAPeerThatFailsIsReported(t *testing.T) {
	t.Parallel()
	l := &Load{Name: "broken", variants: []variant{{name: "anchor", peer: peer.Anchor, run: func(context.Context, *Bench, variant) (result.Run, error) {
		return result.Run{}, io.ErrUnexpectedEOF
	}}}}
	b := &Bench{Runs: 2, Peers: []string{"anchor"}, Progress: NewProgress(io.Discard, false)}
	kept := 0
	if err := l.Run(t.Context(), b, func(result.Run) { kept++ }); err == nil || kept != 0 {
		t.Errorf("kept %d runs, error %v, want none and an error", kept, err)
	}
}
