package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/anchor-go/anchor/internal/testdb"
)

// runLimit is for a machine that does much else.
const runLimit = 2 * time.Minute

// sections is what every run tells under each of its headings.
var sections = []struct {
	heading string
	lines   []string
}{
	{"The declared schedule ticks every second.", []string{`heartbeat of`, `heartbeat of`, `heartbeat of`}},
	{"A schedule for each customer, at nine in their time zone.", []string{
		`Heartbeat +\* \* \* \* \* \*  UTC +next \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000`,
		`statement/ada +0 9 \* \* \* +Europe/London +next \d{4}-\d\d-\d\d 09:00:00 \+0[01]00`,
		`statement/grace +0 9 \* \* \* +America/New_York +next \d{4}-\d\d-\d\d 09:00:00 -0[45]00`,
		`statement/hedy +0 9 \* \* \* +Asia/Tokyo +next \d{4}-\d\d-\d\d 09:00:00 \+0900`,
	}},
	{"One of them now, beside its ticks.", []string{`the statement of hedy, as of \d{4}-\d\d-\d\d \d\d:\d\d \+0900`}},
	{"Pausing the heartbeat for a while.", []string{`Heartbeat .* paused`, `statement/ada .* next`}},
	{"Resuming it: what was missed meanwhile is not made up for.", []string{`heartbeat of`, `heartbeat of`}},
	{"The customers leave, and their schedules with them.", []string{`Heartbeat .* next`}},
}

func checkRun(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, url, &out); err != nil {
		t.Fatalf("%v, after:\n%s", err, out.String())
	}
	rest := out.String()
	for i, section := range sections {
		_, after, found := strings.Cut(rest, section.heading+"\n")
		if !found {
			t.Fatalf("no heading %q in its place in:\n%s", section.heading, out.String())
		}
		text := after
		if i+1 < len(sections) {
			text, _, _ = strings.Cut(after, sections[i+1].heading)
		}
		for _, line := range section.lines {
			at := regexp.MustCompile(line).FindStringIndex(text)
			if at == nil {
				t.Errorf("no line %q in its place under %q in:\n%s", line, section.heading, out.String())
				break
			}
			text = text[at[1]:]
		}
		if n := strings.Count(text, "heartbeat of"); n > 1 && strings.HasPrefix(section.heading, "Pausing") {
			t.Errorf("%d heartbeats in the pause:\n%s", n, out.String())
		}
		rest = after
	}
	if strings.Contains(rest, "statement/") {
		t.Errorf("schedules of customers are left:\n%s", out.String())
	}
	beats := regexp.MustCompile(`heartbeat of (\S+)`).FindAllString(out.String(), -1)
	seen := map[string]bool{}
	for _, beat := range beats {
		if seen[beat] {
			t.Errorf("%s came twice:\n%s", beat, out.String())
		}
		seen[beat] = true
	}
}

func TestInMemory(t *testing.T) {
	t.Parallel()
	checkRun(t, "")
}

func TestOnPostgreSQLAgain(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	checkRun(t, url)
	checkRun(t, url)
}

func TestDatabaseThatIsNotThere(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), "postgres://nobody@127.0.0.1:1/none?connect_timeout=5", &bytes.Buffer{}); err == nil {
		t.Error("it ran without a database")
	}
}
