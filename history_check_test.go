package anchor

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// operation is what somebody asked a store to do to a task, and what it answered. Others may have asked meanwhile.
type operation struct {
	who             int
	asked, answered int64
	text            string
	// do lets the model do the same, and tells whether it answers the same.
	do func(l *life) bool
	// unsure: it may have done nothing.
	unsure bool
}

func (o operation) String() string {
	end := fmt.Sprint(o.answered)
	if o.answered == math.MaxInt64 {
		end = "?"
	}
	unsure := ""
	if o.unsure {
		unsure = ", or nothing"
	}
	return fmt.Sprintf("%3d to %3s  by %d  %s%s", o.asked, end, o.who, o.text, unsure)
}

// history are the operations on one task, or on the tasks that share a unique tag.
type history []operation

func (h history) String() string {
	var b strings.Builder
	for _, o := range h {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// verdict of a history: "" when some order of its operations explains every answer, an order in which none comes
// before one that was answered before it was asked. (Wing and Gong's search, which remembers where it has been. A
// history without overlaps has one order, and is one pass.)
func (h history) verdict() string {
	slices.SortFunc(h, func(a, b operation) int { return cmp.Compare(a.asked, b.asked) })
	s := search{history: h, done: make([]bool, len(h)), seen: map[string]bool{}}
	if s.from(0, newLife()) {
		return ""
	}
	var b strings.Builder
	for i, o := range h {
		mark := " "
		if at := slices.Index(s.best, i); at >= 0 {
			mark = fmt.Sprint(at + 1)
		}
		fmt.Fprintf(&b, "%3s  %s\n", mark, o)
	}
	return fmt.Sprintf("no order explains\n%sThe longest that could be is numbered, and leaves the model at\n%s", &b, s.at)
}

type search struct {
	history
	done  []bool
	seen  map[string]bool // what is done, and where the model is then, that leads nowhere
	steps int

	order, best []int
	at          string // where the model is after best
}

// from goes on behind what is done, of which all before first is.
func (s *search) from(first int, l *life) bool {
	for first < len(s.done) && s.done[first] {
		first++
	}
	if first == len(s.done) {
		return true
	}
	key := s.place(first, l)
	if s.seen[key] {
		return false
	}
	s.seen[key] = true
	if len(s.order) >= len(s.best) {
		s.best, s.at = slices.Clone(s.order), l.String()
	}
	least := int64(math.MaxInt64) // an answer: who asked later comes later
	for i := first; i < len(s.done) && s.history[i].asked <= least; i++ {
		if s.done[i] {
			continue
		}
		o := s.history[i]
		least = min(least, o.answered)
		s.done[i] = true
		s.order = append(s.order, i)
		s.steps++
		if next := l.clone(); o.do(next) && s.from(first, next) {
			return true
		}
		s.order = s.order[:len(s.order)-1]
		if o.unsure && s.from(first, l) {
			return true
		}
		s.done[i] = false
	}
	return false
}

func (s *search) place(first int, l *life) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", first)
	for i := first; i < len(s.done); i++ {
		if s.done[i] {
			fmt.Fprintf(&b, " %d", i)
		}
	}
	return b.String() + "\n" + l.String()
}

// life is the model with the names that a store has given.
type life struct {
	model   *model
	ids     []int64 // of the model's tasks
	workers map[string]*modelWorker
}

func newLife() *life { return &life{model: newModel(), workers: map[string]*modelWorker{}} }

func (l *life) clone() *life {
	c := &life{model: newModel(), ids: slices.Clone(l.ids), workers: make(map[string]*modelWorker, len(l.workers))}
	c.model.clock, c.model.tags = l.model.clock, maps.Clone(l.model.tags)
	for id, w := range l.workers {
		worker := *w
		c.workers[id] = &worker
	}
	for _, t := range l.model.tasks {
		task := *t
		task.errors = slices.Clone(t.errors)
		if t.claim != nil {
			claim := *t.claim
			claim.task, claim.worker = &task, c.worker(claim.worker.id)
			task.claim = &claim
		}
		c.model.tasks = append(c.model.tasks, &task)
	}
	return c
}

// String is all that can make a difference later.
func (l *life) String() string {
	var b strings.Builder
	for i, t := range l.model.tasks {
		fmt.Fprintf(&b, "task %d: %s", l.ids[i], t.state())
		if t.claim != nil {
			fmt.Fprintf(&b, ", token %d of worker %.8s", t.claim.token, t.claim.worker.id)
		}
		fmt.Fprintf(&b, ", later %t, cancel asked for %t\n", t.due == modelNever, t.cancelRequested)
	}
	fmt.Fprintf(&b, "tags %v, dead", l.model.tags)
	for _, id := range slices.Sorted(maps.Keys(l.workers)) {
		if l.workers[id].dead {
			fmt.Fprintf(&b, " %.8s", id)
		}
	}
	return b.String()
}

func (l *life) worker(id string) *modelWorker {
	if l.workers[id] == nil {
		l.workers[id] = &modelWorker{id: id}
	}
	return l.workers[id]
}

// task is nil before it is enqueued.
func (l *life) task(id int64) *modelTask {
	if i := slices.Index(l.ids, id); i >= 0 {
		return l.model.tasks[i]
	}
	return nil
}

// held is the claim of a token, nil when that is lost.
func (l *life) held(id, token int64) *modelClaim {
	if t := l.task(id); t != nil && t.claim != nil && t.claim.token == token {
		return t.claim
	}
	return nil
}

func enqueuedTask(id int64, t modelTask, whileLive bool) operation {
	text := fmt.Sprintf("enqueue: task %d, at most %d attempts, tag %q, while live %t, later %t", id, t.max, t.tag, whileLive, t.due == modelNever)
	return operation{text: text, do: func(l *life) bool {
		if l.model.enqueue(t, whileLive) != 0 {
			return false
		}
		l.ids = append(l.ids, id)
		return true
	}}
}

func heldTag(tag string, holder int64) operation {
	return operation{text: fmt.Sprintf("enqueue: tag %q is held by task %d", tag, holder), do: func(l *life) bool {
		held, ok := l.model.tags[tag]
		return ok && l.ids[held.task-1] == holder
	}}
}

func claimedOne(id, token int64, attempt int, worker string) operation {
	return operation{text: fmt.Sprintf("claim: task %d, attempt %d, token %d, worker %.8s", id, attempt, token, worker), do: func(l *life) bool {
		t := l.task(id)
		if t == nil || !t.ready() {
			return false
		}
		claim := l.model.take(t, l.worker(worker))
		claim.token = token
		return claim.attempt == attempt
	}}
}

// finished is the end of an attempt; hookMessage is what its failed hook leaves.
func finished(id, token int64, how outcome, message, hookMessage string, later, lost bool) operation {
	answer := "done"
	if lost {
		answer = "lost"
	}
	return operation{text: fmt.Sprintf("%s: task %d, token %d, later %t: %s", how, id, token, later, answer), do: func(l *life) bool {
		claim := l.held(id, token)
		if lost || claim == nil {
			return lost == (claim == nil)
		}
		l.model.finish(claim, how, message, later)
		if hookMessage != "" {
			claim.task.errors = append(claim.task.errors, hookMessage)
		}
		return true
	}}
}

func answerOf(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

func cancelled(id int64, answer error) operation {
	return operation{text: fmt.Sprintf("cancel: task %d: %s", id, answerOf(answer)), do: func(l *life) bool {
		t := l.task(id)
		return t != nil && errors.Is(answer, l.model.cancel(t))
	}}
}

func retried(id int64, answer error) operation {
	return operation{text: fmt.Sprintf("retry: task %d: %s", id, answerOf(answer)), do: func(l *life) bool {
		t := l.task(id)
		if t == nil {
			return false
		}
		holder, want := l.model.retry(t)
		var exists *TaskExistsError
		if holder != 0 && (!errors.As(answer, &exists) || exists.ID != l.ids[holder-1]) {
			return false
		}
		return errors.Is(answer, want)
	}}
}

func releasedTag(tag string) operation {
	return operation{text: fmt.Sprintf("release tag %q", tag), do: func(l *life) bool {
		delete(l.model.tags, tag)
		return true
	}}
}

func died(worker string) operation {
	return operation{text: fmt.Sprintf("the lease of worker %.8s is over", worker), do: func(l *life) bool {
		l.worker(worker).dead = true
		return true
	}}
}

// beaten is a heartbeat, which answers whether a task of that worker is to be cancelled.
func beaten(worker string, id int64, cancel bool) operation {
	return operation{text: fmt.Sprintf("heartbeat of worker %.8s: cancel task %d %t", worker, id, cancel), do: func(l *life) bool {
		t := l.task(id)
		return cancel == (t != nil && t.claim != nil && t.claim.worker.id == worker && t.cancelRequested)
	}}
}

// lookedForDead may have taken a task back that has attempts left, or was to be cancelled.
func lookedForDead(id int64) operation {
	return operation{text: fmt.Sprintf("take back: task %d", id), unsure: true, do: func(l *life) bool {
		t := l.task(id)
		if t == nil {
			return false
		}
		taken, _ := l.model.takeOneBack(t, nil, nil, l.model.tick())
		return taken
	}}
}

// retaken has an exhausted task.
func retaken(id, token int64, attempt int, worker string) operation {
	return operation{text: fmt.Sprintf("take back: exhausted task %d, attempt %d, token %d, worker %.8s", id, attempt, token, worker), do: func(l *life) bool {
		t := l.task(id)
		if t == nil {
			return false
		}
		_, claim := l.model.takeOneBack(t, l.worker(worker), []string{t.name}, 0)
		if claim == nil {
			return false
		}
		claim.token = token
		return claim.attempt == attempt
	}}
}

func read(id int64, status Status, attempts int) operation {
	return operation{text: fmt.Sprintf("read: task %d is %s, attempt %d", id, status, attempts), do: func(l *life) bool {
		t := l.task(id)
		return t != nil && t.status == status && t.attempts == attempts
	}}
}

// lastRead is a read of everything that can be read of a task, nil when it is not there.
func lastRead(id int64, info *TaskInfo) operation {
	text := fmt.Sprintf("in the end: task %d is not there", id)
	if info != nil {
		text = "in the end: " + stateOfInfo(int(id), info)
	}
	return operation{text: text, do: func(l *life) bool {
		t := l.task(id)
		return t != nil && info != nil && t.state() == stateOfInfo(t.number, info)
	}}
}
