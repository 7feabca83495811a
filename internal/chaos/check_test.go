//go:build unix

package chaos

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lifeOf is a history of one task of key "k", id 1.
func lifeOf(deed Deed, changes ...change) *history {
	for i := range changes {
		changes[i].seq, changes[i].maxAttempts = int64(i+1), 3
		if changes[i].xid == 0 {
			changes[i].xid = uint64(i + 1)
		}
	}
	return &history{
		tasks: map[int64][]change{1: changes}, keys: map[int64]string{1: "k"}, deeds: map[int64]Deed{1: deed},
		effects: map[int64][]written{}, hooks: map[int64][]written{}, starts: map[int64][]int{},
	}
}

var (
	waits   = change{status: "pending"}
	first   = change{status: "running", attempts: 1, token: 7, worker: "w", app: "worker 1"}
	second  = change{status: "running", attempts: 2, token: 8, worker: "v", app: "worker 2"}
	back    = change{status: "pending", attempts: 1, source: takeBackSource, app: "worker 2"}
	done    = change{status: "completed", slot: 3, attempts: 1, token: 7, worker: "w", app: "worker 1"}
	failed  = change{status: "failed", slot: -1, attempts: 1, token: 7, worker: "w", app: "worker 1"}
	effect  = written{task: 1, attempt: 1, key: "k", xid: 3}
	release = change{status: "pending", attempts: 0, app: "worker 1"}
)

func TestCheckerOfHistories(t *testing.T) {
	t.Parallel()
	ok := []enqueued{{key: "k", deed: Write, id: 1}}
	for name, test := range map[string]struct {
		h      *history
		log    []enqueued
		change func(h *history)
		want   []string // the checks that find something
	}{
		"completed with its effect":         {h: lifeOf(Write, waits, first, done), log: ok, change: func(h *history) { h.effects[1] = []written{effect} }},
		"given back, then completed":        {h: lifeOf(Write, waits, first, release, first2(), done2()), log: ok, change: func(h *history) { e := effect; e.xid = 5; h.effects[1] = []written{e} }},
		"no effect":                         {h: lifeOf(Write, waits, first, done), log: ok, want: []string{"I2"}},
		"two effects":                       {h: lifeOf(Write, waits, first, done), log: ok, change: func(h *history) { h.effects[1] = []written{effect, effect} }, want: []string{"I2"}},
		"an effect of another transaction":  {h: lifeOf(Write, waits, first, done), log: ok, change: func(h *history) { e := effect; e.xid = 2; h.effects[1] = []written{e} }, want: []string{"I2"}},
		"an effect of another attempt":      {h: lifeOf(Write, waits, first, done), log: ok, change: func(h *history) { e := effect; e.attempt = 2; h.effects[1] = []written{e} }, want: []string{"I2"}},
		"failed without its hook":           {h: lifeOf(Fail, waits, first, failed), log: []enqueued{{key: "k", deed: Fail, id: 1}}, want: []string{"I3"}},
		"a hook outside of the transaction": {h: lifeOf(Fail, waits, first, failed), log: []enqueued{{key: "k", deed: Fail, id: 1}}, change: func(h *history) { h.hooks[1] = []written{{xid: 9}} }, want: []string{"I3"}},
		"acknowledged and not there":        {h: lifeOf(NoOp, waits, first, done), log: []enqueued{{key: "k", deed: NoOp, id: 1}, {key: "l", deed: NoOp, id: 2}}, want: []string{"I1"}},
		"refused and there":                 {h: lifeOf(NoOp, waits, first, done), log: []enqueued{{key: "k", deed: NoOp, answer: refused}}, want: []string{"I1"}},
		"unknown and there":                 {h: lifeOf(NoOp, waits, first, done), log: []enqueued{{key: "k", deed: NoOp, answer: unknown}}},
		"nobody enqueued it":                {h: lifeOf(NoOp, waits, first, done), want: []string{"I1"}},
		"still running":                     {h: lifeOf(NoOp, waits, first), log: ok, want: []string{"I8"}},
		"claimed without counting":          {h: lifeOf(NoOp, waits, change{status: "running", token: 7, worker: "w"}), log: ok, want: []string{"I5", "I8"}},
		"claimed twice with one token":      {h: lifeOf(NoOp, waits, first, back, change{status: "running", attempts: 2, token: 7, worker: "v"}), log: ok, want: []string{"I4", "I8"}},
		"completed by another process":      {h: lifeOf(NoOp, waits, first, back, second, change{status: "completed", slot: 3, attempts: 2, token: 8, worker: "v", app: "worker 1"}), log: []enqueued{{key: "k", deed: NoOp, id: 1}}, want: []string{"I2"}},
		"final, and then not":               {h: lifeOf(NoOp, waits, first, done, back), log: ok, want: []string{"I5", "I8"}},
		"more attempts than allowed":        {h: lifeOf(NoOp, waits, first, back, second, back2(2), third(3), back2(3), third(4)), log: ok, want: []string{"I4", "I8"}},
		"deleted":                           {h: lifeOf(NoOp, waits, change{status: "pending", deleted: true}), log: ok, want: []string{"I1", "I8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.change != nil {
				test.change(test.h)
			}
			var v verdict
			v.checkTasks(test.h, test.log)
			if diff := cmp.Diff(test.want, checksOf(v)); diff != "" {
				t.Errorf("checks that found something (-want +got):\n%s\n%v", diff, v.violations)
			}
		})
	}
}

func first2() change { c := first; c.token = 9; return c }
func done2() change  { c := done; c.token = 9; return c }

func back2(attempts int) change { c := back; c.attempts = attempts; return c }
func third(attempts int) change {
	return change{status: "running", attempts: attempts, token: int64(100 + attempts), worker: "w", app: "worker 1"}
}

// checksOf are the checks that found something, each once, in order.
func checksOf(v verdict) []string {
	var checks []string
	for _, check := range []string{"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10"} {
		for _, found := range v.violations {
			if found.check == check {
				checks = append(checks, check)
				break
			}
		}
	}
	return checks
}

func TestCheckerOfTags(t *testing.T) {
	t.Parallel()
	life := func(from, to int64, xids ...uint64) []change {
		return []change{{seq: from, xid: xids[0], tag: "t", status: "pending"}, {seq: to, xid: xids[1], tag: "t", status: "completed"}}
	}
	for name, test := range map[string]struct {
		first, second []change
		want          []string
	}{
		"one after the other":     {life(1, 2, 1, 2), life(3, 4, 3, 4), nil},
		"at one time":             {life(1, 3, 1, 3), life(2, 4, 2, 4), []string{"I6"}},
		"the second by the first": {life(1, 3, 1, 7), life(2, 4, 7, 8), nil},
		"the first has not ended": {life(1, 2, 1, 2)[:1], life(3, 4, 3, 4), []string{"I6"}},
	} {
		var v verdict
		v.checkTags(&history{tasks: map[int64][]change{1: test.first, 2: test.second}})
		if diff := cmp.Diff(test.want, checksOf(v)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
