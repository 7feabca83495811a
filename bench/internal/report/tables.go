package report

import (
	"fmt"
	"strings"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// tableColumn is one metric in a load's table.
type tableColumn struct {
	metric, title string
}

// columns of the loads that have a table.
var columns = map[string][]tableColumn{
	load.Burndown: {
		{result.Rate, "tasks/s"},
		{result.ClientCPU, "client CPU, µs/task"},
		{result.ServerCPU, "server CPU, µs/task"},
		{result.WAL, "WAL, bytes/task"},
		{result.IndexEntries, "index entries/task"},
		{result.Statements, "statements/task"},
		{result.Mallocs, "allocations/task"},
		{result.Peak, "peak memory, MB"},
	},
	load.Enqueue: {
		{result.Rate, "tasks/s"},
		{result.ClientCPU, "client CPU, µs/task"},
		{result.ServerCPU, "server CPU, µs/task"},
		{result.WAL, "WAL, bytes/task"},
		{result.Statements, "statements/task"},
	},
	load.Bulk: {
		{result.Rate, "tasks/s"},
		{result.ClientCPU, "client CPU, µs/task"},
		{result.ServerCPU, "server CPU, µs/task"},
		{result.WAL, "WAL, bytes/task"},
		{result.IndexEntries, "index entries/task"},
	},
	load.Latency: {{result.P50, "p50, ms"}, {result.P90, "p90, ms"}, {result.P99, "p99, ms"}, {result.Call, "of it the enqueuing call, ms"}},
	load.Transactional: {
		{result.Rate, "tasks/s"},
		{result.ClientCPU, "client CPU, µs/task"},
		{result.ServerCPU, "server CPU, µs/task"},
		{result.WAL, "WAL, bytes/task"},
		{result.Statements, "statements/task"},
	},
	load.Held: {{result.Rate, "tasks/s"}, {result.Tasks, "tasks done in a minute at most"}, {result.ServerCPU, "server CPU, µs/task"}, {result.Peak, "peak memory, MB"}},
	load.Backlog: {
		{result.Rate, "tasks/s"}, {result.ClientCPU, "client CPU, µs/task"}, {result.ServerCPU, "server CPU, µs/task"}, {result.Peak, "peak memory, MB"},
	},
	load.History:   {{result.Rate, "tasks/s"}, {result.ServerCPU, "server CPU, µs/task"}, {result.WAL, "WAL, bytes/task"}},
	load.Processes: {{result.Rate, "tasks/s"}, {result.Twice, "handled twice"}, {result.Missed, "not handled"}, {result.ClientCPU, "client CPU, µs/task"}},
	load.Idle:      {{result.PerSecond, "statements/s"}, {result.Core, "% of a core"}, {result.Resident, "resident, MB"}},
	load.Fairness:  {{result.Wait, "wait of the last long task, s"}},
	load.Paced: {
		{result.Rate, "tasks/s"},
		{result.P50, "p50, ms"},
		{result.P99, "p99, ms"},
		{result.ClientCPU, "worker CPU, µs/task"},
		{result.CallerCPU, "callers' CPU, µs/task"},
		{result.ServerCPU, "server CPU, µs/task"},
		{result.WAL, "WAL, bytes/task"},
		{result.Statements, "statements/task"},
		{result.IndexEntries, "index entries/task"},
	},
}

// loadTable is the table of one load: a row a variant. Rates are shown with their spread.
func loadTable(set *result.Set, name string) (string, error) {
	wanted, ok := columns[name]
	if !ok {
		return "", fmt.Errorf("no table for load %q", name)
	}
	head := []string{""}
	for _, c := range wanted {
		head = append(head, c.title)
	}
	var body [][]string
	for _, variant := range set.Variants(name) {
		cells := []string{rowLabel(name, variant)}
		for _, c := range wanted {
			value := set.Metric(name, variant, c.metric)
			text := ""
			if value.Known() {
				text = number(value.Median)
				if c.metric == result.Rate {
					text = spread(value, "")
				}
			}
			cells = append(cells, text)
		}
		body = append(body, cells)
	}
	if len(body) == 0 {
		return "Not measured.", nil
	}
	return markdownTable(head, body), nil
}

// rowLabel is what a variant is called in its load's table.
func rowLabel(name, variant string) string {
	at := strings.LastIndexByte(variant, '-')
	switch name {
	case load.Enqueue:
		return label(variant[:at]) + ", callers: " + variant[at+1:]
	case load.Backlog:
		return label(variant[:at]) + ", waiting: " + grouped(variant[at+1:])
	case load.Processes:
		return "processes: " + variant[at+1:]
	case load.History:
		return map[string]string{load.WithHistory: "10,000,000 finished", load.WithoutHistory: "none finished"}[variant]
	case load.Paced:
		return strings.TrimSuffix(variant[at+1:], "m") + " million an hour"
	}
	return label(variant)
}

func grouped(digits string) string {
	var n int64
	if _, err := fmt.Sscan(digits, &n); err != nil {
		return digits
	}
	return separated(n)
}
