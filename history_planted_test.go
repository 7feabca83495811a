package anchor

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// inTurn are operations of which each is asked when the one before was answered.
func inTurn(operations ...operation) history {
	for i := range operations {
		operations[i].asked, operations[i].answered = int64(2*i+1), int64(2*i+2)
	}
	return operations
}

// atOnce asks all operations from a place on before any of them is answered.
func atOnce(from int, h history) history {
	for i := range h[from:] {
		h[from+i].asked, h[from+i].answered = int64(2*from+1+i), int64(2*from+1+i+len(h))
	}
	return h
}

// Operations on task 7, which has three attempts.
var (
	new7      = enqueuedTask(7, modelTask{name: "a", queue: "q", max: 3}, false)
	first7    = claimedOne(7, 100, 1, "w")
	second7   = claimedOne(7, 200, 2, "v")
	completed = func(token int64, lost bool) operation {
		return finished(7, token, outcomeCompleted, "", "", false, lost)
	}
	retryNow = func(token int64, lost bool) operation {
		return finished(7, token, outcomeRetried, "no", "", false, lost)
	}
	givenBack  = func(token int64) operation { return finished(7, token, outcomeReleased, "", "", false, false) }
	taggedTask = func(id int64) operation {
		return enqueuedTask(id, modelTask{name: "a", queue: "q", max: 3, tag: "t"}, true)
	}
)

func TestHistoriesThatCanBe(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]history{
		"a life":                         inTurn(new7, first7, retryNow(100, false), second7, completed(200, false), read(7, StatusCompleted, 2)),
		"one of two ends at once":        atOnce(2, inTurn(new7, first7, completed(100, true), retryNow(100, false))),
		"claimed before it was answered": atOnce(0, inTurn(first7, new7)),
		"a cancel that came too late":    atOnce(2, inTurn(new7, first7, cancelled(7, nil), completed(100, false))),
		"a cancel that wins":             inTurn(new7, first7, cancelled(7, nil), beaten("w", 7, true), retryNow(100, false), read(7, StatusCancelled, 1)),
		"taken back, perhaps":            inTurn(new7, first7, died("w"), lookedForDead(7), second7, completed(100, true)),
		"not taken back, perhaps":        inTurn(new7, first7, died("w"), lookedForDead(7), completed(100, false)),
		"given back":                     inTurn(new7, first7, givenBack(100), claimedOne(7, 300, 1, "v")),
		"a tag that moves on":            atOnce(2, inTurn(taggedTask(1), heldTag("t", 1), cancelled(1, nil), heldTag("t", 1), taggedTask(2))),
		"nothing, perhaps":               inTurn(new7, first7, unsure(completed(100, false)), retryNow(100, false)),
		"something, perhaps":             inTurn(new7, first7, unsure(completed(100, false)), read(7, StatusCompleted, 1)),
	} {
		if verdict := h.verdict(); verdict != "" {
			t.Errorf("%s: %s", name, verdict)
		}
	}
}

func unsure(o operation) operation { o.unsure = true; return o }

func TestHistoriesThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]history{
		"two completions":                    inTurn(new7, first7, completed(100, false), completed(100, false)),
		"two completions at once":            atOnce(2, inTurn(new7, first7, completed(100, false), completed(100, false))),
		"a stale token is accepted":          inTurn(new7, first7, retryNow(100, false), second7, completed(100, false)),
		"a stale token is accepted at once":  atOnce(3, inTurn(new7, first7, retryNow(100, false), second7, completed(100, false), completed(200, false))),
		"a good token is refused":            inTurn(new7, first7, completed(100, true)),
		"a lost cancel":                      inTurn(new7, first7, cancelled(7, nil), retryNow(100, false), second7),
		"a lost cancel at once":              atOnce(2, inTurn(new7, first7, retryNow(100, false), cancelled(7, nil), second7, completed(200, false), read(7, StatusPending, 2))),
		"a lost cancel of a pending one":     inTurn(new7, cancelled(7, nil), first7),
		"a cancel that no heartbeat told":    inTurn(new7, first7, cancelled(7, nil), beaten("w", 7, false)),
		"a cancel that nobody asked for":     inTurn(new7, first7, beaten("w", 7, true)),
		"cancelled when it was final":        inTurn(new7, first7, completed(100, false), cancelled(7, nil)),
		"a claim after the end":              inTurn(new7, first7, completed(100, false), second7),
		"a claim of what is held":            inTurn(new7, first7, second7),
		"two claims at once":                 atOnce(1, inTurn(new7, first7, claimedOne(7, 200, 1, "v"))),
		"an attempt that is counted twice":   inTurn(new7, claimedOne(7, 100, 2, "w")),
		"an attempt that is not counted":     inTurn(new7, first7, retryNow(100, false), claimedOne(7, 200, 1, "v")),
		"given back and counted":             inTurn(new7, first7, givenBack(100), second7),
		"taken back from the living":         inTurn(new7, first7, lookedForDead(7), second7),
		"taken back before the attempts end": inTurn(new7, first7, died("w"), retaken(7, 300, 1, "v")),
		"retried when it was completed":      inTurn(new7, first7, completed(100, false), retried(7, nil)),
		"claimed before it was enqueued":     inTurn(first7, new7),
		"claimed before its time":            inTurn(new7, first7, finished(7, 100, outcomeRetried, "no", "", true, false), second7),
		"a stale read":                       inTurn(new7, first7, completed(100, false), read(7, StatusRunning, 1)),
		"an error that is lost":              inTurn(new7, first7, retryNow(100, false), lastRead(7, &TaskInfo{Name: "a", Queue: "q", Status: StatusPending, Attempts: 1, MaxAttempts: 3})),
		"a task that is lost":                inTurn(new7, lastRead(7, nil)),
		"a task that nobody enqueued":        inTurn(lastRead(7, &TaskInfo{Name: "a", Queue: "q", Status: StatusPending, MaxAttempts: 3})),
		"two live tasks of a tag":            inTurn(taggedTask(1), taggedTask(2)),
		"two live tasks of a tag at once":    atOnce(0, inTurn(taggedTask(1), taggedTask(2))),
		"a tag that stays held":              inTurn(taggedTask(1), cancelled(1, nil), heldTag("t", 1)),
	} {
		if h.verdict() == "" {
			t.Errorf("%s: an order was found that explains\n%s", name, h)
		}
	}
}

// TestSearchFindsWhatTryingEveryOrderFinds compares the search with one that is too simple to be wrong.
func TestSearchFindsWhatTryingEveryOrderFinds(t *testing.T) {
	t.Parallel()
	verdicts := map[bool]int{}
	rapid.Check(t, func(rt *rapid.T) {
		from := func(operations ...operation) operation { return rapid.SampledFrom(operations).Draw(rt, "operation") }
		h := inTurn(new7, first7)
		for range rapid.IntRange(1, 5).Draw(rt, "more") {
			h = append(h, from(completed(100, false), completed(100, true), retryNow(100, false), retryNow(100, true), second7, completed(200, false),
				givenBack(100), cancelled(7, nil), cancelled(7, ErrTaskNotCancellable), retried(7, nil), claimedOne(7, 300, 1, "w"), died("w"),
				lookedForDead(7), read(7, StatusPending, 1), read(7, StatusCompleted, 1), beaten("w", 7, true), unsure(retryNow(100, false))))
		}
		for i := range h {
			h[i].asked = int64(rapid.IntRange(0, 20).Draw(rt, "asked")*10 + i)
			h[i].answered = h[i].asked + int64(rapid.IntRange(1, 90).Draw(rt, "takes"))
		}
		want, verdict := anyOrder(h, newLife()), h.verdict()
		if verdicts[want]++; want != (verdict == "") {
			rt.Fatalf("possible %t, but: %s\n%s", want, verdict, h)
		}
	})
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Errorf("the histories were possible %d times and impossible %d times, want both", verdicts[true], verdicts[false])
	}
}

// anyOrder tries every order of what is left.
func anyOrder(left history, l *life) bool {
	if len(left) == 0 {
		return true
	}
	for i, o := range left {
		if slices.ContainsFunc(left, func(other operation) bool { return other.answered < o.asked }) {
			continue
		}
		others := slices.Concat(left[:i], left[i+1:])
		if next := l.clone(); o.do(next) && anyOrder(others, next) || o.unsure && anyOrder(others, l) {
			return true
		}
	}
	return false
}

// TestHistoryWithoutOverlapsIsOnePass counts the steps of the search.
func TestHistoryWithoutOverlapsIsOnePass(t *testing.T) {
	t.Parallel()
	h := history{new7}
	for i := range 100 {
		token := int64(1000 + i)
		h = append(h, claimedOne(7, token, 1, "w"), givenBack(token))
	}
	h = inTurn(h...)
	s := search{history: h, done: make([]bool, len(h)), seen: map[string]bool{}}
	if !s.from(0, newLife()) || s.steps != len(h) {
		t.Errorf("%d steps for %d operations, explained %t", s.steps, len(h), len(s.order) == len(h))
	}
}

// TestVerdictDoesNotDependOnTheOrderOfWriting: operations are noted by several goroutines.
func TestVerdictDoesNotDependOnTheOrderOfWriting(t *testing.T) {
	t.Parallel()
	for range 20 {
		h := inTurn(new7, first7, retryNow(100, false), second7, completed(200, false))
		rand.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
		if verdict := h.verdict(); verdict != "" {
			t.Error(verdict)
		}
	}
}
