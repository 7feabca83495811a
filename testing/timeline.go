package anchortest

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anchor-go/anchor/internal/seam"
)

// maxEvents bounds what is kept: the newest.
const maxEvents = 10_000

// maxPrinted bounds the lines that a failed test prints.
const maxPrinted = 100

// maxShownError bounds an error's text in the timeline, in bytes.
const maxShownError = 200

type event struct {
	task int64
	at   time.Duration
	text string
}

type timeline struct {
	events  []event
	dropped int
	names   map[int64]string
}

func (l *timeline) init() { l.names = map[int64]string{} }

// note adds an event. The caller holds mu.
func (w *watch) note(task int64, format string, args ...any) {
	l := &w.events
	if len(l.events) == maxEvents {
		l.events = slices.Delete(l.events, 0, maxEvents/10)
		l.dropped += maxEvents / 10
	}
	l.events = append(l.events, event{task, w.sinceStart(time.Now().Add(w.moved)), fmt.Sprintf(format, args...)})
}

func (w *watch) sinceStart(at time.Time) time.Duration {
	return at.Sub(w.start).Round(time.Millisecond)
}

func (w *watch) noteEnqueued(tasks []seam.Task) {
	for _, task := range tasks {
		w.events.names[task.ID] = task.Name
		due := task.Delay
		if !task.StartAt.IsZero() {
			due = task.StartAt.Sub(time.Now().Add(w.moved))
		}
		if due > 0 {
			w.note(task.ID, "enqueued, due at +%v", w.sinceStart(time.Now().Add(w.moved+due)))
		} else {
			w.note(task.ID, "enqueued")
		}
	}
}

func (w *watch) noteCancelled(task int64) {
	for _, a := range w.running {
		if a.ID == task {
			w.note(task, "asked to end by Cancel")
			return
		}
	}
	w.note(task, "cancelled while it was pending")
}

func (w *watch) noteClaimed(a seam.Attempt) {
	if w.events.names[a.ID] == "" {
		w.events.names[a.ID] = a.Name
		if !a.ScheduledFor.IsZero() {
			w.note(a.ID, "enqueued by its schedule for %s", a.ScheduledFor.Format("2006-01-02 15:04:05 MST"))
		}
	}
	duplicate := a.Token == w.faults.duplicate
	w.faults.duplicate = 0
	switch {
	case duplicate:
		w.note(a.ID, "claimed, the duplicate delivery of attempt %d", a.Number)
	case a.Exhausted:
		w.note(a.ID, "taken back, no attempts are left")
	case a.Max < 0:
		w.note(a.ID, "claimed, attempt %d", a.Number)
	default:
		w.note(a.ID, "claimed, attempt %d of %d", a.Number, a.Max)
	}
}

func (w *watch) noteHook(a seam.Attempt, err error) {
	if err == nil {
		w.note(a.ID, "failure hook ran")
	} else {
		w.note(a.ID, "failure hook failed: %s", told(err.Error()))
	}
}

func (w *watch) noteEnded(a seam.Attempt, end seam.End) {
	switch end.Outcome {
	case seam.Retried:
		again := w.sinceStart(time.Now().Add(w.moved + end.After))
		w.note(a.ID, "attempt failed: %s; due again at +%v", told(end.Message), again)
	case seam.Failed, seam.Cancelled:
		w.note(a.ID, "%s: %s", end.Outcome, told(end.Message))
	case seam.Lost:
		if by := w.dead[a.Token]; by != "" {
			w.note(a.ID, "lost: %s", by)
		} else {
			w.note(a.ID, "lost: the claim was no longer the worker's")
		}
	default:
		w.note(a.ID, "%s", end.Outcome)
	}
}

// told is brief, with the place of a panic.
func told(message string) string {
	if place := panickedAt(message); place != "" {
		line, _, _ := strings.Cut(message, "\n")
		return brief(line) + " at " + place
	}
	return brief(message)
}

// panickedAt is the file and line of the innermost function in a panic's message that is not of the Go distribution, ""
// for other messages.
func panickedAt(message string) string {
	_, stack, ok := strings.Cut(message, "\npanic(")
	if !ok || !strings.HasPrefix(message, "panic: ") {
		return ""
	}
	root := "" // of the distribution: panic itself is there
	for line := range strings.Lines(stack) {
		place, isPlace := strings.CutPrefix(line, "\t")
		if !isPlace {
			continue
		}
		place, _, _ = strings.Cut(strings.TrimSpace(place), " +0x")
		if before, _, isPanic := strings.Cut(place, "runtime/panic.go:"); isPanic {
			root = before
		}
		if !strings.HasPrefix(place, root+"runtime/") && (root == "" || !strings.HasPrefix(place, root)) {
			return path.Base(place)
		}
	}
	return ""
}

// brief is the first line of an error's text, cut where it is long.
func brief(message string) string {
	line, _, more := strings.Cut(message, "\n")
	if len(line) > maxShownError {
		line, more = strings.ToValidUTF8(line[:maxShownError], ""), true
	}
	if more {
		return line + " ..."
	}
	return line
}

// Timeline tells what became of every task: when it was enqueued, claimed, failed, due again, completed, when its
// failure hook ran. Times are distances from the start of the test. When the test fails, its last 100 lines are printed.
func (h *Harness) Timeline() string { return h.timeline(math.MaxInt) }

// timeline is cut at its beginning to a number of lines.
func (h *Harness) timeline(lines int) string {
	w := h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	byTask := map[int64][]event{}
	left := len(w.events.events)
	for _, e := range slices.Backward(w.events.events) {
		needs := 1
		if len(byTask[e.task]) == 0 {
			needs = 2
		}
		if lines < needs {
			break
		}
		lines -= needs
		byTask[e.task] = append(byTask[e.task], e)
		left--
	}
	var text strings.Builder
	if left += w.events.dropped; left > 0 {
		fmt.Fprintf(&text, "(%d earlier events are left out)\n", left)
	}
	for _, id := range slices.Sorted(maps.Keys(byTask)) {
		fmt.Fprintf(&text, "task %d %s\n", id, w.events.names[id])
		for _, e := range slices.Backward(byTask[id]) {
			fmt.Fprintf(&text, "  %-14s %s\n", fmt.Sprintf("+%v", e.at), e.text)
		}
	}
	return text.String()
}
