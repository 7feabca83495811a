package anchor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// historySeedVariable repeats what each goroutine of one round does. When it does it is the scheduler's.
const historySeedVariable = "ANCHOR_HISTORY_SEED"

const (
	historyCallers = 4
	historyCalls   = 10 // of each
)

// TestConcurrentHistoriesAreThoseOfTheModel has several goroutines do what they like to a few tasks at a time, and holds
// the history of each task against the model.
func TestConcurrentHistoriesAreThoseOfTheModel(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		checkHistories(t, 150, func(seed uint64) []string {
			return newHistoryRound(t, NewMemoryStore(), nil, seed).run(t)
		})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		rig := newPG(t)
		store := pgApart{rig.store, NewPGStore(rig.newPool(8))}
		var sessions []*historySession
		checkHistories(t, 40, func(seed uint64) []string {
			for _, table := range []string{"tasks", "unique_tags", "task_errors", "workers"} {
				rig.exec("delete from anchor_" + table)
			}
			round := newHistoryRound(t, store, sessions, seed)
			sessions = round.sessions
			return round.run(t)
		})
	})
}

// checkHistories does rounds of new seeds, or the one of a seed that is given.
func checkHistories(t *testing.T, rounds int, round func(seed uint64) []string) {
	t.Helper()
	first := rand.Uint64()
	if text := os.Getenv(historySeedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		must(t, err)
		first = seed
	}
	for i := range rounds {
		seed := first + uint64(i)
		if failures := round(seed); len(failures) > 0 {
			t.Fatalf("round %d, again with %s=%d:\n%s", i+1, historySeedVariable, seed, strings.Join(failures, "\n\n"))
		}
	}
}

// TestBrokenStoresHaveImpossibleHistories: each mistake shows in one of some rounds.
func TestBrokenStoresHaveImpossibleHistories(t *testing.T) {
	t.Parallel()
	broken := BrokenStores()
	stores := map[string]func() Store{
		"ends by id alone": func() Store {
			return inSession(func(s session) session { return endsByID{s, s.(*memorySession).store.tokenOf, false} })
		},
		"looks first, and ends by id": func() Store {
			return inSession(func(s session) session { return endsByID{s, s.(*memorySession).store.tokenOf, true} })
		},
		"looks first, and cancels": func() Store { return cancelsLate{NewMemoryStore()} },
	}
	for _, name := range []string{"forgets unique tags", "no guard by the claim", "retries at once", "hook of its own", "claims again", "drops errors"} {
		stores[name] = broken[name]
	}
	for name, store := range stores {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2000) {
				if failures := newHistoryRound(t, store(), nil, seed).run(t); len(failures) > 0 {
					t.Logf("found in round %d:\n%s", seed+1, failures[0])
					return
				}
			}
			t.Error("every history has an explanation")
		})
	}
	t.Run("postgres,_ends_by_id_alone", func(t *testing.T) {
		t.Parallel()
		rig := newPG(t)
		store := pgEndsByID{pgApart{rig.store, NewPGStore(rig.newPool(8))}}
		var sessions []*historySession
		for seed := range uint64(200) {
			round := newHistoryRound(t, store, sessions, seed)
			sessions = round.sessions
			if failures := round.run(t); len(failures) > 0 {
				t.Logf("found in round %d:\n%s", seed+1, failures[0])
				return
			}
		}
		t.Error("every history has an explanation")
	})
}

// endsByID ends whatever attempt is under way, whoever asks; if it looks, only when the caller's is when it looks.
type endsByID struct {
	session
	tokenOf func(id int64) int64
	looks   bool
}

func (s endsByID) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	for i, f := range batch {
		current := s.tokenOf(f.task.id)
		if s.looks && current != f.task.token {
			continue
		}
		if s.looks {
			runtime.Gosched() // others are let in
			current = s.tokenOf(f.task.id)
		}
		// Not a copy: it counts, by an atomic, what others may be settling.
		batch[i].task = &claimedTask{
			id: f.task.id, token: current, name: f.task.name, queue: f.task.queue, priority: f.task.priority,
			attempt: f.task.attempt, maxAttempts: f.task.maxAttempts, tag: f.task.tag, workerID: f.task.workerID,
		}
	}
	return s.session.finish(ctx, batch)
}

type pgEndsByID struct{ pgApart }

func (s pgEndsByID) openSession(ctx context.Context, w workerRecord) (session, error) {
	opened, err := s.pgApart.openSession(ctx, w)
	return endsByID{opened, func(id int64) (token int64) {
		_ = s.pool.QueryRow(ctx, "select coalesce(claim_token, 0) from anchor_tasks where id = $1", id).Scan(&token)
		return token
	}, false}, err
}

// pgApart gives the attempts' transactions connections apart: those of dead workers are ended, even if their transaction
// has just ended by itself.
type pgApart struct {
	*PGStore
	attempts *PGStore
}

func (s pgApart) Begin(ctx context.Context) (pgx.Tx, error) { return s.pool.Begin(ctx) }

func (s pgApart) openSession(ctx context.Context, w workerRecord) (session, error) {
	return s.attempts.openSession(ctx, w)
}

func (s *MemoryStore) tokenOf(id int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index.find(id); t != nil {
		return t.token
	}
	return 0
}

// cancelsLate thinks that what was running a moment ago is told so by its worker.
type cancelsLate struct{ *MemoryStore }

func (s cancelsLate) cancel(ctx context.Context, tx pgx.Tx, id int64) error {
	info, err := s.task(ctx, id)
	if err != nil || info.Status != StatusRunning {
		return s.MemoryStore.cancel(ctx, tx, id)
	}
	runtime.Gosched()
	_ = s.MemoryStore.cancel(ctx, tx, id)
	return nil
}

// historyRound is a store, those who use it, and what they were told.
type historyRound struct {
	store    Store
	sessions []*historySession
	seed     uint64
	clock    atomic.Int64

	mu     sync.Mutex
	notes  []historyNote
	tasks  []historyTask
	claims []historyClaim
	inTx   map[int64]bool // the tokens with which a transaction completes or has completed
}

// historySession is a session, each method of which is for one goroutine at a time.
type historySession struct {
	session
	id                              string // of its worker, guarded by beating
	claiming, finishing, beating, t sync.Mutex
}

type historyTask struct {
	id  int64
	tag string
}

type historyClaim struct {
	*claimedTask
	session *historySession
}

// historyNote is an operation on a task, a tag, or whatever a worker has held.
type historyNote struct {
	operation
	id     int64
	tag    string
	worker string
	ofEach func(id int64) operation // of each task that somebody who died has held
}

func newHistoryRound(t testing.TB, store Store, sessions []*historySession, seed uint64) *historyRound {
	t.Helper()
	r := &historyRound{store: store, sessions: sessions, seed: seed, inTx: map[int64]bool{}}
	for len(r.sessions) < 2 {
		id := newWorkerID()
		opened, err := store.openSession(t.Context(), workerRecord{
			id: id, host: "host", pid: 42, lease: time.Hour, names: []string{"a"}, slots: 10, crons: map[string]string{},
		})
		must(t, err)
		t.Cleanup(func() { _ = opened.close(context.Background()) })
		r.sessions = append(r.sessions, &historySession{session: opened, id: id})
	}
	return r
}

// run answers the histories that nothing explains.
func (r *historyRound) run(t testing.TB) []string {
	t.Helper()
	errs := make([]error, historyCallers)
	callers := make([]*historyCaller, historyCallers)
	for i := range callers {
		callers[i] = &historyCaller{historyRound: r, who: i + 1, Rand: rand.New(rand.NewPCG(r.seed, uint64(i)))}
	}
	// Whoever the sessions were before has no part in this.
	for _, s := range r.sessions {
		must(t, callers[0].die(s))
	}
	must(t, callers[0].enqueue())
	must(t, callers[0].enqueue())
	var group sync.WaitGroup
	begin := make(chan struct{})
	for i, c := range callers {
		group.Go(func() {
			<-begin
			for range historyCalls {
				if errs[i] = c.call(); errs[i] != nil {
					return
				}
			}
		})
	}
	close(begin)
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		slices.SortFunc(r.notes, func(a, b historyNote) int { return cmp.Compare(a.asked, b.asked) })
		var all history
		for _, n := range r.notes {
			all = append(all, n.operation)
		}
		return []string{fmt.Sprintf("%v, after\n%s", err, all)}
	}
	must(t, r.readAll())
	return r.failures()
}

// readAll reads every task when all is over.
func (r *historyRound) readAll() error {
	infos, err := r.store.tasks(context.Background(), TaskQuery{Limit: 1000})
	if err != nil {
		return err
	}
	found := map[int64]*TaskInfo{}
	for _, info := range infos {
		found[info.ID] = info
		if !slices.ContainsFunc(r.tasks, func(t historyTask) bool { return t.id == info.ID }) {
			r.tasks = append(r.tasks, historyTask{info.ID, info.UniqueTag})
		}
	}
	for _, t := range r.tasks {
		r.note(historyNote{operation: lastRead(t.id, found[t.id]), id: t.id}, 0, r.clock.Add(1), r.clock.Add(1))
	}
	return nil
}

// failures are the verdicts of what the histories are of that have no explanation.
func (r *historyRound) failures() []string {
	histories := map[string]history{}
	tasks := map[string][]int64{}
	holders := map[string][]string{} // the workers that have held something of it
	keyOf := func(id int64) string {
		for _, t := range r.tasks {
			if t.id == id && t.tag != "" {
				return "the tag " + t.tag
			}
		}
		return fmt.Sprint("task ", id)
	}
	for _, t := range r.tasks {
		tasks[keyOf(t.id)] = append(tasks[keyOf(t.id)], t.id)
	}
	for _, c := range r.claims {
		holders[keyOf(c.id)] = append(holders[keyOf(c.id)], c.workerID)
	}
	dead := map[string]bool{}
	for _, n := range r.notes {
		switch {
		case n.id != 0:
			histories[keyOf(n.id)] = append(histories[keyOf(n.id)], n.operation)
		case n.tag != "":
			histories["the tag "+n.tag] = append(histories["the tag "+n.tag], n.operation)
		case n.ofEach == nil:
			dead[n.worker] = true
		}
	}
	for _, n := range r.notes {
		if n.id != 0 || n.tag != "" {
			continue
		}
		for key, ids := range tasks {
			held := func(worker string) bool { return slices.Contains(holders[key], worker) }
			switch {
			case n.ofEach == nil && held(n.worker):
				histories[key] = append(histories[key], n.operation)
			case n.ofEach != nil && (held(n.worker) || n.worker == "" && slices.ContainsFunc(holders[key], func(w string) bool { return dead[w] })):
				for _, id := range ids {
					o := n.ofEach(id)
					o.who, o.asked, o.answered = n.who, n.asked, n.answered
					histories[key] = append(histories[key], o)
				}
			}
		}
	}
	var failures []string
	for key, h := range histories {
		if verdict := h.verdict(); verdict != "" {
			failures = append(failures, key+": "+verdict)
		}
	}
	return failures
}

func (r *historyRound) note(n historyNote, who int, asked, answered int64) {
	n.who, n.asked, n.answered = who, asked, answered
	if n.unsure && n.ofEach == nil {
		n.answered = math.MaxInt64 // it may happen later still
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, n)
}
