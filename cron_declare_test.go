package anchor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestMistakesInADeclaredScheduleAreReportedByNew(t *testing.T) {
	t.Parallel()
	handler := func(context.Context, pgx.Tx, *workParams) error { return nil }
	params := &workParams{}
	for name, test := range map[string]struct {
		declare func(task *Task[workParams])
		want    []string
	}{
		"too few fields":  {func(task *Task[workParams]) { task.Cron("* * *", params) }, []string{"Cron", "3 fields"}},
		"impossible date": {func(task *Task[workParams]) { task.Cron("0 0 31 2 *", params) }, []string{"never matches"}},
		"TZ= alone":       {func(task *Task[workParams]) { task.Cron("TZ=", params) }, []string{"WithTimeZone"}},
		"unknown zone":    {func(task *Task[workParams]) { task.Cron("@daily", params, WithTimeZone("Mars/Base")) }, []string{"Mars/Base"}},
		"no zone":         {func(task *Task[workParams]) { task.Cron("@daily", params, WithTimeZone("")) }, []string{"WithTimeZone", "empty"}},
		"nil params":      {func(task *Task[workParams]) { task.Cron("@daily", nil) }, []string{"params is nil"}},
		"twice":           {func(task *Task[workParams]) { task.Cron("@daily", params).Cron("@hourly", params) }, []string{"already"}},
		"unknown rule":    {func(task *Task[workParams]) { task.Cron("@daily", params, WithCatchUp("some")) }, []string{`"some"`}},
		"nil option":      {func(task *Task[workParams]) { task.Cron("@daily", params, nil) }, []string{"option 1 is nil"}},
		"a delay":         {func(task *Task[workParams]) { task.Cron("@daily", params, WithRunOptions(WithDelay(1))) }, []string{"WithDelay"}},
		"a start":         {func(task *Task[workParams]) { task.Cron("@daily", params, WithRunOptions(WithStartAt(time.Now()))) }, []string{"WithStartAt"}},
		"bad run options": {func(task *Task[workParams]) {
			task.Cron("@daily", params, WithRunOptions(WithPriority(1000), WithQueue("")))
		}, []string{"WithPriority(1000)", "WithQueue"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := Define("Report", handler)
			test.declare(task)
			_, err := New(NewMemoryStore(), WithTasks(task))
			if err == nil {
				t.Fatal("New took it")
			}
			for _, want := range append(test.want, "cron_declare_test.go:", `task "Report"`) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not have %q", err, want)
				}
			}
		})
	}
}

func TestAllMistakesInAScheduleAreReported(t *testing.T) {
	t.Parallel()
	type limited struct {
		N int `json:"n" jsonschema:"minimum=1"`
	}
	handler := func(context.Context, pgx.Tx, *limited) error { return nil }
	opts := []CronOption{WithTimeZone("Mars/Base"), WithRunOptions(WithDelay(1))}
	want := []string{`WithTimeZone("Mars/Base")`, "WithDelay and WithStartAt", `"61 * * * *"`, "/n: is less than 1"}
	check := func(what string, err error, want ...string) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		for _, part := range want {
			if strings.Count(err.Error(), part) != 1 {
				t.Errorf("%s: error %q does not have %q once", what, err, part)
			}
		}
	}

	_, err := New(NewMemoryStore(), WithTasks(Define("Report", handler).Cron("61 * * * *", &limited{}, opts...)))
	check("Cron", err, want...)
	_, err = New(NewMemoryStore(), WithTasks(Define("Report", handler).Cron("61 * * * *", nil, opts...)))
	check("Cron without parameters", err, append(want[:3:3], "params is nil")...)
	_, err = New(NewMemoryStore(), WithTasks(Define("Re port", handler).Cron("61 * * * *", &limited{}, opts...)))
	check("Cron of a task that cannot be", err, append(want[:3:3], "holds a space")...)

	task := Define("Report", handler)
	client, err := New(NewMemoryStore(), WithTasks(task))
	must(t, err)
	err = task.Schedule(t.Context(), client, "report", "61 * * * *", &limited{}, opts...)
	check("Schedule", err, want...)
	wantError(t, err, ErrInvalidParams)
}

// code is a schedule as the code of one version declares it.
func code(t *testing.T, expression string, opts ...CronOption) *cronJob {
	t.Helper()
	return codeOf(t, expression, &workParams{}, opts...)
}

func codeOf(t *testing.T, expression string, params *workParams, opts ...CronOption) *cronJob {
	t.Helper()
	task := Define("Report", func(context.Context, pgx.Tx, *workParams) error { return nil }).Cron(expression, params, opts...)
	client, err := New(NewMemoryStore(), WithTasks(task))
	if err != nil {
		t.Fatal(err)
	}
	return client.declaredCrons()[0]
}

// storedCron is what a store would have, with the fleet that its workers make.
type storedCron struct {
	cronJob
	fleet map[string]int // workers alive, by declaration
}

// start is a worker that starts with a declaration, or looks again.
func (s *storedCron) start(t *testing.T, declared *cronJob) bool {
	t.Helper()
	s.now = s.now.Add(time.Second)
	s.declarationLives = s.fleet[s.declaration] > 0
	changed, err := s.declare(declared)
	must(t, err)
	if changed {
		s.id = 1
	}
	return changed
}

func TestDeclarationsOfTwoVersions(t *testing.T) {
	t.Parallel()
	now := mustParseTime(t, "2025-06-01T12:00:00Z")
	one, two, three := code(t, "@hourly"), code(t, "@daily"), code(t, "@weekly")
	stored := &storedCron{cronJob: cronJob{name: "Report", now: now}, fleet: map[string]int{}}
	for i, step := range []struct {
		what    string
		alive   []*cronJob // beside the one that starts
		starts  *cronJob
		changed bool
		want    string
	}{
		{"the first worker", nil, one, true, "@hourly"},
		{"another of the same", []*cronJob{one}, one, false, "@hourly"},
		{"a new version beside the old one", []*cronJob{one}, two, true, "@daily"},
		{"an old worker starts again", []*cronJob{one, two}, one, false, "@daily"},
		{"a new one starts again", []*cronJob{one, two}, two, false, "@daily"},
		{"rolled back, while a new one lives", []*cronJob{one, two}, one, false, "@daily"},
		{"rolled back", []*cronJob{one}, one, true, "@hourly"},
		{"forward again, while an old one lives", []*cronJob{one}, two, false, "@hourly"},
		{"forward again", nil, two, true, "@daily"},
		{"a third version", []*cronJob{one, two}, three, true, "@weekly"},
		{"the first, long after", []*cronJob{one, three}, one, false, "@weekly"},
		{"the first alone", nil, one, true, "@hourly"},
	} {
		stored.fleet = map[string]int{step.starts.declaration: 1}
		for _, alive := range step.alive {
			stored.fleet[alive.declaration]++
		}
		if changed := stored.start(t, step.starts); changed != step.changed || stored.expression != step.want {
			t.Errorf("step %d, %s: changed %t to %q, want %t to %q", i+1, step.what, changed, stored.expression, step.changed, step.want)
		}
	}
}

func TestDeclarationAndOperator(t *testing.T) {
	t.Parallel()
	now := mustParseTime(t, "2025-06-01T12:00:00Z")
	start := func(declared *cronJob) *storedCron {
		stored := &storedCron{cronJob: cronJob{name: "Report", now: now}, fleet: map[string]int{}}
		stored.start(t, declared)
		return stored
	}

	stored := start(code(t, "@hourly"))
	stored.expression = "@monthly" // UpdateCron
	stored.enabled = false         // PauseCron
	if stored.start(t, code(t, "@hourly")) {
		t.Error("a worker with the same code changed what an operator has set")
	}
	stored.start(t, code(t, "@daily"))
	if stored.expression != "@daily" || stored.enabled {
		t.Errorf("after a change of the code: %q, enabled %t, want @daily and still paused", stored.expression, stored.enabled)
	}
	stored.start(t, code(t, "@daily", WithEnabled(false)))
	stored.start(t, code(t, "@daily", WithEnabled(true), WithCatchUp(CatchUpAll)))
	if !stored.enabled || !stored.nextRun.Equal(mustParseTime(t, "2025-06-02T00:00:00Z")) {
		t.Errorf("after the code has enabled it: enabled %t, next %v", stored.enabled, stored.nextRun)
	}

	stored = start(code(t, "@hourly"))
	stored.deleted = true // DeleteCron
	if stored.start(t, code(t, "@hourly")); !stored.deleted {
		t.Error("a worker with the same code made a deleted schedule again")
	}
	stored.enabled = false
	if stored.start(t, code(t, "@daily")); stored.deleted || !stored.enabled {
		t.Errorf("after a change of the code: deleted %t, enabled %t, want it as new", stored.deleted, stored.enabled)
	}
}

func TestScheduleTakesOverWhatItsCodeDoesNotDeclare(t *testing.T) {
	t.Parallel()
	one, two := code(t, "@hourly"), code(t, "@daily")
	stored := &storedCron{cronJob: cronJob{name: "Report", now: mustParseTime(t, "2025-06-01T12:00:00Z")}, fleet: map[string]int{}}
	stored.start(t, one)
	stored.setDeclaration("")
	if stored.start(t, one) {
		t.Error("the old code has taken it back")
	}
	if !stored.start(t, two) {
		t.Error("a new declaration has no effect")
	}
	if diff := cmp.Diff([]string{one.declaration}, stored.replaced); diff != "" {
		t.Errorf("replaced declarations (-want +got):\n%s", diff)
	}
}

func TestWhatCountsAsAnotherDeclaration(t *testing.T) {
	t.Parallel()
	declarations := map[string]string{}
	for name, job := range map[string]*cronJob{
		"as it is":     code(t, "@hourly"),
		"expression":   code(t, "@daily"),
		"parameters":   codeOf(t, "@hourly", &workParams{N: 1}),
		"zone":         code(t, "@hourly", WithTimeZone("Europe/Berlin")),
		"catch-up":     code(t, "@hourly", WithCatchUp(CatchUpAll)),
		"enabled":      code(t, "@hourly", WithEnabled(false)),
		"queue":        code(t, "@hourly", WithRunOptions(WithQueue("slow"))),
		"priority":     code(t, "@hourly", WithRunOptions(WithPriority(1))),
		"timeout":      code(t, "@hourly", WithRunOptions(WithTimeout("1s"))),
		"max attempts": code(t, "@hourly", WithRunOptions(WithRetryPolicy("1s", 2))),
		"tag":          code(t, "@hourly", WithRunOptions(WithUniqueTag("report"))),
		"tag's scope":  code(t, "@hourly", WithRunOptions(WithUniqueTag("report", UniqueWhileLive))),
	} {
		if other, taken := declarations[job.declaration]; taken {
			t.Errorf("a declaration that differs in %q is the same as the one that differs in %q", name, other)
		}
		declarations[job.declaration] = name
	}
	if a, b := code(t, "@hourly"), code(t, "@hourly", WithTimeZone("UTC"), WithEnabled(true), WithCatchUp(CatchUpOne)); a.declaration != b.declaration {
		t.Error("spelled-out defaults make another declaration")
	}
}

func TestAScheduleRemembersALimitedPast(t *testing.T) {
	t.Parallel()
	stored := &storedCron{cronJob: cronJob{name: "Report", now: mustParseTime(t, "2025-06-01T12:00:00Z")}, fleet: map[string]int{}}
	var versions []string
	for minute := range 30 {
		version := code(t, fmt.Sprintf("%d * * * *", minute))
		versions = append(versions, version.declaration)
		stored.start(t, version)
	}
	if diff := cmp.Diff(versions[29-maxReplaced:29], stored.replaced); diff != "" {
		t.Errorf("replaced declarations (-want +got):\n%s", diff)
	}
}
