package soak

import (
	"testing"
	"time"

	"github.com/anchor-go/anchor/bench/internal/server"
)

// A short one does everything that a long one does.
func TestRun(t *testing.T) {
	t.Parallel()
	postgres, err := server.StartPostgres(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := postgres.Stop(); err != nil {
			t.Error(err)
		}
	})
	shown := 0
	samples, err := Run(t.Context(), postgres, Options{For: 6 * time.Second, Every: 500 * time.Millisecond, Rate: 200, Progress: func(Sample) { shown++ }})
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) < 3 || shown != len(samples) {
		t.Fatalf("%d samples, of which %d were shown", len(samples), shown)
	}
	last := samples[len(samples)-1]
	for what, value := range map[string]float64{
		"time": last.Second, "size of the hot partition": last.HotBytes, "size of its indexes": last.HotIndexBytes,
		"history": last.HistoryBytesPerTask, "errors": last.ErrorBytesPerError, "ticks": last.TickBytesPerTick, "goroutines": last.Goroutines, "heap": last.Heap,
	} {
		if value <= 0 {
			t.Errorf("%s: %v", what, value)
		}
	}
	if verdicts := Judge(samples); len(verdicts) != len(Measures) {
		t.Errorf("%d verdicts on %d measures", len(verdicts), len(Measures))
	}
}
