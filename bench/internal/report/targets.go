package report

import (
	"fmt"
	"math"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// target is one row of what this library must reach with no option set.
type target struct {
	load string
	want string
	// figures says what was measured, for the reader.
	figures func(*result.Set) string
	// value is what the limits are for; unit follows it.
	value           func(*result.Set) result.Summary
	unit            string
	atLeast, atMost float64 // 0 is no limit
}

var (
	ours   = peer.Anchor.Name
	rivers = peer.RiverTuned.Name
)

// ratio is that of rates in the same run.
func ratio(name, variant, other string) func(*result.Set) result.Summary {
	return func(s *result.Set) result.Summary { return s.Ratio(name, variant, result.Rate, other) }
}

func metric(name, variant, metric string) func(*result.Set) result.Summary {
	return func(s *result.Set) result.Summary { return s.Metric(name, variant, metric) }
}

// rates shows two rates.
func rates(name, variant, other string) func(*result.Set) string {
	return func(s *result.Set) string {
		return number(s.Metric(name, variant, result.Rate).Median) + "/s : " + number(s.Metric(name, other, result.Rate).Median) + "/s"
	}
}

var targets = []target{
	{
		load: "burn-down of no-op tasks, against River with its benchmark's settings", want: "4 x", unit: " x", atLeast: 4,
		figures: rates(load.Burndown, ours, rivers), value: ratio(load.Burndown, ours, rivers),
	},
	{
		load: "burn-down, against graphile-worker with local queue and batches", want: "2 x", unit: " x", atLeast: 2,
		figures: rates(load.Burndown, ours, peer.GraphileTuned.Name), value: ratio(load.Burndown, ours, peer.GraphileTuned.Name),
	},
	{
		load: "burn-down, against a bare claim-and-complete loop", want: "0.70 x", unit: " x", atLeast: 0.7,
		figures: rates(load.Burndown, ours, peer.Bare.Name), value: ratio(load.Burndown, ours, peer.Bare.Name),
	},
	enqueueTarget(1, 1.6),
	enqueueTarget(64, 8),
	{
		load: "RunMany in batches of 5,000, against River's InsertManyFast", want: "1.7 x", unit: " x", atLeast: 1.7,
		figures: rates(load.Bulk, ours, peer.River.Name), value: ratio(load.Bulk, ours, peer.River.Name),
	},
	{load: "pickup latency at rest, p50", want: "2 ms or less", unit: " ms", atMost: 2, value: metric(load.Latency, ours, result.P50)},
	{load: "pickup latency at rest, p99", want: "8 ms or less", unit: " ms", atMost: 8, value: metric(load.Latency, ours, result.P99)},
	{load: "pickup latency at rest, RunWithTx, p50", want: "10 ms or less", unit: " ms", atMost: 10, value: metric(load.Latency, ours+load.InTxSuffix, result.P50)},
	{
		load: "handlers with an insert of their own, against River's JobCompleteTx at its better settings", want: "3.5 x", unit: " x", atLeast: 3.5,
		figures: func(s *result.Set) string { return rates(load.Transactional, ours, fasterRiver(s))(s) },
		value: func(s *result.Set) result.Summary {
			return s.Ratio(load.Transactional, ours, result.Rate, fasterRiver(s))
		},
	},
	{
		load: "1,000,000 tasks under a REPEATABLE READ transaction held open, against without", want: "0.80 x", unit: " x", atLeast: 0.8,
		figures: rates(load.Held, ours+load.HeldSuffix, ours+load.FreeSuffix), value: ratio(load.Held, ours+load.HeldSuffix, ours+load.FreeSuffix),
	},
	{
		load: "backlog of 1,000,000, against 10,000", want: "0.90 x", unit: " x", atLeast: 0.9,
		figures: rates(load.Backlog, load.BacklogVariant(ours, 1_000_000), load.BacklogVariant(ours, 10_000)),
		value:   ratio(load.Backlog, load.BacklogVariant(ours, 1_000_000), load.BacklogVariant(ours, 10_000)),
	},
	{
		load: "10,000,000 finished tasks kept, against none", want: "0.90 x", unit: " x", atLeast: 0.9,
		figures: rates(load.History, load.WithHistory, load.WithoutHistory), value: ratio(load.History, load.WithHistory, load.WithoutHistory),
	},
	{
		load: "1,200,000 tasks by 4 worker processes on this machine, against 1", want: "1 x", unit: " x", atLeast: 1,
		figures: rates(load.Processes, load.ProcessesVariant(4), load.ProcessesVariant(1)),
		value:   ratio(load.Processes, load.ProcessesVariant(4), load.ProcessesVariant(1)),
	},
	{
		load: "tasks handled twice or not at all, 4 processes", want: "0", atMost: math.SmallestNonzeroFloat64,
		value: func(s *result.Set) result.Summary {
			twice, missed := s.Metric(load.Processes, load.ProcessesVariant(4), result.Twice), s.Metric(load.Processes, load.ProcessesVariant(4), result.Missed)
			return result.Summary{Median: twice.Max + missed.Max, Min: twice.Min + missed.Min, Max: twice.Max + missed.Max, N: twice.N}
		},
	},
	{
		load: "WAL per task from claim to completed, against River", want: "0.60 x or less", unit: " x", atMost: 0.6,
		figures: func(s *result.Set) string {
			return fmt.Sprintf("%.0f : %.0f bytes", s.Metric(load.Burndown, ours, result.WAL).Median, s.Metric(load.Burndown, rivers, result.WAL).Median)
		},
		value: func(s *result.Set) result.Summary { return s.Ratio(load.Burndown, ours, result.WAL, rivers) },
	},
	{
		load: "client CPU per task", want: "5 µs or less", unit: " µs", atMost: 5, value: metric(load.Burndown, ours, result.ClientCPU),
		figures: func(s *result.Set) string {
			return fmt.Sprintf("River %.1f µs", s.Metric(load.Burndown, rivers, result.ClientCPU).Median)
		},
	},
	{load: "idle worker, statements a second", want: "under 5", atMost: 5, value: metric(load.Idle, ours, result.PerSecond)},
	{load: "idle worker, share of a core", want: "under 0.5 %", unit: " %", atMost: 0.5, value: metric(load.Idle, ours, result.Core)},
	{load: "idle worker, resident memory", want: "30 MB", unit: " MB", atMost: 30, value: metric(load.Idle, ours, result.Resident)},
	{
		load: "150 tasks of 10 s behind a rush of short ones, 200 slots in two workers: from the first one's start to the last one's", want: "under 2 s",
		unit: " s", atMost: 2, value: metric(load.Fairness, ours, result.Wait),
	},
	{
		load: "peak memory of a worker with 1,000,000 tasks pending", want: "under 100 MB", unit: " MB", atMost: 100,
		value: metric(load.Held, ours+load.FreeSuffix, result.Peak),
	},
}

func enqueueTarget(callers int, least float64) target {
	variant, other := load.EnqueueVariant(ours, callers), load.EnqueueVariant(peer.River.Name, callers)
	name := "enqueue one by one, 1 caller, against River"
	if callers > 1 {
		name = fmt.Sprintf("enqueue one by one, %d callers, each waiting for durability", callers)
	}
	return target{
		load: name, want: number(least) + " x", unit: " x", atLeast: least,
		figures: rates(load.Enqueue, variant, other), value: ratio(load.Enqueue, variant, other),
	}
}

// fasterRiver is the one of River's two settings that does better with JobCompleteTx.
func fasterRiver(s *result.Set) string {
	byDefault, tuned := s.Metric(load.Transactional, peer.River.Name, result.Rate), s.Metric(load.Transactional, rivers, result.Rate)
	if byDefault.Median > tuned.Median {
		return peer.River.Name
	}
	return rivers
}

// row is a target with what was measured.
type row struct {
	Load, Want, Figures, Value string
	Known, Met                 bool
}

func rows(set *result.Set) []row {
	var all []row
	for _, t := range targets {
		r := row{Load: t.load, Want: t.want}
		value := t.value(set)
		if value.Known() {
			r.Known = true
			r.Met = (t.atLeast == 0 || value.Median >= t.atLeast) && (t.atMost == 0 || value.Median <= t.atMost)
			r.Value = spread(value, t.unit)
			if t.figures != nil {
				r.Figures = t.figures(set)
			}
		}
		all = append(all, r)
	}
	return all
}

// spread is a median with the least and the most.
func spread(s result.Summary, unit string) string {
	if !s.Known() {
		return ""
	}
	if s.N == 1 || number(s.Min) == number(s.Max) {
		return number(s.Median) + unit
	}
	return fmt.Sprintf("%s%s (%s to %s)", number(s.Median), unit, number(s.Min), number(s.Max))
}

// number has three significant digits below a thousand, and separators above.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return ""
	case v == 0:
		return "0"
	case math.Abs(v) >= 1000:
		return separated(int64(math.Round(v)))
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	case math.Abs(v) >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func separated(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
