//go:build unix

package chaos

import (
	"fmt"
	"slices"
	"sort"
)

// violation is a promise that was not kept.
type violation struct {
	check string // I1 to I10
	text  string
}

func (v violation) String() string { return v.check + ": " + v.text }

// verdict collects violations.
type verdict struct{ violations []violation }

func (v *verdict) add(check, format string, args ...any) {
	v.violations = append(v.violations, violation{check, fmt.Sprintf(format, args...)})
}

// answer is what an enqueuer was told.
type answer int

const (
	acknowledged answer = iota
	refused             // it was told that nothing was written
	unknown
)

// enqueued is an entry of the enqueuer's own log.
type enqueued struct {
	key    string
	deed   Deed
	id     int64 // 0 unless acknowledged
	answer answer
	// bySQL tasks were stored without the library; their keys may not be readable.
	bySQL bool
	// open tasks may end as completed or failed: the fault may use up their attempts.
	open bool
}

// checkTasks holds the history of every task against the promises I1 to I5.
func (v *verdict) checkTasks(h *history, log []enqueued) {
	ids := make([]int64, 0, len(h.tasks))
	for id := range h.tasks {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	byKey := map[string][]int64{}
	for _, id := range ids {
		v.checkLife(id, h.tasks[id])
		byKey[h.keys[id]] = append(byKey[h.keys[id]], id)
	}
	known := make(map[string]enqueued, len(log))
	strangers := map[int64]enqueued{}
	for _, e := range log {
		if e.bySQL {
			strangers[e.id] = e
			continue
		}
		known[e.key] = e
		switch found := byKey[e.key]; {
		case len(found) > 1:
			v.add("I1", "key %s was enqueued once and is there %d times", e.key, len(found))
		case e.answer == acknowledged && (len(found) == 0 || found[0] != e.id):
			v.add("I1", "task %d was acknowledged, and there is %v of its key", e.id, found)
		case e.answer == refused && len(found) == 1:
			v.add("I1", "task %d is there although its enqueue was refused", found[0])
		}
	}
	for _, id := range ids {
		e, ok := strangers[id]
		if !ok {
			e, ok = known[h.keys[id]]
		}
		if !ok {
			if h.keys[id] != tickKey {
				v.add("I1", "task %d is there, which nobody enqueued", id)
			}
			e = enqueued{deed: h.deeds[id]}
		}
		v.checkEnd(id, h, e)
	}
	for id, effects := range h.effects {
		if _, ok := h.tasks[id]; !ok {
			v.add("I2", "%d effects of task %d, which is not there", len(effects), id)
		}
	}
}

// checkEnd compares a task's end with what its handler and hook wrote.
func (v *verdict) checkEnd(id int64, h *history, e enqueued) {
	last := h.tasks[id][len(h.tasks[id])-1]
	may := outcomes[e.deed]
	if last.status == "pending" || last.status == "running" {
		v.add("I8", "task %d is not final: %v", id, last)
		return
	}
	if want := may.statuses; !slices.Contains(want, last.status) && !(e.open && last.status == "failed") && last.status != "cancelled" {
		v.add("I1", "task %d (%s) has ended %s after %d attempts, want %v", id, e.deed, last.status, last.attempts, want)
	}
	effects, hooks := h.effects[id], h.hooks[id]
	switch wanted := last.status == "completed" && may.effect; {
	case !wanted && len(effects) > 0:
		v.add("I2", "task %d (%s) is %s and has %d effects, want none", id, e.deed, last.status, len(effects))
	case wanted && len(effects) != 1:
		v.add("I2", "task %d (%s) is %s and has %d effects, want one", id, e.deed, last.status, len(effects))
	case wanted && effects[0].xid != last.xid:
		v.add("I2", "task %d: its effect was committed by another transaction than its completion", id)
	case wanted && effects[0].attempt != last.attempts:
		v.add("I2", "task %d: attempt %d has completed it in the hands of attempt %d", id, effects[0].attempt, last.attempts)
	}
	switch wanted := last.status == "failed" && may.hooks; {
	case !wanted && len(hooks) > 0:
		v.add("I3", "task %d (%s) is %s and its hook has written %d times, want none", id, e.deed, last.status, len(hooks))
	case wanted && len(hooks) != 1:
		v.add("I3", "task %d (%s) is %s and its hook has written %d times, want once", id, e.deed, last.status, len(hooks))
	case wanted && hooks[0].xid != last.xid:
		v.add("I3", "task %d: its hook's writes were committed by another transaction than its failure", id)
	}
}

// checkLife replays the changes of one task.
func (v *verdict) checkLife(id int64, changes []change) {
	attempts, tokens, owner := 0, map[int64]bool{}, ""
	for i, c := range changes {
		if c.deleted {
			v.add("I1", "task %d was deleted when it was %v", id, c)
			return
		}
		if i == 0 {
			if c.status != "pending" || c.attempts != 0 || c.token != 0 {
				v.add("I5", "task %d began as %v", id, c)
			}
			continue
		}
		before := changes[i-1]
		step := stepOf(before, c)
		switch step {
		case "":
			v.add("I5", "task %d went from %v to %v", id, before, c)
			return
		case "claim":
			attempts++
			owner = c.app
			if tokens[c.token] {
				v.add("I4", "task %d was claimed twice with one token", id)
			}
			tokens[c.token] = true
		case "release":
			if attempts--; c.source == takeBackSource {
				v.add("I4", "task %d was taken back as if attempt %d had not been", id, before.attempts)
			}
			fallthrough
		case "complete", "end", "return":
			if c.source != takeBackSource && c.app != owner {
				v.add("I2", "task %d is %v, but the attempt was in the hands of %s", id, c, owner)
			}
		case "retake":
			owner = c.app
			if tokens[c.token] {
				v.add("I4", "task %d was taken back with a token that it had before", id)
			}
			tokens[c.token] = true
		}
		if c.attempts != attempts {
			v.add("I4", "task %d has %d attempts on record and %d claims: %v", id, c.attempts, attempts, c)
			return
		}
		if c.maxAttempts != -1 && c.attempts > c.maxAttempts {
			v.add("I4", "task %d has had %d attempts of at most %d", id, c.attempts, c.maxAttempts)
		}
	}
}

// stepOf names the transition of the model that leads from one state of a task to another, "" when there is none.
func stepOf(from, to change) string {
	sameClaim := to.token == from.token
	switch from.status + " " + to.status {
	case "pending running":
		if to.slot == 0 && to.token != 0 && to.worker != "" && to.attempts == from.attempts+1 {
			return "claim"
		}
	case "pending cancelled":
		if to.slot == -1 && to.attempts == from.attempts {
			return "cancel"
		}
	case "running completed":
		if to.slot > 0 && sameClaim && to.attempts == from.attempts {
			return "complete"
		}
	case "running failed", "running cancelled":
		switch {
		case to.slot != -1 || !sameClaim:
		case to.attempts == from.attempts:
			return "end"
		case to.attempts == from.attempts-1 && to.status == "cancelled":
			return "release"
		}
	case "running pending":
		switch {
		case to.slot != 0 || to.token != 0 || to.worker != "":
		case to.attempts == from.attempts:
			return "return"
		case to.attempts == from.attempts-1:
			return "release"
		}
	case "running running":
		switch {
		case to.slot != 0 || to.attempts != from.attempts:
		case sameClaim:
			return "mark" // a cancel was asked for, or it was left without a worker
		case to.maxAttempts != -1 && to.attempts >= to.maxAttempts && to.worker != "":
			return "retake"
		}
	}
	return ""
}

// checkTags holds that two tasks of one tag never live at a time (I6). A task lives from its first change to its last.
// Changes of one transaction happen together.
func (v *verdict) checkTags(h *history) {
	type life struct {
		task     int64
		from, to change
		ended    bool
	}
	lives := map[string][]life{}
	for id, changes := range h.tasks {
		first, last := changes[0], changes[len(changes)-1]
		if first.tag == "" {
			continue
		}
		ended := last.status != "pending" && last.status != "running"
		lives[first.tag] = append(lives[first.tag], life{id, first, last, ended})
	}
	for tag, all := range lives {
		sort.Slice(all, func(i, j int) bool { return all[i].from.seq < all[j].from.seq })
		for i := 1; i < len(all); i++ {
			earlier, later := all[i-1], all[i]
			if !earlier.ended || earlier.to.seq > later.from.seq && earlier.to.xid != later.from.xid {
				v.add("I6", "tasks %d and %d of tag %s lived at one time", earlier.task, later.task, tag)
			}
		}
	}
}

// checkStarts holds that these tasks, whose starts were noted, were charged an attempt for each start, and none else.
func (v *verdict) checkStarts(h *history, ids []int64) {
	for _, id := range ids {
		changes, seen := h.tasks[id], map[int]bool{}
		for _, n := range h.starts[id] {
			if seen[n] {
				v.add("I4", "attempt %d of task %d started twice", n, id)
			}
			seen[n] = true
		}
		if attempts := changes[len(changes)-1].attempts; attempts != len(seen) {
			v.add("I4", "task %d was charged %d attempts and started %d times", id, attempts, len(seen))
		}
	}
}
