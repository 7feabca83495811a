// Package report turns figures into tables, charts and docs/performance.md.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/result"
)

//go:embed performance.md.tmpl
var performance string

// Write writes performance.md into a folder, and its charts into performance/ there.
func Write(folder string, set *result.Set) error {
	pictures := filepath.Join(folder, "performance")
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	drawn := charts(set)
	for _, name := range slices.Sorted(maps.Keys(drawn)) {
		if err := os.WriteFile(filepath.Join(pictures, name), []byte(drawn[name]), 0o644); err != nil {
			return err
		}
	}
	text, err := markdown(set, drawn)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "performance.md"), text, 0o644)
}

// markdown fills the template.
func markdown(set *result.Set, drawn map[string]string) ([]byte, error) {
	m := newModel(set)
	functions := template.FuncMap{
		"targets": func() string { return targetTable(set) },
		"table":   func(name string) (string, error) { return loadTable(set, name) },
		"chart": func(name, alt string) string {
			if _, ok := drawn[name]; !ok {
				return ""
			}
			return fmt.Sprintf("![%s](performance/%s)", alt, name)
		},
		"median": func(name, variant, metric string) string {
			return orDash(number(set.Metric(name, variant, metric).Median))
		},
		"ratio": func(name, variant, metric, other string) string {
			return orDash(number(set.Ratio(name, variant, metric, other).Median))
		},
		"costs":   m.costTable,
		"hours":   m.hourTable,
		"paced":   func(millions int) string { return load.PacedVariant(ours, millions) },
		"missing": func() string { return missing(set) },
	}
	t, err := template.New("performance.md").Funcs(functions).Parse(performance)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, set); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// missing names the targets without a figure, "" when there are none.
func missing(set *result.Set) string {
	var names []string
	for _, r := range rows(set) {
		if !r.Known {
			names = append(names, r.Load)
		}
	}
	return strings.Join(names, "; ")
}

// markdownTable is a table with its columns aligned: the first to the left, the others to the right.
func markdownTable(head []string, body [][]string) string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(head, " | ") + " |\n|---|" + strings.Repeat("---:|", len(head)-1) + "\n")
	for _, cells := range body {
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func targetTable(set *result.Set) string {
	var body [][]string
	for _, r := range rows(set) {
		verdict := "yes"
		switch {
		case !r.Known:
			r.Value, verdict = "not measured", ""
		case !r.Met:
			verdict = "**no**"
		}
		body = append(body, []string{r.Load, r.Want, r.Value, r.Figures, verdict})
	}
	return markdownTable([]string{"load", "target", "measured: median (least to most)", "this library : the other", "reached"}, body)
}
