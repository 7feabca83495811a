// Package result keeps what was measured and summarises it.
package result

import (
	"cmp"
	"math"
	"slices"
)

// Names of metrics that more than one load has.
const (
	Rate         = "rate"          // tasks/s
	P50          = "p50"           // ms
	P90          = "p90"           // ms
	P99          = "p99"           // ms
	Call         = "call"          // ms that the enqueuing call took, the median
	ClientCPU    = "client_cpu"    // microseconds a task
	CallerCPU    = "caller_cpu"    // microseconds a task, of those who enqueue
	ServerCPU    = "server_cpu"    // microseconds a task
	WAL          = "wal"           // bytes a task
	Statements   = "statements"    // a task
	IndexEntries = "index_entries" // a task
	Mallocs      = "mallocs"       // a task
	Peak         = "peak"          // MB resident, the most
	Resident     = "resident"      // MB
	Twice        = "twice"         // tasks that were handled more than once
	Missed       = "missed"        // tasks that were not handled
	PerSecond    = "per_second"    // statements/s
	Core         = "core"          // percent of a core
	Wait         = "wait"          // seconds
	Tasks        = "tasks"         // how many there were
	Kept         = "kept"          // bytes a finished task takes, indexes included
)

// Run is one run of one variant of a load.
type Run struct {
	Load    string             `json:"load"`
	Variant string             `json:"variant"`
	Number  int                `json:"number"` // from 1
	Metrics map[string]float64 `json:"metrics"`
	Series  []Point            `json:"series,omitempty"`  // rate over time
	Samples []float64          `json:"samples,omitempty"` // ms, sorted
}

// Point is one of a series: seconds, and a value.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Set is everything of one benchmark.
type Set struct {
	Machine Machine `json:"machine"`
	Runs    []Run   `json:"runs"`
}

// Machine is where it was measured.
type Machine struct {
	Date       string  `json:"date"`
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGB   float64 `json:"memoryGB"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	PostgreSQL string  `json:"postgresql"`
	Redis      string  `json:"redis,omitempty"`
	Node       string  `json:"node,omitempty"`
	// SyncMicros is how long the disk takes to make a write of 8 kB durable: the median, in microseconds.
	SyncMicros float64           `json:"syncMicros"`
	Versions   map[string]string `json:"versions,omitempty"`
	Scale      float64           `json:"scale"`
}

// Summary is the median of some runs with their spread.
type Summary struct {
	Median, Min, Max float64
	N                int
}

// Known is false for what was not measured.
func (s Summary) Known() bool { return s.N > 0 }

// Summarise is the median and the spread of values.
func Summarise(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Summary{Median: Percentile(sorted, 50), Min: sorted[0], Max: sorted[len(sorted)-1], N: len(sorted)}
}

// Percentile is that of sorted values, interpolated.
func Percentile(sorted []float64, percent float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := percent / 100 * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// find gives the runs of a variant in order.
func (s *Set) find(load, variant string) []Run {
	var found []Run
	for _, run := range s.Runs {
		if run.Load == load && run.Variant == variant {
			found = append(found, run)
		}
	}
	slices.SortFunc(found, func(a, b Run) int { return cmp.Compare(a.Number, b.Number) })
	return found
}

// Metric summarises one metric of a variant.
func (s *Set) Metric(load, variant, metric string) Summary {
	var values []float64
	for _, run := range s.find(load, variant) {
		if value, ok := run.Metrics[metric]; ok {
			values = append(values, value)
		}
	}
	return Summarise(values)
}

// Ratio summarises how one variant's metric stands to another's, run by run: only what was measured side by side
// is compared.
func (s *Set) Ratio(load, variant, metric, otherVariant string) Summary {
	var ratios []float64
	others := s.find(load, otherVariant)
	for _, run := range s.find(load, variant) {
		for _, other := range others {
			if other.Number == run.Number && other.Metrics[metric] > 0 {
				ratios = append(ratios, run.Metrics[metric]/other.Metrics[metric])
			}
		}
	}
	return Summarise(ratios)
}

// Samples are those of all runs of a variant, sorted.
func (s *Set) Samples(load, variant string) []float64 {
	var all []float64
	for _, run := range s.find(load, variant) {
		all = append(all, run.Samples...)
	}
	slices.Sort(all)
	return all
}

// Series is that of the run whose rate is the median.
func (s *Set) Series(load, variant string) []Point {
	runs := s.find(load, variant)
	if len(runs) == 0 {
		return nil
	}
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.Metrics[Rate], b.Metrics[Rate]) })
	return runs[len(runs)/2].Series
}

// Variants lists the variants of a load in the order in which they were measured.
func (s *Set) Variants(load string) []string {
	var names []string
	for _, run := range s.Runs {
		if run.Load == load && !slices.Contains(names, run.Variant) {
			names = append(names, run.Variant)
		}
	}
	return names
}
