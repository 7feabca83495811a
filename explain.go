package anchor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reason says in a word where a task stands, for programs. There may be more of them in later versions.
type Reason string

const (
	// ReasonQueuePaused is that of a pending task whose queue is paused.
	ReasonQueuePaused Reason = "queue_paused"
	// ReasonNoWorker is that of a pending task which no live worker takes: none has a handler for its name and works
	// on its queue.
	ReasonNoWorker Reason = "no_worker"
	// ReasonNotDue is that of a pending task which was delayed or waits for its retry.
	ReasonNotDue Reason = "not_due"
	// ReasonWaiting is that of a pending task which nothing holds up but its turn, or a slot that is free.
	ReasonWaiting Reason = "waiting"
	// ReasonRunning is that of a task which a live worker has.
	ReasonRunning Reason = "running"
	// ReasonWorkerLost is that of a running task whose worker's lease is over. Others take it back, if there are any.
	ReasonWorkerLost Reason = "worker_lost"
	// ReasonCompleted, ReasonFailed (for good) and ReasonCancelled are those of tasks that have ended.
	ReasonCompleted Reason = "completed"
	ReasonFailed    Reason = "failed"
	ReasonCancelled Reason = "cancelled"
)

// Explanation tells why a task is not running, or what has become of it.
type Explanation struct {
	// Reason is the one to deal with first; Also are the others that hold it up as well.
	Reason Reason   `json:"reason"`
	Also   []Reason `json:"also,omitzero"`
	// Text says the same, and since when, in sentences, with times in the local zone. Texts of handlers' errors are not in it.
	Text string `json:"text"`
	// Task is the task with its errors, but without its parameters: Params is nil.
	Task *TaskInfo `json:"task"`
	// At is the store's clock when it looked.
	At time.Time `json:"at"`

	// PausedSince is set for a pending task whose queue is paused.
	PausedSince time.Time `json:"pausedSince,omitzero"`
	// Ahead counts the tasks of its queue that are due and come before a pending one that is due, 1,000 at most;
	// AheadMore says that there are more.
	Ahead     int  `json:"ahead"`
	AheadMore bool `json:"aheadMore,omitzero"`
	// Takers are, for a pending task, the live workers that would run it, Others the other live ones.
	Takers []*WorkerInfo `json:"takers,omitzero"`
	Others []*WorkerInfo `json:"others,omitzero"`
	// Worker has a running task. It is nil when that is known no more.
	Worker *WorkerInfo `json:"worker,omitzero"`
	// CancelRequested is true of a running task that somebody cancelled: its handler was told, or is about to be.
	CancelRequested bool `json:"cancelRequested,omitzero"`
}

// maxAhead bounds what is counted in front of a task.
const maxAhead = 1000

// taskFacts is what a store knows about why a task does not run.
type taskFacts struct {
	task            *TaskInfo // without parameters
	now             time.Time
	cancelRequested bool
	pausedSince     time.Time // zero: not paused
	ahead           int       // of a task that is due: those before it in its queue, at most maxAhead+1
	workers         []*WorkerInfo
}

// Explain tells why a task is not running: its queue is paused, no live worker takes it, it is not due, others are
// before it. Of a task that runs or has ended it tells by whom and since when. It is cheap, however many tasks are
// pending; only while somebody's transaction is held open, and keeps what was claimed from being vacuumed, it may take
// a second. errors.Is(err, ErrTaskNotFound) is true when there is no such task, or not yet: one that was enqueued in a
// transaction exists once that commits.
func (c *Client) Explain(ctx context.Context, id int64) (*Explanation, error) {
	facts, err := c.store.explain(ctx, id)
	if err != nil {
		return nil, err
	}
	return facts.explanation(), nil
}

func (f *taskFacts) explanation() *Explanation {
	e := &Explanation{Task: f.task, At: f.now}
	var says []string
	switch f.task.Status {
	case StatusPending:
		e.Ahead, e.AheadMore = min(f.ahead, maxAhead), f.ahead > maxAhead
		e.PausedSince = f.pausedSince
		for _, w := range f.workers {
			switch {
			case !w.Alive:
			case w.Takes(f.task.Name, f.task.Queue):
				e.Takers = append(e.Takers, w)
			default:
				e.Others = append(e.Others, w)
			}
		}
		says = e.pending()
	case StatusRunning:
		e.CancelRequested = f.cancelRequested
		if i := slices.IndexFunc(f.workers, func(w *WorkerInfo) bool { return w.ID == f.task.WorkerID }); i >= 0 {
			e.Worker = f.workers[i]
		}
		says = e.running(slices.ContainsFunc(f.workers, func(w *WorkerInfo) bool { return w.Alive }))
	default:
		says = e.ended()
	}
	e.Text = strings.Join(says, " ")
	return e
}

// pending finds all that holds the task up.
func (e *Explanation) pending() (says []string) {
	var reasons []Reason
	found := func(reason Reason, format string, args ...any) {
		reasons = append(reasons, reason)
		says = append(says, fmt.Sprintf(format, args...))
	}
	task := e.Task
	if !e.PausedSince.IsZero() {
		found(ReasonQueuePaused, "Its queue %q is paused since %s.", task.Queue, shownClock(e.PausedSince))
	}
	if len(e.Takers) == 0 {
		found(ReasonNoWorker, "%s", e.noTaker())
	}
	retry := ""
	if task.Attempts > 0 {
		retry = fmt.Sprintf(" It was tried before: %s failed.", attemptsText(task.Attempts, task.MaxAttempts))
	}
	if wait := task.NextRun.Sub(e.At); wait > 0 {
		found(ReasonNotDue, "It is due at %s, in %s.%s", shownClock(task.NextRun), shownSpan(wait), retry)
		e.settleOn(reasons)
		return says
	}
	due := fmt.Sprintf("It is due since %s, for %s.%s %s", shownClock(task.NextRun), shownSpan(e.At.Sub(task.NextRun)), retry, e.queued())
	if len(reasons) == 0 {
		reasons = append(reasons, ReasonWaiting)
		slots, held := 0, 0
		for _, w := range e.Takers {
			slots, held = slots+w.Slots, held+w.Held
		}
		due += fmt.Sprintf(" %s such tasks, with %d slots, and %s now.", plural(len(e.Takers), "live worker takes", "live workers take"), slots, plural(held, "task", "tasks"))
	}
	e.settleOn(reasons)
	return append(says, due)
}

func (e *Explanation) settleOn(reasons []Reason) {
	e.Reason = reasons[0]
	if len(reasons) > 1 {
		e.Also = reasons[1:]
	}
}

func (e *Explanation) queued() string {
	switch {
	case e.AheadMore:
		return fmt.Sprintf("More than %d tasks of its queue are before it.", e.Ahead)
	case e.Ahead == 0:
		return "It is the next of its queue."
	}
	return plural(e.Ahead, "task of its queue is", "tasks of its queue are") + " before it."
}

// noTaker says what the live workers lack.
func (e *Explanation) noTaker() string {
	if len(e.Others) == 0 {
		return "No worker is alive."
	}
	elsewhere := 0
	for _, w := range e.Others {
		if slices.Contains(w.Tasks, e.Task.Name) {
			elsewhere++
		}
	}
	if elsewhere > 0 {
		return fmt.Sprintf("No live worker takes it: %s %q, but not from its queue %q.", plural(elsewhere, "handles", "handle"), e.Task.Name, e.Task.Queue)
	}
	return fmt.Sprintf("No live worker has a handler for %q; %s alive.", e.Task.Name, plural(len(e.Others), "other is", "others are"))
}

func (e *Explanation) running(rescue bool) []string {
	task := e.Task
	who := "A worker that is known no more"
	if e.Worker != nil {
		who = fmt.Sprintf("Worker %s (%s, process %d)", e.Worker.ID, e.Worker.Host, e.Worker.PID)
	}
	since := fmt.Sprintf("since %s, for %s: %s.", shownClock(task.StartedAt), shownSpan(e.At.Sub(task.StartedAt)), attemptsText(task.Attempts, task.MaxAttempts))
	var says []string
	if e.Worker != nil && e.Worker.Alive {
		e.Reason = ReasonRunning
		says = append(says, who+" runs it "+since, fmt.Sprintf("Its lease is until %s.", shownClock(e.Worker.LeaseUntil)))
	} else {
		e.Reason = ReasonWorkerLost
		over := "Its lease is over"
		if e.Worker != nil {
			over += " since " + shownClock(e.Worker.LeaseUntil)
		}
		if rescue {
			over += ": another worker takes the task back."
		} else {
			over += ", and no worker is alive to take the task back."
		}
		says = append(says, who+" has it "+since, over)
	}
	if e.CancelRequested {
		says = append(says, "It was asked to cancel.")
	}
	return says
}

func (e *Explanation) ended() []string {
	e.Reason = Reason(e.Task.Status)
	at := shownClock(e.Task.FinishedAt)
	attempts := plural(e.Task.Attempts, "attempt", "attempts")
	switch e.Task.Status {
	case StatusFailed:
		return []string{fmt.Sprintf("It failed for good at %s, after %s.", at, attempts)}
	case StatusCancelled:
		return []string{fmt.Sprintf("It was cancelled at %s, after %s.", at, attempts)}
	}
	return []string{fmt.Sprintf("It completed at %s, after %s.", at, attempts)}
}

func attemptsText(attempts, most int) string {
	if most == unlimitedAttempts {
		return fmt.Sprintf("attempt %d", attempts)
	}
	return fmt.Sprintf("attempt %d of %d", attempts, most)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func shownClock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// shownSpan is a duration in its two greatest units.
func shownSpan(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "less than a second"
	case d < time.Hour:
		return d.Truncate(time.Second).String()
	case d < 2*day:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}
