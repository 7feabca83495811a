package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// canvas collects the elements of an SVG picture. It has a white ground, so that it can be read on any page.
type canvas struct {
	b             strings.Builder
	width, height float64
}

func newCanvas(width, height float64, title string) *canvas {
	c := &canvas{width: width, height: height}
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="%s" font-family="Helvetica, Arial, sans-serif">`+"\n",
		width, height, width, height, html.EscapeString(title))
	fmt.Fprintf(&c.b, `<rect width="%g" height="%g" fill="#ffffff"/>`+"\n", width, height)
	c.text(16, 26, title, textStyle{size: 15, bold: true})
	return c
}

func (c *canvas) String() string { return c.b.String() + "</svg>\n" }

const (
	ink   = "#24292f"
	faint = "#6e7781"
	grid  = "#d8dee4"
)

// palette is told apart by the colour-blind too; the first is this library's.
var palette = []string{"#0b6bcb", "#d1662a", "#8250df", "#2da44e", "#bf3989", "#9a6700", "#57606a"}

type textStyle struct {
	size   float64
	anchor string // start, middle, end
	colour string
	bold   bool
}

func (c *canvas) text(x, y float64, s string, style textStyle) {
	if style.anchor == "" {
		style.anchor = "start"
	}
	if style.colour == "" {
		style.colour = ink
	}
	weight := ""
	if style.bold {
		weight = ` font-weight="bold"`
	}
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f" font-size="%g" fill="%s" text-anchor="%s"%s>%s</text>`+"\n",
		x, y, style.size, style.colour, style.anchor, weight, html.EscapeString(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, colour string, width float64) {
	fmt.Fprintf(&c.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>`+"\n", x1, y1, x2, y2, colour, width)
}

func (c *canvas) rect(x, y, width, height float64, colour string) {
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, max(width, 0.5), height, colour)
}

func (c *canvas) path(points [][2]float64, colour string, dashed bool) {
	if len(points) == 0 {
		return
	}
	var d strings.Builder
	for i, p := range points {
		fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], p[0], p[1])
	}
	dash := ""
	if dashed {
		dash = ` stroke-dasharray="6 4"`
	}
	fmt.Fprintf(&c.b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", d.String(), colour, dash)
}

func (c *canvas) dot(x, y float64, colour string) {
	fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x, y, colour)
}

// axis maps values to a stretch of pixels.
type axis struct {
	low, high float64 // values
	from, to  float64 // pixels
	log       bool
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(max(v, a.low)), math.Log10(a.low), math.Log10(a.high)
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// ticks are round values over the axis.
func (a axis) ticks() []float64 {
	var ticks []float64
	if a.log {
		for v := math.Pow(10, math.Ceil(math.Log10(a.low)-1e-9)); v <= a.high*1.0001; v *= 10 {
			ticks = append(ticks, v)
		}
		return ticks
	}
	step := roundStep((a.high - a.low) / 5)
	for v := a.low; v <= a.high+step/1000; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}

// roundStep is the next of 1, 2, 5 times a power of ten.
func roundStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if factor*power >= v*0.999 {
			return factor * power
		}
	}
	return 10 * power
}

// linear is an axis from 0 that holds a value.
func linear(most, from, to float64) axis {
	if most <= 0 {
		most = 1
	}
	step := roundStep(most / 5)
	return axis{low: 0, high: math.Ceil(most/step) * step, from: from, to: to}
}

// logarithmic is an axis over powers of ten that holds the values between least and most.
func logarithmic(least, most, from, to float64) axis {
	low, high := math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most)))
	if low == high {
		high *= 10
	}
	return axis{low: low, high: high, from: from, to: to, log: true}
}

// short is a number for an axis: 20k, 1M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return trim(v/1e6) + "M"
	case v >= 1e3:
		return trim(v/1e3) + "k"
	}
	return trim(v)
}

func trim(v float64) string {
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
