package anchortest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anchor-go/anchor/internal/seam"
)

// maxEvents bounds what is kept: the newest.
const maxEvents = 10_000

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

func (w *watch) noteClaimed(a seam.Attempt) {
	if w.events.names[a.ID] == "" {
		w.events.names[a.ID] = a.Name
		if !a.ScheduledFor.IsZero() {
			w.note(a.ID, "enqueued by its schedule for %s", a.ScheduledFor.Format("2006-01-02 15:04:05 MST"))
		}
	}
	switch {
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
		w.note(a.ID, "failure hook failed: %s", brief(err.Error()))
	}
}

func (w *watch) noteEnded(a seam.Attempt, end seam.End) {
	switch end.Outcome {
	case seam.Retried:
		again := w.sinceStart(time.Now().Add(w.moved + end.After))
		w.note(a.ID, "attempt failed: %s; due again at +%v", brief(end.Message), again)
	case seam.Failed, seam.Cancelled:
		w.note(a.ID, "%s: %s", end.Outcome, brief(end.Message))
	case seam.Lost:
		if w.dead[a.Token] {
			w.note(a.ID, "lost: the worker died")
		} else {
			w.note(a.ID, "lost: the claim was no longer the worker's")
		}
	default:
		w.note(a.ID, "%s", end.Outcome)
	}
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
// failure hook ran. Times are distances from the start of the test. It is printed when the test fails. A long one is
// cut at its beginning.
func (h *Harness) Timeline() string {
	w := h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	byTask := map[int64][]event{}
	for _, e := range w.events.events {
		byTask[e.task] = append(byTask[e.task], e)
	}
	var text strings.Builder
	if w.events.dropped > 0 {
		fmt.Fprintf(&text, "(%d earlier events are left out)\n", w.events.dropped)
	}
	for _, id := range slices.Sorted(maps.Keys(byTask)) {
		fmt.Fprintf(&text, "task %d %s\n", id, w.events.names[id])
		for _, e := range byTask[id] {
			fmt.Fprintf(&text, "  %-14s %s\n", fmt.Sprintf("+%v", e.at), e.text)
		}
	}
	return text.String()
}
