package soak

import (
	"math"
	"math/rand/v2"
	"testing"
)

// series makes samples of which one measure is f of the sample's number.
func series(n int, f func(i int) float64) []Sample {
	samples := make([]Sample, n)
	for i := range samples {
		samples[i] = Sample{Second: float64(10 * i), Rate: 300, HotBytes: f(i), Goroutines: 40}
	}
	return samples
}

func hotGrows(t *testing.T, samples []Sample) bool {
	t.Helper()
	for _, v := range Judge(samples) {
		switch {
		case v.Measure.Name == "hot partition":
			return v.Bad
		case v.Bad:
			t.Errorf("%v, although only the hot partition changes", v)
		}
	}
	t.Fatal("the hot partition is not judged")
	return false
}

func TestJudge(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	const mb = float64(megabyte)
	for name, c := range map[string]struct {
		f    func(i int) float64
		want bool
	}{
		"constant":                    {func(int) float64 { return 30 * mb }, false},
		"noise":                       {func(int) float64 { return 30*mb + 10*mb*random.NormFloat64() }, false},
		"a saw of vacuums":            {func(i int) float64 { return 30*mb + float64(i%7)*3*mb }, false},
		"a rise in the first third":   {func(i int) float64 { return min(float64(i), 50) * mb }, false},
		"one peak":                    {func(i int) float64 { return 30*mb + math.Max(0, 1-math.Abs(float64(i-100)))*1000*mb }, false},
		"falls":                       {func(i int) float64 { return 300*mb - float64(i)*mb }, false},
		"below what matters":          {func(i int) float64 { return 1000 + float64(i)*5000 }, false},
		"grows":                       {func(i int) float64 { return 30*mb + float64(i)*0.2*mb }, true},
		"grows under noise":           {func(i int) float64 { return 30*mb + float64(i)*0.2*mb + 3*mb*random.NormFloat64() }, true},
		"grows under a saw":           {func(i int) float64 { return 30*mb + float64(i)*0.2*mb + float64(i%7)*mb }, true},
		"grows in steps":              {func(i int) float64 { return 30*mb + float64(i/40)*8*mb }, true},
		"doubles on the last stretch": {func(i int) float64 { return 30*mb + math.Max(0, float64(i-90))*mb }, true},
	} {
		if got := hotGrows(t, series(180, c.f)); got != c.want {
			t.Errorf("%s: grows is %v, want %v", name, got, c.want)
		}
	}
}

func TestARateMustNotFall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change float64
		want   bool
	}{{-1, true}, {0, false}, {1, false}} {
		samples := series(180, func(int) float64 { return 1 })
		for i := range samples {
			samples[i].Rate += c.change * float64(i)
		}
		if got := Judge(samples)[0]; got.Measure.Name != "rate" || got.Bad != c.want {
			t.Errorf("a rate that changes by %v a sample: %v, want bad: %v", c.change, got, c.want)
		}
	}
}
