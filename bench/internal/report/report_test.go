package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/soak"
)

func run(name, variant string, number int, metrics map[string]float64) result.Run {
	return result.Run{Load: name, Variant: variant, Number: number, Metrics: metrics}
}

// measured is a set with something of every load that has a chart.
func measured() *result.Set {
	set := &result.Set{Machine: result.Machine{Date: "2026-01-02", CPU: "a <fast> one", Cores: 2, Scale: 1}}
	for number := 1; number <= 3; number++ {
		x := float64(number)
		set.Runs = append(set.Runs,
			run(load.Burndown, ours, number, map[string]float64{result.Rate: 90_000 * x, result.ClientCPU: 4 * x, result.WAL: 1100}),
			run(load.Burndown, rivers, number, map[string]float64{result.Rate: 30_000 * x, result.WAL: 2200}),
			run(load.Enqueue, load.EnqueueVariant(ours, 1), number, map[string]float64{result.Rate: 3200}),
			run(load.Enqueue, load.EnqueueVariant(peer.River.Name, 1), number, map[string]float64{result.Rate: 2000}),
			run(load.Processes, load.ProcessesVariant(4), number, map[string]float64{result.Rate: 90_000, result.Twice: x - 1, result.Missed: 0}),
			run(load.Backlog, load.BacklogVariant(ours, 10_000), number, map[string]float64{result.Rate: 50_000}),
			run(load.Paced, load.PacedVariant(ours, 10), number, map[string]float64{result.Rate: 2778, result.Tasks: 27_780, result.WAL: 1500, result.ServerCPU: 100}),
			result.Run{Load: load.Latency, Variant: ours, Number: number, Samples: []float64{1, 2, 3}, Metrics: map[string]float64{result.P50: 2}},
			result.Run{Load: load.Held, Variant: ours + load.HeldSuffix, Number: number, Series: []result.Point{{X: 1, Y: 9}, {X: 2, Y: 8}}, Metrics: map[string]float64{result.Rate: 9}},
		)
	}
	return set
}

func rowOf(t *testing.T, set *result.Set, name string) row {
	t.Helper()
	for _, r := range rows(set) {
		if strings.HasPrefix(r.Load, name) {
			return r
		}
	}
	t.Fatalf("no row %q", name)
	panic("unreachable")
}

func TestTargets(t *testing.T) {
	t.Parallel()
	set := measured()
	for name, want := range map[string]row{
		"burn-down of no-op tasks":    {Value: "3.00 x", Figures: "180,000/s : 60,000/s", Known: true, Met: false},
		"enqueue one by one, 1":       {Value: "1.60 x", Figures: "3,200/s : 2,000/s", Known: true, Met: true},
		"pickup latency at rest, p50": {Value: "2.00 ms", Known: true, Met: true},
		"pickup latency at rest, p99": {},
		"client CPU per task":         {Value: "8.00 µs (4.00 to 12.0)", Figures: "River 0.0 µs", Known: true, Met: false},
		"WAL per task":                {Value: "0.500 x", Figures: "1100 : 2200 bytes", Known: true, Met: true},
		"tasks handled twice":         {Value: "2.00 (0 to 2.00)", Known: true, Met: false},
	} {
		got := rowOf(t, set, name)
		want.Load, want.Want = got.Load, got.Want
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRatiosAreTakenWithinARun(t *testing.T) {
	t.Parallel()
	set := &result.Set{Runs: []result.Run{
		run("l", "a", 1, map[string]float64{result.Rate: 10}), run("l", "b", 1, map[string]float64{result.Rate: 5}),
		run("l", "a", 2, map[string]float64{result.Rate: 100}), run("l", "b", 2, map[string]float64{result.Rate: 25}),
		run("l", "a", 3, map[string]float64{result.Rate: 7}),
	}}
	want := result.Summary{Median: 3, Min: 2, Max: 4, N: 2}
	if diff := cmp.Diff(want, set.Ratio("l", "a", result.Rate, "b")); diff != "" {
		t.Errorf("ratio (-want +got):\n%s", diff)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234.5: "1,235", 12_345_678: "12,345,678", -1234: "-1,234", -123_456: "-123,456",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) is %q, want %q", v, got, want)
		}
	}
}

func TestWriteMakesAPageAndItsPictures(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := Write(folder, measured()); err != nil {
		t.Fatal(err)
	}
	page := readFile(t, filepath.Join(folder, "performance.md"))
	for _, want := range []string{
		"| burn-down of no-op tasks, against River with its benchmark's settings | 4 x | 3.00 x | 180,000/s : 60,000/s | **no** |",
		"![Burn-down rates](performance/burndown.svg)", "2026-01-02", "10 million an hour",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "transactional.svg") {
		t.Error("the page shows a picture of what was not measured")
	}
	pictures, err := filepath.Glob(filepath.Join(folder, "performance", "*.svg"))
	if err != nil || len(pictures) != 5 {
		t.Errorf("%d pictures (%v), want 5", len(pictures), err)
	}
	for _, picture := range pictures {
		if err := wellFormed(picture); err != nil {
			t.Errorf("%s: %v", picture, err)
		}
	}
}

func TestWriteSoak(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var samples []soak.Sample
	for i := range 30 {
		samples = append(samples, soak.Sample{Second: float64(10 * i), Rate: 300, Pickup: math.NaN(), Goroutines: float64(40 + 10*i)})
	}
	if err := WriteSoak(folder, result.Machine{Date: "2026-01-02"}, samples, soak.Judge(samples)); err != nil {
		t.Fatal(err)
	}
	page := readFile(t, filepath.Join(folder, "soak.md"))
	for _, want := range []string{
		"2026-01-02", "for 5 minutes, sampled 30 times", "| rate, tasks/s | 300 | 0 | steady |", "| goroutines | 235 | 190 | **grows** |",
		"![goroutines over time](performance/soak-goroutines.svg)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if err := wellFormed(filepath.Join(folder, "performance", "soak-goroutines.svg")); err != nil {
		t.Error(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// wellFormed reads a file as XML.
func wellFormed(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	decoder := xml.NewDecoder(file)
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestNothingMeasuredIsNoRow(t *testing.T) {
	t.Parallel()
	if text := Text(&result.Set{}); text != "" {
		t.Errorf("text is %q, want none", text)
	}
	if err := Write(t.TempDir(), &result.Set{}); err != nil {
		t.Error(err)
	}
}

func TestAxis(t *testing.T) {
	t.Parallel()
	a := linear(87_000, 100, 600)
	if got := a.ticks(); !cmp.Equal(got, []float64{0, 20_000, 40_000, 60_000, 80_000, 100_000}) {
		t.Errorf("ticks are %v", got)
	}
	if got := a.at(50_000); got != 350 {
		t.Errorf("50,000 is at %v, want 350", got)
	}
	l := logarithmic(3, 2000, 0, 400)
	if got := l.ticks(); !cmp.Equal(got, []float64{1, 10, 100, 1000, 10_000}) {
		t.Errorf("ticks are %v", got)
	}
	if got := l.at(100); got != 200 {
		t.Errorf("100 is at %v, want 200", got)
	}
}
