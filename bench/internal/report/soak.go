package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchor-go/anchor/bench/internal/result"
	"github.com/anchor-go/anchor/bench/internal/soak"
)

// WriteSoak writes soak.md into a folder, and its charts into performance/ there.
func WriteSoak(folder string, machine result.Machine, samples []soak.Sample, verdicts []soak.Verdict) error {
	pictures := filepath.Join(folder, "performance")
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	var b strings.Builder
	minutes := samples[len(samples)-1].Second / 60
	fmt.Fprintf(&b, "# Soak\n\nThis page is written by `make soak`: a steady mixed load (retries, failures with hooks, schedules, unique tags, delays,\n"+
		"handlers that write, bulk, cancels) on one worker for %.0f minutes, sampled %d times. It fails when something grows.\n\n", minutes, len(samples))
	fmt.Fprintf(&b, "Measured on %s: %s, %d cores, %s; PostgreSQL %s on the same cores, Go %s.\n\n",
		machine.Date, machine.CPU, machine.Cores, machine.Kernel, machine.PostgreSQL, machine.Go)
	var body [][]string
	for _, v := range verdicts {
		word := v.Word()
		if v.Bad {
			word = "**" + word + "**"
		}
		body = append(body, []string{strings.TrimSuffix(v.Measure.Name+", "+v.Measure.Unit, ", "), number(v.Median), number(v.Drift), word})
	}
	b.WriteString(markdownTable([]string{"measure", "median", "drift", "verdict"}, body) + "\n\n")
	b.WriteString("The drift is the change over the last two thirds of the time, by the median slope between all pairs of samples.\n")
	var errs []error
	for _, v := range verdicts {
		picture := soakPlot(v.Measure, samples)
		if picture == "" {
			continue
		}
		name := "soak-" + strings.ReplaceAll(v.Measure.Name, " ", "-") + ".svg"
		errs = append(errs, os.WriteFile(filepath.Join(pictures, name), []byte(picture), 0o644))
		fmt.Fprintf(&b, "\n![%s over time](performance/%s)\n", v.Measure.Name, name)
	}
	return errors.Join(append(errs, os.WriteFile(filepath.Join(folder, "soak.md"), []byte(b.String()), 0o644))...)
}

func soakPlot(m soak.Measure, samples []soak.Sample) string {
	c := curve{label: m.Name, colour: palette[0]}
	for _, s := range samples {
		if v := m.Value(s); v == v { // not NaN
			c.points = append(c.points, result.Point{X: s.Second / 60, Y: v})
		}
	}
	if len(c.points) == 0 {
		return ""
	}
	return plot{title: "Soak: " + m.Name, xTitle: "minutes", yTitle: m.Unit, curves: []curve{c}}.String()
}
