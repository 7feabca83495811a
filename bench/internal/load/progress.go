package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Progress tells a reader what is going on: one line that is rewritten on a terminal, a line per run elsewhere.
type Progress struct {
	out      io.Writer
	terminal bool

	mu      sync.Mutex
	title   string
	began   time.Time
	updated time.Time
}

// NewProgress writes to out.
func NewProgress(out io.Writer, terminal bool) *Progress {
	return &Progress{out: out, terminal: terminal}
}

const eraseLine = "\r\x1b[K"

// Begin starts a run.
func (p *Progress) Begin(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.title, p.began = fmt.Sprintf(format, args...), time.Now()
	if p.terminal {
		fmt.Fprintf(p.out, "%s%s", eraseLine, p.title)
	} else {
		fmt.Fprintf(p.out, "%s %s ...\n", p.began.Format("15:04:05"), p.title)
	}
}

// Update tells how far the run is. It is seen on a terminal only.
func (p *Progress) Update(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal || time.Since(p.updated) < 100*time.Millisecond {
		return
	}
	p.updated = time.Now()
	fmt.Fprintf(p.out, "%s%s: %s", eraseLine, p.title, fmt.Sprintf(format, args...))
}

// End tells the run's result.
func (p *Progress) End(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.out, eraseLine)
	}
	fmt.Fprintf(p.out, "%s (%.1f s): %s\n", p.title, time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// Line tells something in a line of its own.
func (p *Progress) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.out, eraseLine)
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

// describe is a run's metrics in one line.
func describe(metrics map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		value := metrics[name]
		switch {
		case value >= 1000:
			parts = append(parts, fmt.Sprintf("%s %.0f", name, value))
		case value >= 10 || value == 0:
			parts = append(parts, fmt.Sprintf("%s %.1f", name, value))
		default:
			parts = append(parts, fmt.Sprintf("%s %.3g", name, value))
		}
	}
	return strings.Join(parts, ", ")
}
