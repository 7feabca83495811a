package report

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/anchor-go/anchor/bench/internal/result"
)

// Text is the table of targets for a terminal; what was not measured is left out.
func Text(set *result.Set) string {
	var b strings.Builder
	const format = "%-6s %s %s  %s  %s\n"
	head := false
	for _, r := range rows(set) {
		if !r.Known {
			continue
		}
		if !head {
			fmt.Fprintf(&b, "\n"+format, "", column("load", 76), column("target", 15), column("measured", 30), "figures")
			head = true
		}
		verdict := "ok"
		if !r.Met {
			verdict = "BELOW"
		}
		fmt.Fprintf(&b, format, verdict, column(r.Load, 76), column(r.Want, 15), column(r.Value, 30), r.Figures)
	}
	return b.String()
}

// column pads or cuts to a width.
func column(s string, width int) string {
	if n := utf8.RuneCountInString(s); n <= width {
		return s + strings.Repeat(" ", width-n)
	}
	return string([]rune(s)[:width-1]) + "…"
}
