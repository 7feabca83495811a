package report

import (
	"math"

	"github.com/anchor-go/anchor/bench/internal/result"
)

// curve is one line of a chart.
type curve struct {
	label  string
	colour string
	dashed bool
	points []result.Point
}

// plot is a chart of lines.
type plot struct {
	title, xTitle, yTitle string
	xLog, yLog            bool
	curves                []curve
	xTicks                []float64 // where the round ones do not fit
	dots                  bool
}

func (p plot) String() string {
	const (
		width, height    = 760.0, 380.0
		left, right, top = 70.0, 20.0, 44.0
		lineHeight       = 20.0
	)
	bottom := 52 + lineHeight*float64((len(p.curves)+1)/2)
	least, most := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{}
	for _, c := range p.curves {
		for _, point := range c.points {
			least[0], most[0] = min(least[0], point.X), max(most[0], point.X)
			least[1], most[1] = min(least[1], point.Y), max(most[1], point.Y)
		}
	}
	c := newCanvas(width, height+bottom-52, p.title)
	low := height + bottom - 52 - bottom
	x := scale(p.xLog, least[0], most[0], left, width-right)
	if !p.xLog && p.xTicks == nil {
		x.high = most[0]
	}
	if p.xTicks != nil {
		x.low, x.high = p.xTicks[0], p.xTicks[len(p.xTicks)-1]
	}
	y := scale(p.yLog, least[1], most[1], low, top)
	for _, tick := range y.ticks() {
		c.line(left, y.at(tick), width-right, y.at(tick), grid, 1)
		c.text(left-8, y.at(tick)+4, short(tick), textStyle{size: 11, anchor: "end", colour: faint})
	}
	xTicks := p.xTicks
	if xTicks == nil {
		xTicks = x.ticks()
	}
	for _, tick := range xTicks {
		c.line(x.at(tick), low, x.at(tick), low+4, faint, 1)
		c.text(x.at(tick), low+17, short(tick), textStyle{size: 11, anchor: "middle", colour: faint})
	}
	c.line(left, low, width-right, low, faint, 1)
	c.text(left, top-6, p.yTitle, textStyle{size: 11, colour: faint})
	c.text(width-right, low+33, p.xTitle, textStyle{size: 11, anchor: "end", colour: faint})
	for i, curve := range p.curves {
		var points [][2]float64
		for _, point := range curve.points {
			points = append(points, [2]float64{x.at(point.X), y.at(point.Y)})
		}
		c.path(points, curve.colour, curve.dashed)
		if p.dots {
			for _, point := range points {
				c.dot(point[0], point[1], curve.colour)
			}
		}
		legendX, legendY := left+float64(i%2)*330, low+54+lineHeight*float64(i/2)
		c.path([][2]float64{{legendX, legendY - 4}, {legendX + 24, legendY - 4}}, curve.colour, curve.dashed)
		c.text(legendX+32, legendY, curve.label, textStyle{size: 12})
	}
	return c.String()
}

func scale(log bool, least, most, from, to float64) axis {
	if log {
		return logarithmic(least, most, from, to)
	}
	return linear(most, from, to)
}
