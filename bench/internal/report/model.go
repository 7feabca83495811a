package report

import (
	"fmt"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// model is the cost of a task, and what follows from it for a day's traffic. All of it comes from measured runs.
type model struct{ set *result.Set }

func newModel(set *result.Set) model { return model{set} }

// costTable is a task's cost by what is done with it.
func (m model) costTable() string {
	steps := []struct{ name, load, variant string }{
		{"enqueue, one by one by 64 callers", load.Enqueue, load.EnqueueVariant(ours, 64)},
		{"enqueue, one by one by 1 caller", load.Enqueue, load.EnqueueVariant(ours, 1)},
		{"enqueue, 5,000 at a time", load.Bulk, ours},
		{"claim and complete", load.Burndown, ours},
		{"claim and complete, handler with a row of its own", load.Transactional, ours},
	}
	var body [][]string
	for _, step := range steps {
		value := func(metric string) string { return m.value(step.load, step.variant, metric) }
		body = append(body, []string{
			step.name, value(result.Statements), value(result.WAL), value(result.IndexEntries), value(result.ServerCPU), value(result.ClientCPU),
		})
	}
	return markdownTable([]string{"a task", "statements", "WAL bytes", "index entries", "server CPU, µs", "client CPU, µs"}, body)
}

func (m model) value(name, variant, metric string) string {
	value := m.set.Metric(name, variant, metric)
	if !value.Known() {
		return ""
	}
	return number(value.Median)
}

// hourTable is what the primary and the clients spend at a steady rate, tasks enqueued one by one.
func (m model) hourTable() string {
	kept := m.set.Metric(load.Burndown, ours, result.Kept).Median
	var body [][]string
	for _, millions := range load.PacedRates {
		variant := load.PacedVariant(ours, millions)
		metric := func(name string) float64 { return m.set.Metric(load.Paced, variant, name).Median }
		if metric(result.Tasks) == 0 {
			continue
		}
		perSecond := float64(millions) * 1e6 / 3600
		reached := metric(result.Rate) >= 0.97*perSecond
		note := ""
		if !reached {
			note = fmt.Sprintf(" (%s reached)", number(metric(result.Rate)))
		}
		body = append(body, []string{
			fmt.Sprintf("%d million", millions),
			number(perSecond) + note,
			number(perSecond * metric(result.Statements)),
			number(perSecond * metric(result.WAL) / 1e6),
			number(perSecond * metric(result.IndexEntries)),
			number(perSecond * metric(result.ServerCPU) / 1e6),
			number(perSecond * (metric(result.ClientCPU) + metric(result.CallerCPU)) / 1e6),
			number(float64(millions) * 1e6 * retentionHours * kept / 1e9),
			number(metric(result.P50)) + " / " + number(metric(result.P99)),
		})
	}
	return markdownTable([]string{
		"tasks an hour", "tasks/s", "statements/s", "WAL, MB/s", "index entries/s", "server, cores", "clients, cores", "history on disk, GB", "pickup p50 / p99, ms",
	}, body)
}

// retentionHours is how long completed tasks are kept at most.
const retentionHours = 28
