package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchor-go/anchor/bench/internal/load"
	"github.com/anchor-go/anchor/bench/internal/peer"
	"github.com/anchor-go/anchor/bench/internal/result"
)

// charts are the pictures by file name; those with nothing to show are left out.
func charts(set *result.Set) map[string]string {
	all := map[string]string{}
	add := func(name, picture string) {
		if picture != "" {
			all[name] = picture
		}
	}
	add("burndown.svg", peerBars(set, load.Burndown, result.Rate, "Burn-down of no-op tasks, tasks/s"))
	add("enqueue.svg", enqueueBars(set))
	add("bulk.svg", peerBars(set, load.Bulk, result.Rate, "Enqueue in batches of 5,000, tasks/s"))
	add("transactional.svg", peerBars(set, load.Transactional, result.Rate, "Handlers with a row of their own, completed in the same commit, tasks/s"))
	add("latency.svg", latencyCurves(set))
	add("backlog.svg", backlogCurves(set))
	add("held.svg", heldCurves(set))
	return all
}

// label is how a variant is called; its first part is the peer's name.
func label(variant string) string {
	best := peer.Peer{}
	for _, p := range peer.All {
		if strings.HasPrefix(variant, p.Name) && len(p.Name) > len(best.Name) {
			best = p
		}
	}
	if best.Name == "" {
		return variant
	}
	switch rest := strings.TrimPrefix(variant, best.Name); rest {
	case load.InTxSuffix:
		return best.Label + ", in a transaction"
	case load.HeldSuffix:
		return best.Label + ", transaction held open"
	default:
		return best.Label
	}
}

// colour is the peer's, the same in every chart.
func colour(variant string) string {
	best, at := "", len(palette)-1
	for i, p := range peer.All {
		if strings.HasPrefix(variant, p.Name) && len(p.Name) > len(best) {
			best, at = p.Name, []int{0, 6, 1, 1, 3, 3, 4}[i]
		}
	}
	return palette[at]
}

func peerBars(set *result.Set, name, metric, title string) string {
	var g group
	for _, variant := range set.Variants(name) {
		if value := set.Metric(name, variant, metric); value.Known() {
			g.bars = append(g.bars, bar{label(variant), colour(variant), value})
		}
	}
	if len(g.bars) == 0 {
		return ""
	}
	return bars(title, "", []group{g})
}

func enqueueBars(set *result.Set) string {
	var groups []group
	for _, callers := range load.EnqueueCallers {
		g := group{heading: fmt.Sprintf("%d callers", callers)}
		if callers == 1 {
			g.heading = "1 caller"
		}
		for _, p := range load.EnqueuePeers {
			if value := set.Metric(load.Enqueue, load.EnqueueVariant(p.Name, callers), result.Rate); value.Known() {
				name, _, _ := strings.Cut(p.Label, ",")
				g.bars = append(g.bars, bar{name, colour(p.Name), value})
			}
		}
		if len(g.bars) > 0 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return ""
	}
	return bars("Enqueue one task at a time, tasks/s", "", groups)
}

func latencyCurves(set *result.Set) string {
	p := plot{title: "Pickup latency at rest: enqueue to the handler's first line", xTitle: "percentile", yTitle: "ms", yLog: true, xTicks: []float64{0, 25, 50, 75, 90, 99}}
	for _, variant := range set.Variants(load.Latency) {
		samples := set.Samples(load.Latency, variant)
		if len(samples) == 0 {
			continue
		}
		c := curve{label: label(variant), colour: colour(variant), dashed: strings.HasSuffix(variant, load.InTxSuffix) || variant == peer.River.Name || variant == peer.Graphile.Name}
		for percent := 0.0; percent <= 99; percent++ {
			c.points = append(c.points, result.Point{X: percent, Y: result.Percentile(samples, percent)})
		}
		p.curves = append(p.curves, c)
	}
	return p.orNothing()
}

func backlogCurves(set *result.Set) string {
	p := plot{title: "Rate while the backlog stays the same", xTitle: "tasks waiting", yTitle: "tasks/s", xLog: true, dots: true}
	for _, name := range []string{ours, rivers} {
		c := curve{label: label(name), colour: colour(name)}
		for _, size := range load.BacklogSizes {
			if value := set.Metric(load.Backlog, load.BacklogVariant(name, size), result.Rate); value.Known() {
				c.points = append(c.points, result.Point{X: float64(size), Y: value.Median})
			}
		}
		if len(c.points) > 0 {
			p.curves = append(p.curves, c)
		}
	}
	return p.orNothing()
}

func heldCurves(set *result.Set) string {
	p := plot{title: "1,000,000 tasks: rate over time, with and without a transaction held open", xTitle: "seconds", yTitle: "tasks/s"}
	variants := set.Variants(load.Held)
	slices.Sort(variants)
	for _, variant := range variants {
		points := set.Series(load.Held, variant)
		if len(points) == 0 {
			continue
		}
		p.curves = append(p.curves, curve{label: label(variant), colour: colour(variant), dashed: strings.HasSuffix(variant, load.HeldSuffix), points: points})
	}
	return p.orNothing()
}

// orNothing is "" for a plot without curves.
func (p plot) orNothing() string {
	if len(p.curves) == 0 {
		return ""
	}
	return p.String()
}
