package anchortest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/seam"
)

// maxCandidates bounds what a failed assertion prints.
const maxCandidates = 3

// Enqueued returns the parameters of the pending tasks of one declaration in the order in which they were enqueued:
// those that are due, those that are due later, and those that are to be tried again.
func Enqueued[P any](h *Harness, task *anchor.Task[P]) []*P {
	h.t.Helper()
	var params []*P
	for _, c := range candidates(h.t, h, task, nil, nil, anchor.StatusPending) {
		params = append(params, c.params)
	}
	return params
}

// RequireEnqueued fails t unless a pending task of this declaration has the parameters want and fits all matches.
// Fields that are zero in want are not compared, nor are keys of maps that want does not have; a nil want is any.
// The failure prints the nearest tasks, each with its difference.
func RequireEnqueued[P any](t testing.TB, h *Harness, task *anchor.Task[P], want *P, matches ...Match) {
	t.Helper()
	found := candidates(t, h, task, want, matches, anchor.StatusPending)
	if !slices.ContainsFunc(found, candidate[P].fits) {
		text := nearest(h, task, found)
		if open := h.open(); open > 0 {
			text += "\n" + ofBegin(open, "is", "are") + " open: what is enqueued in one counts once it is committed"
		}
		t.Fatalf("anchortest: no such task %s is enqueued%s\n%s", task.Name(), listMatches(matches), text)
	}
}

// RequireNotEnqueued fails t if a pending task of this declaration fits all matches.
func RequireNotEnqueued[P any](t testing.TB, h *Harness, task *anchor.Task[P], matches ...Match) {
	t.Helper()
	var fitting []string
	for _, c := range candidates(t, h, task, nil, matches, anchor.StatusPending) {
		if c.fits() && len(fitting) < maxCandidates {
			fitting = append(fitting, fmt.Sprintf("%s: %+v", c.describe(), *c.params))
		}
	}
	if len(fitting) > 0 {
		t.Fatalf("anchortest: a task %s is enqueued%s:\n%s", task.Name(), listMatches(matches), indent(strings.Join(fitting, "\n"), "  "))
	}
}

func listMatches(matches []Match) string {
	if len(matches) == 0 {
		return ""
	}
	texts := make([]string, len(matches))
	for i, m := range matches {
		texts[i] = m.String()
	}
	return " with " + strings.Join(texts, ", ")
}

// nearest lists the candidates with the least that is wrong with them, or what there is of other statuses and names.
func nearest[P any](h *Harness, task *anchor.Task[P], found []candidate[P]) string {
	h.t.Helper()
	if len(found) == 0 {
		return elsewhere(h, task.Name())
	}
	slices.SortStableFunc(found, func(a, b candidate[P]) int { return distance(a) - distance(b) })
	texts := make([]string, 0, maxCandidates)
	for _, c := range found[:min(len(found), maxCandidates)] {
		texts = append(texts, c.describe())
	}
	return fmt.Sprintf("the nearest of %d pending:\n%s", len(found), indent(strings.Join(texts, "\n"), "  "))
}

// distance is the number of lines that differ.
func distance[P any](c candidate[P]) int {
	lines := 0
	for _, misfit := range c.misfit {
		lines += max(1, strings.Count(misfit, "\n+")+strings.Count(misfit, "\n-"))
	}
	return lines
}

func elsewhere(h *Harness, name string) string {
	h.t.Helper()
	var others []string
	for _, info := range h.tasks(name) {
		others = append(others, fmt.Sprintf("task %d has the name, but is %s", info.ID, info.Status))
	}
	if len(others) == 0 {
		for _, info := range h.tasks("", anchor.StatusPending) {
			others = append(others, fmt.Sprintf("task %d is a %s", info.ID, info.Name))
		}
	}
	if len(others) == 0 {
		return "nothing is enqueued at all"
	}
	return "none of the name is pending:\n" + indent(strings.Join(others[:min(len(others), maxCandidates)], "\n"), "  ")
}

// RequireCompleted fails t unless a task of this declaration has completed, and none has failed. Tasks that are no
// longer kept (24 hours in memory) do not count.
func RequireCompleted[P any](t testing.TB, h *Harness, task *anchor.Task[P]) {
	t.Helper()
	if unknown := h.unknown(task.Name()); unknown != "" {
		t.Fatal(unknown)
	}
	if failed := h.tasks(task.Name(), anchor.StatusFailed); len(failed) > 0 {
		t.Fatalf("anchortest: task %d %s has failed: %s", failed[0].ID, task.Name(), h.why(failed[0]))
	}
	if len(h.tasks(task.Name(), anchor.StatusCompleted)) > 0 {
		return
	}
	if id := h.watch.completedOf(task.Name()); id != 0 {
		t.Fatalf("anchortest: task %d %s has completed, but is no longer kept: look before its retention is over", id, task.Name())
	}
	t.Fatalf("anchortest: no task %s has completed\n%s", task.Name(), states(h, task.Name()))
}

// RequireFailed fails t unless a task of this declaration has failed for good, with a last error for which
// errors.Is(err, target) is true. A nil target is any error.
func RequireFailed[P any](t testing.TB, h *Harness, task *anchor.Task[P], target error) {
	t.Helper()
	if unknown := h.unknown(task.Name()); unknown != "" {
		t.Fatal(unknown)
	}
	failed := h.tasks(task.Name(), anchor.StatusFailed)
	if len(failed) == 0 {
		t.Fatalf("anchortest: no task %s has failed\n%s", task.Name(), states(h, task.Name()))
	}
	var last error
	for _, info := range failed {
		last = h.watch.errorOf(info.ID)
		if target == nil || errors.Is(last, target) {
			return
		}
	}
	t.Fatalf("anchortest: task %s has failed with\n  %v\nwhich is not\n  %v", task.Name(), last, target)
}

// RequireHookRan fails t unless the failure hook of this declaration has returned nil for one of its tasks.
func RequireHookRan[P any](t testing.TB, h *Harness, task *anchor.Task[P]) {
	t.Helper()
	if unknown := h.unknown(task.Name()); unknown != "" {
		t.Fatal(unknown)
	}
	var hookErr error
	for _, info := range h.tasks(task.Name()) {
		for _, err := range h.watch.hooksOf(info.ID) {
			if err == nil {
				return
			}
			hookErr = err
		}
	}
	if !seam.Anchor.HasHook(h.Client, task.Name()) {
		t.Fatalf("anchortest: the declaration of %s has no failure hook: give it one with OnFailed", task.Name())
	}
	if hookErr != nil {
		t.Fatalf("anchortest: the failure hook of %s has failed: %v", task.Name(), hookErr)
	}
	t.Fatalf("anchortest: the failure hook of %s has not run\n%s", task.Name(), states(h, task.Name()))
}

// RequireNothingWritten fails t if a transaction with statements has committed.
func RequireNothingWritten(t testing.TB, h *Harness) {
	t.Helper()
	if h.pool != nil {
		t.Fatal("anchortest: RequireNothingWritten looks at the transactions of Run; with RunPostgres ask the database")
	}
	executed := h.Executed()
	if len(executed) == 0 {
		return
	}
	texts := make([]string, 0, len(executed))
	for _, s := range executed {
		texts = append(texts, s.String())
	}
	t.Fatalf("anchortest: these statements were committed:\n%s", indent(strings.Join(texts, "\n"), "  "))
}

// RequireIdempotent runs a new task of this declaration, and delivers it a second time after it has completed (see
// [Harness.DuplicateDelivery]). It fails t unless the first delivery completes and what observe returns is the same
// after both: so observe returns what the handler changes outside of its tx, copied or not. A handler that writes through its tx
// only is always idempotent. Nothing else may be due.
func RequireIdempotent[P, O any](t testing.TB, h *Harness, task *anchor.Task[P], params *P, observe func() O, opts ...anchor.RunOption) {
	t.Helper()
	if observe == nil {
		t.Fatal("anchortest: RequireIdempotent: observe is nil")
	}
	if pending := h.Drain(); pending.Total() > 0 {
		t.Fatalf("anchortest: RequireIdempotent: other tasks were due: %+v", pending)
	}
	if _, err := task.Run(h.ctx, h.Client, params, opts...); err != nil {
		t.Fatalf("anchortest: RequireIdempotent: %v", err)
	}
	h.DuplicateDelivery(task)
	if first := h.DrainOne(); first.Completed != 1 {
		t.Fatalf("anchortest: RequireIdempotent: the first delivery of %s has not completed: %+v\n%s", task.Name(), first, states(h, task.Name()))
	}
	once := snapshot(observe())
	if second := h.DrainOne(); second.Lost != 1 {
		t.Fatalf("anchortest: RequireIdempotent: the second delivery of %s did not happen: %+v", task.Name(), second)
	}
	if diff := cmp.Diff(once, observe(), everyField); diff != "" {
		t.Fatalf("anchortest: %s is not idempotent: a second delivery has changed this (-once +twice):\n%s", task.Name(), diff)
	}
}

// states lists the tasks of a name.
func states(h *Harness, name string) string {
	h.t.Helper()
	all := h.tasks(name)
	if len(all) == 0 {
		return "there is none of that name"
	}
	var text strings.Builder
	for _, info := range all[max(0, len(all)-maxCandidates):] {
		attempts := "attempts"
		if info.Attempts == 1 {
			attempts = "attempt"
		}
		fmt.Fprintf(&text, "  task %d is %s after %d %s: %s\n", info.ID, info.Status, info.Attempts, attempts, lastMessage(info))
	}
	return text.String()
}

func lastMessage(info *anchor.TaskInfo) string {
	if len(info.Errors) == 0 {
		return "no error"
	}
	return brief(info.Errors[len(info.Errors)-1].Message)
}

// why is what the newest attempt of a task has failed with.
func (h *Harness) why(info *anchor.TaskInfo) string {
	if err := h.watch.errorOf(info.ID); err != nil {
		return brief(err.Error())
	}
	return lastMessage(info)
}

func (w *watch) errorOf(id int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.errs[id]
}

func (w *watch) hooksOf(id int64) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hooks[id]
}

// completedOf is the newest task of a name that has completed, 0 for none.
func (w *watch) completedOf(name string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.completed[name]
}
