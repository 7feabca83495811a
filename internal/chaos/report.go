//go:build unix

package chaos

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"
)

// Report is what a run of the whole matrix found.
type Report struct {
	Date    time.Time
	Commit  string
	Machine string
	Server  string // PostgreSQL's version
	Took    time.Duration
	Results []Result
	Mutants []Caught
}

// Caught is a mutant and what caught it.
type Caught struct {
	Name   string
	By     string // the checks
	Missed bool
}

// NewReport is a report of a run that began at a time, without results.
func (s *Suite) NewReport(ctx context.Context, began time.Time) (*Report, error) {
	r := &Report{Date: began.UTC(), Machine: machine()}
	conn, err := pgx.Connect(ctx, s.cluster.URL())
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, "select split_part(current_setting('server_version'), ' ', 1)").Scan(&r.Server); err != nil {
		return nil, err
	}
	git := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude=*")
	git.Dir = s.source
	if out, err := git.Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	} else {
		r.Commit = "unknown"
	}
	return r, nil
}

// machine is the processor, the number of cores and the memory.
func machine() string {
	model := firstValue("/proc/cpuinfo", "model name")
	if model == "" {
		model = runtime.GOARCH
	}
	memory := ""
	var kilobytes int
	if _, err := fmt.Sscan(firstValue("/proc/meminfo", "MemTotal"), &kilobytes); err == nil {
		memory = fmt.Sprintf(", %d GB", (kilobytes+1<<19)>>20)
	}
	return fmt.Sprintf("%s, %d cores%s, %s", model, runtime.NumCPU(), memory, runtime.GOOS)
}

// firstValue is what follows a name and a colon in a file.
func firstValue(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if before, after, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return ""
}

// Failed tells whether a promise was broken, a fault was not made often enough, or a mutant was not caught.
func (r *Report) Failed() bool {
	for _, result := range r.Results {
		if result.Failed() {
			return true
		}
	}
	for _, m := range r.Mutants {
		if m.Missed {
			return true
		}
	}
	return false
}

// Table are the results as rows of Markdown.
func (r *Report) Table() string {
	var b strings.Builder
	b.WriteString("| fault | how often | tasks | violations | slowest recovery |\n|---|---|---|---|---|\n")
	for _, result := range r.Results {
		recovery := ""
		switch {
		case result.Err != nil:
			recovery = "not done: " + firstLine(result.Err.Error())
		case result.Slowest > 0:
			recovery = fmt.Sprintf("%.2f s %s", result.Slowest.Seconds(), result.Fault.Recovery)
		}
		fmt.Fprintf(&b, "| %s | %d %s | %d | %d | %s |\n", result.Fault.Name, result.Runs, result.Fault.Unit, result.Tasks, len(result.Violations), recovery)
	}
	return b.String()
}

// MutantTable are the mutants as rows of Markdown.
func (r *Report) MutantTable() string {
	var b strings.Builder
	b.WriteString("| mistake | caught by |\n|---|---|\n")
	for _, m := range r.Mutants {
		by := m.By
		if m.Missed {
			by = "NOT CAUGHT " + by
		}
		fmt.Fprintf(&b, "| %s | %s |\n", m.Name, by)
	}
	return b.String()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

//go:embed reliability.md.tmpl
var reliabilityText string

var reliability = template.Must(template.New("reliability.md").Parse(reliabilityText))

// Write writes the report, with what is promised around it, to a file.
func (r *Report) Write(path string) error {
	var b strings.Builder
	if err := reliability.Execute(&b, r); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
