package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	barWidth   = 40
	plainPause = time.Second
)

// progress shows how much of total is done: as a bar that stays in its place on a terminal, as a line a second
// elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	total    int
	began    time.Time
	shown    time.Time // the last plain line
}

func newProgress(out *os.File, total int) *progress {
	now := time.Now()
	return &progress{out: out, terminal: isTerminal(out), total: total, began: now, shown: now}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) show(done int) {
	now := time.Now()
	switch {
	case p.terminal:
		fmt.Fprintf(p.out, "\r  %s %s\x1b[K", bar(done, p.total), p.text(done, now))
	case now.Sub(p.shown) >= plainPause:
		p.shown = now
		fmt.Fprintf(p.out, "  %s\n", p.text(done, now))
	}
}

// end shows that all is done, in any case.
func (p *progress) end() {
	if p.terminal {
		p.show(p.total)
		fmt.Fprintln(p.out)
		return
	}
	fmt.Fprintf(p.out, "  %s\n", p.text(p.total, time.Now()))
}

func (p *progress) text(done int, now time.Time) string {
	elapsed := max(now.Sub(p.began), time.Millisecond).Seconds()
	return fmt.Sprintf("%d of %d tasks, %.0f tasks/s", done, p.total, float64(done)/elapsed)
}

func bar(done, total int) string {
	full := done * barWidth / max(total, 1)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done*100/max(total, 1))
}
