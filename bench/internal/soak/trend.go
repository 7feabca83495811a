package soak

import (
	"fmt"
	"math"
	"slices"
)

// Measure is one quantity of the samples and how much it may drift.
type Measure struct {
	Name  string
	Unit  string
	Value func(Sample) float64
	// Falls is set for what must not fall; everything else must not grow.
	Falls bool
	// Floor is a drift, in the measure's own unit, that is too small to matter.
	Floor float64
}

// allowedDrift is the drift over a whole run, as a share of the median, that is put down to chance.
const allowedDrift = 0.2

// certainty is how many standard deviations the order of the samples must be from that of chance.
const certainty = 3

const megabyte = 1 << 20

// Measures are all that is judged.
var Measures = []Measure{
	{Name: "rate", Unit: "tasks/s", Value: func(s Sample) float64 { return s.Rate }, Falls: true},
	{Name: "pickup p99", Unit: "ms", Value: func(s Sample) float64 { return s.Pickup }, Floor: 20},
	{Name: "hot partition", Unit: "bytes", Value: func(s Sample) float64 { return s.HotBytes }, Floor: 2 * megabyte},
	{Name: "its indexes", Unit: "bytes", Value: func(s Sample) float64 { return s.HotIndexBytes }, Floor: 2 * megabyte},
	{Name: "its dead tuples", Unit: "tuples", Value: func(s Sample) float64 { return s.DeadTuples }, Floor: 5000},
	{Name: "pending tasks", Unit: "tasks", Value: func(s Sample) float64 { return s.Pending }, Floor: 500},
	{Name: "unique tags", Unit: "bytes", Value: func(s Sample) float64 { return s.TagBytes }, Floor: megabyte},
	{Name: "workers", Unit: "bytes", Value: func(s Sample) float64 { return s.WorkerBytes }, Floor: megabyte},
	{Name: "history per task", Unit: "bytes", Value: func(s Sample) float64 { return s.HistoryBytesPerTask }, Floor: 20},
	{Name: "errors per failed attempt", Unit: "bytes", Value: func(s Sample) float64 { return s.ErrorBytesPerError }, Floor: 20},
	{Name: "runs per tick", Unit: "bytes", Value: func(s Sample) float64 { return s.TickBytesPerTick }, Floor: 50},
	{Name: "resident memory", Unit: "bytes", Value: func(s Sample) float64 { return s.Resident }, Floor: 10 * megabyte},
	{Name: "goroutines", Unit: "", Value: func(s Sample) float64 { return s.Goroutines }, Floor: 20},
}

// Verdict is what the samples say of one measure.
type Verdict struct {
	Measure Measure
	Median  float64
	// Drift is the change over the time that was judged, by the median of the slopes between all pairs of samples.
	Drift float64
	Bad   bool
}

// Word is the verdict in one.
func (v Verdict) Word() string {
	switch {
	case !v.Bad:
		return "steady"
	case v.Measure.Falls:
		return "falls"
	}
	return "grows"
}

func (v Verdict) String() string {
	return fmt.Sprintf("%-26s %s, median %.4g %s, drift %+.3g", v.Measure.Name, v.Word(), v.Median, v.Measure.Unit, v.Drift)
}

// Judge looks at all measures, but for the first third of the samples: caches and pages fill up then.
func Judge(samples []Sample) []Verdict {
	settled := samples[len(samples)/3:]
	var verdicts []Verdict
	for _, m := range Measures {
		verdicts = append(verdicts, m.judge(settled))
	}
	return verdicts
}

func (m Measure) judge(samples []Sample) Verdict {
	var x, y []float64
	for _, s := range samples {
		if v := m.Value(s); !math.IsNaN(v) {
			x, y = append(x, s.Second), append(y, v)
		}
	}
	v := Verdict{Measure: m, Median: median(y)}
	if len(y) < 3 {
		return v
	}
	slope, deviations := trend(x, y)
	v.Drift = slope * (x[len(x)-1] - x[0])
	worse, sure := v.Drift, deviations
	if m.Falls {
		worse, sure = -worse, -sure
	}
	v.Bad = worse > max(allowedDrift*math.Abs(v.Median), m.Floor) && sure > certainty
	return v
}

// trend is the Theil-Sen slope of y over x, and Kendall's score in standard deviations: how far the order of y is
// from chance. Neither minds single samples that are far off.
func trend(x, y []float64) (slope, deviations float64) {
	var slopes []float64
	score := 0
	for i := range y {
		for j := i + 1; j < len(y); j++ {
			slopes = append(slopes, (y[j]-y[i])/(x[j]-x[i]))
			switch {
			case y[j] > y[i]:
				score++
			case y[j] < y[i]:
				score--
			}
		}
	}
	n := float64(len(y))
	return median(slopes), float64(score) / math.Sqrt(n*(n-1)*(2*n+5)/18)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
