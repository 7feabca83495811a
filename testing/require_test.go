package anchortest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

var (
	sprintf = fmt.Sprintf
	sprint  = fmt.Sprint
)

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	// cmp puts blanks that do not break into its diffs, so that nobody parses them.
	text = strings.ReplaceAll(text, "\u00a0", " ")
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

func TestEnqueuedIsTypedAndInOrder(t *testing.T) {
	t.Parallel()
	task, other := anchor.Define("task", succeed), anchor.Define("other", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		want := []*stepParams{}
		for n := range 2500 { // more than a page
			want = append(want, &stepParams{N: n, Text: "x"})
		}
		if _, err := task.RunMany(t.Context(), h.Client, want); err != nil {
			t.Fatal(err)
		}
		run(t, h, other, stepParams{})
		if diff := cmp.Diff(want, anchortest.Enqueued(h, task)); diff != "" {
			t.Errorf("enqueued (-want +got):\n%s", diff)
		}
		h.Drain()
		if got := anchortest.Enqueued(h, task); len(got) > 0 {
			t.Errorf("%d are enqueued after Drain, want none", len(got))
		}
	}, task, other)
}

func TestRequireEnqueuedComparesWhatIsSet(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	at := time.Date(2000, 1, 2, 3, 4, 5, 0, time.UTC)
	stored := stepParams{N: 1, Text: "one", At: at, Map: map[string]string{"a": "1", "b": "2"}}
	for name, test := range map[string]struct {
		want    *stepParams
		matches []anchortest.Match
		missing string // "": it is found
	}{
		"anything":              {},
		"one field":             {want: &stepParams{Text: "one"}},
		"all fields":            {want: &stored},
		"a key of a map":        {want: &stepParams{Map: map[string]string{"b": "2"}}},
		"a time in a zone":      {want: &stepParams{At: at.In(time.FixedZone("x", 3600))}},
		"everything matches":    {want: &stepParams{N: 1}, matches: []anchortest.Match{anchortest.InQueue("mail"), anchortest.DueWithin(time.Hour), anchortest.WithTag("t")}},
		"another field":         {want: &stepParams{N: 2, Text: "one"}, missing: "N:    2"},
		"another key of a map":  {want: &stepParams{Map: map[string]string{"c": "3"}}, missing: `"c": "3"`},
		"another value of keys": {want: &stepParams{Map: map[string]string{"a": "3"}}, missing: `"a": "3"`},
		"another queue":         {matches: []anchortest.Match{anchortest.InQueue("x")}, missing: `InQueue("x"): its queue is "mail"`},
		"due later":             {matches: []anchortest.Match{anchortest.DueWithin(time.Minute)}, missing: "DueWithin(1m0s): it is due in 1h0m0s"},
		"another tag":           {matches: []anchortest.Match{anchortest.WithTag("x")}, missing: `WithTag("x"): its tag is "t"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
				run(t, h, task, stored, anchor.WithQueue("mail"), anchor.WithDelay(time.Hour), anchor.WithUniqueTag("t"))
				if test.missing == "" {
					anchortest.RequireEnqueued(t, h, task, test.want, test.matches...)
					return
				}
				failure := failureOf(t, func(t testing.TB) { anchortest.RequireEnqueued(t, h, task, test.want, test.matches...) })
				wantText(t, failure, "no such task task is enqueued", "the nearest of 1 pending", test.missing)
			}, task)
		})
	}
}

func TestRequireEnqueuedPrintsTheNearestFirst(t *testing.T) {
	t.Parallel()
	task, other := anchor.Define("task", succeed), anchor.Define("other", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		fail := func() string {
			return failureOf(t, func(t testing.TB) { anchortest.RequireEnqueued(t, h, task, &stepParams{N: 1, Text: "one"}) })
		}
		wantText(t, fail(), "nothing is enqueued at all")
		run(t, h, other, stepParams{})
		wantText(t, fail(), "none of the name is pending", "task 1 is a other")
		for n := range 5 {
			run(t, h, task, stepParams{N: 10 + n, Text: "far"})
		}
		run(t, h, task, stepParams{N: 1, Text: "near"})
		text := fail()
		wantText(t, text, "the nearest of 6 pending:\n  task 7, pending", `"one"`, `"near"`)
		if n := strings.Count(text, ", pending, in queue"); n != 3 {
			t.Errorf("%d tasks are printed, want 3:\n%s", n, text)
		}
		h.Drain()
		wantText(t, fail(), "task 2 has the name, but is completed")
	}, task, other)
}

func TestRequireNotEnqueued(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		anchortest.RequireNotEnqueued(t, h, task)
		run(t, h, task, stepParams{N: 7})
		anchortest.RequireNotEnqueued(t, h, task, anchortest.InQueue("other"))
		failure := failureOf(t, func(t testing.TB) { anchortest.RequireNotEnqueued(t, h, task) })
		wantText(t, failure, "a task task is enqueued", "N:7")
	}, task)
}

func TestRequireOutcomesOfTasks(t *testing.T) {
	t.Parallel()
	broken, other := errors.New("broken"), errors.New("another error")
	var hookErr error
	var fails bool
	task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error {
		if fails {
			return fmt.Errorf("wrapped: %w", broken)
		}
		return nil
	}, anchor.WithRetryPolicy("1m", 1)).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *stepParams) error { return hookErr })
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		completed := func(t testing.TB) { anchortest.RequireCompleted(t, h, task) }
		failedWith := func(target error) func(testing.TB) {
			return func(t testing.TB) { anchortest.RequireFailed(t, h, task, target) }
		}
		hookRan := func(t testing.TB) { anchortest.RequireHookRan(t, h, task) }

		wantText(t, failureOf(t, completed), "no task task has completed", "there is none of that name")
		run(t, h, task, stepParams{})
		wantText(t, failureOf(t, completed), "task 1 is pending after 0 attempts")
		h.Drain()
		completed(t)
		wantText(t, failureOf(t, failedWith(broken)), "no task task has failed", "task 1 is completed after 1 attempt:")
		wantText(t, failureOf(t, hookRan), "has not run")

		fails, hookErr = true, errors.New("hook trouble")
		run(t, h, task, stepParams{})
		h.Drain()
		failedWith(broken)(t)
		failedWith(nil)(t)
		wantText(t, failureOf(t, failedWith(other)), "wrapped: broken", "which is not", "another error")
		wantText(t, failureOf(t, completed), "task 2 task has failed: wrapped: broken")
		wantText(t, failureOf(t, hookRan), "has failed: hook trouble")

		hookErr = nil
		run(t, h, task, stepParams{})
		h.Drain()
		hookRan(t)
	}, task)
}
