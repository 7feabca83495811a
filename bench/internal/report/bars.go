package report

import (
	"github.com/anchor-go/anchor/bench/internal/result"
)

// bar is one of a chart of bars: a median with its spread.
type bar struct {
	label  string
	colour string
	value  result.Summary
}

// group is bars under one heading, "" for none.
type group struct {
	heading string
	bars    []bar
}

// bars draws horizontal bars; unit follows each figure.
func bars(title, unit string, groups []group) string {
	const (
		width, left, right = 760.0, 270.0, 150.0
		top, step, gap     = 44.0, 26.0, 14.0
	)
	most, height := 0.0, top+10
	for _, g := range groups {
		if g.heading != "" {
			height += step
		}
		height += float64(len(g.bars))*step + gap
		for _, b := range g.bars {
			most = max(most, b.value.Max)
		}
	}
	c := newCanvas(width, height, title)
	x := linear(most, left, width-right)
	y := top
	for _, g := range groups {
		if g.heading != "" {
			c.text(16, y+14, g.heading, textStyle{size: 13, bold: true})
			y += step
		}
		for _, b := range g.bars {
			c.text(left-10, y+15, b.label, textStyle{size: 12, anchor: "end"})
			c.rect(left, y+2, x.at(b.value.Median)-left, step-8, b.colour)
			if b.value.N > 1 {
				middle := y + 2 + (step-8)/2
				c.line(x.at(b.value.Min), middle, x.at(b.value.Max), middle, ink, 1.5)
				c.line(x.at(b.value.Min), middle-4, x.at(b.value.Min), middle+4, ink, 1.5)
				c.line(x.at(b.value.Max), middle-4, x.at(b.value.Max), middle+4, ink, 1.5)
			}
			c.text(x.at(b.value.Max)+8, y+15, number(b.value.Median)+unit, textStyle{size: 12})
			y += step
		}
		y += gap
	}
	c.line(left, top-4, left, y-gap, faint, 1)
	return c.String()
}
