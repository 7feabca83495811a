package anchor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// model is what a store is meant to be: the life of each task as a few rules, without storage, time or concurrency.
// Tasks are known by their number, in the order in which they were enqueued; the first is 1.
type model struct {
	tasks  []*modelTask
	tags   map[string]modelTag
	paused map[string]bool
	clock  int // of next_run: what becomes due later comes later
}

type modelTask struct {
	number          int
	name, queue     string
	priority        int
	status          Status
	attempts, max   int
	due             int // by the clock, never for modelNever
	tag             string
	errors          []string
	claim           *modelClaim // who holds it
	cancelRequested bool
}

const modelNever = 1 << 30

type modelTag struct {
	task      int
	whileLive bool
}

// modelClaim is one claim, for as long as somebody may use its token.
type modelClaim struct {
	task      *modelTask
	worker    *modelWorker
	attempt   int
	exhausted bool
	token     int64 // as a store gave it, where that matters
}

// modelWorker is a worker under one id.
type modelWorker struct {
	id   string // as a store gave it, where that matters
	dead bool
}

func newModel() *model {
	return &model{tags: map[string]modelTag{}, paused: map[string]bool{}}
}

func (m *model) tick() int { m.clock++; return m.clock }

// enqueue answers the holder of the tag instead when it is held.
func (m *model) enqueue(t modelTask, whileLive bool) (holder int) {
	if held, ok := m.tags[t.tag]; ok && t.tag != "" {
		return held.task
	}
	t.number, t.status = len(m.tasks)+1, StatusPending
	if t.due != modelNever {
		t.due = m.tick()
	}
	m.tasks = append(m.tasks, &t)
	if t.tag != "" {
		m.tags[t.tag] = modelTag{t.number, whileLive}
	}
	return 0
}

// claim takes from one queue, in the order of priority, time and number.
func (m *model) claim(w *modelWorker, queue string, names []string, limit int) []*modelClaim {
	var ready []*modelTask
	for _, t := range m.tasks {
		if t.ready() && t.queue == queue && !m.paused[queue] && slices.Contains(names, t.name) {
			ready = append(ready, t)
		}
	}
	slices.SortFunc(ready, func(a, b *modelTask) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.due, b.due), cmp.Compare(a.number, b.number))
	})
	var claims []*modelClaim
	for _, t := range ready[:min(limit, len(ready))] {
		claims = append(claims, m.take(t, w))
	}
	return claims
}

// take claims one that is ready.
func (m *model) take(t *modelTask, w *modelWorker) *modelClaim {
	t.status = StatusRunning
	t.attempts++
	return m.hold(t, w, false)
}

func (m *model) hold(t *modelTask, w *modelWorker, exhausted bool) *modelClaim {
	t.claim = &modelClaim{task: t, worker: w, attempt: t.attempts, exhausted: exhausted}
	return t.claim
}

func (t *modelTask) ready() bool { return t.status == StatusPending && t.due != modelNever }

func (c *modelClaim) lost() bool { return c.task.claim != c }

// finish is for claims that are not lost.
func (m *model) finish(c *modelClaim, how outcome, message string, later bool) {
	t := c.task
	if message != "" && how != outcomeCompleted && how != outcomeReleased {
		t.errors = append(t.errors, message)
	}
	switch how {
	case outcomeCompleted:
		m.end(t, StatusCompleted)
	case outcomeFailed:
		m.end(t, StatusFailed)
	case outcomeCancelled:
		m.end(t, StatusCancelled)
	case outcomeRetried, outcomeReleased:
		if how == outcomeReleased {
			t.attempts--
		}
		if t.cancelRequested {
			m.end(t, StatusCancelled)
			return
		}
		t.claim, t.status = nil, StatusPending
		switch {
		case how == outcomeReleased: // due as it was
		case later:
			t.due = modelNever
		default:
			t.due = m.tick()
		}
	}
}

func (m *model) end(t *modelTask, status Status) {
	t.status, t.claim, t.cancelRequested = status, nil, false
	if held := m.tags[t.tag]; held.task == t.number && held.whileLive {
		delete(m.tags, t.tag)
	}
}

func (m *model) cancel(t *modelTask) error {
	switch t.status {
	case StatusPending:
		m.end(t, StatusCancelled)
	case StatusRunning:
		t.cancelRequested = true
	default:
		return ErrTaskNotCancellable
	}
	return nil
}

// retry answers the holder of the tag when it is another task by now.
func (m *model) retry(t *modelTask) (holder int, err error) {
	if t.status != StatusFailed && t.status != StatusCancelled {
		return 0, ErrTaskNotRetryable
	}
	if t.tag != "" {
		held, ok := m.tags[t.tag]
		if ok && held.task != t.number {
			return held.task, ErrTaskAlreadyExists
		}
		if !ok {
			m.tags[t.tag] = modelTag{t.number, true}
		}
	}
	t.status, t.attempts, t.due = StatusPending, 0, m.tick()
	return 0, nil
}

// takeBack answers the exhausted ones, which are w's now.
func (m *model) takeBack(w *modelWorker, names []string) (count int, exhausted []*modelClaim) {
	due := m.tick()
	for _, t := range m.tasks {
		taken, claim := m.takeOneBack(t, w, names, due)
		if claim != nil {
			exhausted = append(exhausted, claim)
		}
		if taken {
			count++
		}
	}
	return count, exhausted
}

// takeOneBack answers the claim of an exhausted one.
func (m *model) takeOneBack(t *modelTask, w *modelWorker, names []string, due int) (taken bool, exhausted *modelClaim) {
	if t.claim == nil || !t.claim.worker.dead {
		return false, nil
	}
	switch {
	case t.cancelRequested:
		t.errors = append(t.errors, modelLost)
		m.end(t, StatusCancelled)
	case t.attempts < t.max:
		t.errors = append(t.errors, modelLost)
		t.status, t.claim, t.due = StatusPending, nil, due
	case slices.Contains(names, t.name):
		return true, m.hold(t, w, true)
	default:
		return false, nil
	}
	return true, nil
}

// modelLost stands for the error of an attempt that was taken back.
const modelLost = "stopped responding"

// state is what can be read of a task.
func (t *modelTask) state() string {
	return fmt.Sprintf("%d %s/%s %d %s, %d of %d, tag %q, errors %q", t.number, t.name, t.queue, t.priority, t.status, t.attempts, t.max, t.tag, t.errors)
}

// stateOfInfo is the same of a stored task.
func stateOfInfo(number int, info *TaskInfo) string {
	t := modelTask{
		number: number, name: info.Name, queue: info.Queue, priority: info.Priority, status: info.Status,
		attempts: info.Attempts, max: info.MaxAttempts, tag: info.UniqueTag,
	}
	for _, e := range info.Errors {
		message := e.Message
		if strings.Contains(message, modelLost) {
			message = modelLost
		}
		t.errors = append(t.errors, message)
	}
	return t.state()
}
