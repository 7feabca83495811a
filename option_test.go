package anchor_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anchor-go/anchor"
)

// loud is a string type whose String method says something else.
type loud string

func (l loud) String() string { return "LOUD" }

func TestOptionsPrint(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		option fmt.Stringer
		want   string
	}{
		{anchor.WithRetryPolicy("1m,2m", -1), `WithRetryPolicy("1m,2m", -1)`},
		{anchor.WithTimeout("30s"), `WithTimeout("30s")`},
		{anchor.WithTimeout(90 * time.Second), `WithTimeout(1m30s)`},
		{anchor.WithTimeout(loud("30s")), `WithTimeout("30s")`},
		{anchor.WithQueue("mail"), `WithQueue("mail")`},
		{anchor.WithPriority(-3), `WithPriority(-3)`},
		{anchor.WithDescription("sends"), `WithDescription("sends")`},
		{anchor.WithUniqueTag("t"), `WithUniqueTag("t")`},
		{anchor.WithUniqueTag("t", anchor.UniqueWhileLive), `WithUniqueTag("t", UniqueWhileLive)`},
		{anchor.WithUniqueTag("t", anchor.UniqueFor(time.Hour)), `WithUniqueTag("t", UniqueFor(1h0m0s))`},
		{anchor.UniqueForever, "UniqueForever"},
		{anchor.WithDelay(time.Minute), `WithDelay(1m0s)`},
		{anchor.WithStartAt(time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)), `WithStartAt(2030-01-02T03:04:05.000000006Z)`},
		{anchor.WithTasks(anchor.Define[letter]("a", nil)), "WithTasks(1 tasks)"},
		{anchor.WithLogger(slog.Default()), "WithLogger"},
		{anchor.WithConcurrency(5), "WithConcurrency(5)"},
		{anchor.WithQueues("a", "b"), `WithQueues(["a" "b"])`},
		{anchor.WithPollInterval(time.Second), "WithPollInterval(1s)"},
		{anchor.WithLease(time.Second), "WithLease(1s)"},
		{anchor.WithShutdownTimeout(time.Second), "WithShutdownTimeout(1s)"},
		{anchor.WithSchema("jobs"), `WithSchema("jobs")`},
		{anchor.WithPollingOnly(), "WithPollingOnly()"},
	} {
		if diff := cmp.Diff(c.want, c.option.String()); diff != "" {
			t.Errorf("printed (-want +got):\n%s", diff)
		}
	}
}

// Errors quote no more of an option than is needed to find it.
func TestOptionsPrintTheirBeginning(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("ü", 10_000)
	short := `"` + strings.Repeat("ü", 60) + `"...`
	for _, c := range []struct {
		option fmt.Stringer
		want   string
	}{
		{anchor.WithUniqueTag(long), "WithUniqueTag(" + short + ")"},
		{anchor.WithQueue(long), "WithQueue(" + short + ")"},
		{anchor.WithQueues(long, "b"), "WithQueues([" + short + ` "b"])`},
		{anchor.WithRetryPolicy(long, 1), "WithRetryPolicy(" + short + ", 1)"},
		{anchor.WithTimeout(long), "WithTimeout(" + short + ")"},
		{anchor.WithDescription(long), "WithDescription(" + short + ")"},
		{anchor.WithQueue(strings.Repeat("ü", 60)), `WithQueue("` + strings.Repeat("ü", 60) + `")`},
	} {
		if diff := cmp.Diff(c.want, c.option.String()); diff != "" {
			t.Errorf("printed (-want +got):\n%s", diff)
		}
	}
	_, err := anchor.New(anchor.NewMemoryStore(), anchor.WithTasks(anchor.Define("n", unused[letter], anchor.WithRetryPolicy(long, 1))))
	if wantText(t, err, "entry 1 is not a duration"); len(err.Error()) > 600 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestRunOptionMistakes(t *testing.T) {
	t.Parallel()

	client, task := newLetters(t, anchor.NewPGStore(openPool(t, "postgres:///nowhere")))
	for _, c := range []struct {
		name string
		opts []anchor.RunOption
		want []string
	}{
		{"nil", []anchor.RunOption{nil}, []string{"option 1 is nil"}},
		{"negative delay", []anchor.RunOption{anchor.WithDelay(-1)}, []string{"delay is negative"}},
		{"endless delay", []anchor.RunOption{anchor.WithDelay(1<<63 - 1)}, []string{"delay is negative or longer"}},
		{"zero time", []anchor.RunOption{anchor.WithStartAt(time.Time{})}, []string{"the time is zero"}},
		{"year 10000", []anchor.RunOption{anchor.WithStartAt(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}, []string{"between the years"}},
		{"delay and time", []anchor.RunOption{anchor.WithDelay(0), anchor.WithStartAt(time.Unix(1, 0))}, []string{"exclude each other"}},
		{"empty tag", []anchor.RunOption{anchor.WithUniqueTag("")}, []string{"unique tag is empty"}},
		{"long tag", []anchor.RunOption{anchor.WithUniqueTag(strings.Repeat("t", 501))}, []string{"unique tag has 501 bytes"}},
		{"NUL in the tag", []anchor.RunOption{anchor.WithUniqueTag("\x00")}, []string{"unique tag holds a NUL"}},
		{"two scopes", []anchor.RunOption{anchor.WithUniqueTag("t", anchor.UniqueForever, anchor.UniqueWhileLive)}, []string{"2 scopes"}},
		{"two tags", []anchor.RunOption{anchor.WithUniqueTag("a"), anchor.WithUniqueTag("b")}, []string{`WithUniqueTag("b")`, `has the unique tag "a" already`}},
		{"bad scope", []anchor.RunOption{anchor.WithUniqueTag("t", anchor.UniqueFor(0))}, []string{"UniqueFor(0s)"}},
		{
			"together",
			[]anchor.RunOption{anchor.WithQueue(""), anchor.WithPriority(500), anchor.WithTimeout("x"), anchor.WithRetryPolicy("x", 0), nil},
			[]string{`task "Letter"`, "queue is empty", "priority 500", "WithTimeout", "maxAttempts 0", "option 5 is nil"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			_, err := task.Run(t.Context(), client, &letter{}, c.opts...)
			wantText(t, err, c.want...)
			if _, err := task.RunMany(t.Context(), client, []*letter{{}}, c.opts...); err == nil {
				t.Error("RunMany accepts the options")
			}
			if errors.Is(err, anchor.ErrInvalidParams) {
				t.Error("a bad option is said to be bad parameters")
			}
		})
	}
}
