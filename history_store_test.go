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
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor/internal/seam"
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
		task := *f.task
		task.token = current
		batch[i].task = &task
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

// historyCaller is one of those who use the store at a time.
type historyCaller struct {
	*historyRound
	*rand.Rand
	who int
}

// told is what a call was answered: the operations that it stands for, unless it was none.
func (c *historyCaller) told(call func() ([]historyNote, error)) error {
	asked := c.clock.Add(1)
	if c.IntN(2) == 0 {
		runtime.Gosched() // others come first
	}
	notes, err := call()
	answered := c.clock.Add(1)
	for _, n := range notes {
		c.note(n, c.who, asked, answered)
	}
	return err
}

func (c *historyCaller) call() error {
	calls := []struct {
		what   string
		weight int
		do     func() error
	}{
		{"enqueue", 2, c.enqueue},
		{"claim", 8, c.claim},
		{"finish", 8, c.finish},
		{"complete", 3, c.complete},
		{"fail", 2, c.fail},
		{"cancel", 4, c.cancel},
		{"retry", 4, c.retry},
		{"releaseTag", 1, c.releaseTag},
		{"heartbeat", 2, c.heartbeat},
		{"die", 1, func() error { return c.die(c.anySession()) }},
		{"takeBack", 4, c.takeBack},
		{"read", 2, c.read},
	}
	sum := 0
	for _, call := range calls {
		sum += call.weight
	}
	at := c.IntN(sum)
	for _, call := range calls {
		if at -= call.weight; at < 0 {
			if err := call.do(); err != nil {
				return fmt.Errorf("%s by %d: %w", call.what, c.who, err)
			}
			return nil
		}
	}
	panic("unreachable")
}

func (c *historyCaller) anySession() *historySession { return c.sessions[c.IntN(len(c.sessions))] }

func (c *historyCaller) anyTask() historyTask {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tasks[c.IntN(len(c.tasks))]
}

// anyClaim is one of the newest three, or any.
func (c *historyCaller) anyClaim() (historyClaim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.claims)
	if n == 0 {
		return historyClaim{}, false
	}
	if c.IntN(3) > 0 {
		n = min(n, 3)
	}
	return c.claims[len(c.claims)-1-c.IntN(n)], true
}

func (c *historyCaller) newTask(tag string) (*newTask, modelTask, bool) {
	m := modelTask{name: "a", queue: "q", max: 1 + c.IntN(3), tag: tag}
	task := &newTask{name: m.name, queue: m.queue, maxAttempts: int32(m.max), params: []byte(`{}`), tag: m.tag}
	if c.IntN(8) == 0 {
		task.delay, m.due = time.Hour, modelNever
	}
	whileLive := tag != "" && c.IntN(2) == 0
	if whileLive {
		task.scope = UniqueWhileLive
	}
	return task, m, whileLive
}

// added is the note of a task that was enqueued.
func (c *historyCaller) added(task *newTask, m modelTask, whileLive bool) historyNote {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tasks = append(c.tasks, historyTask{task.id, task.tag})
	return historyNote{operation: enqueuedTask(task.id, m, whileLive), id: task.id}
}

func (c *historyCaller) enqueue() error {
	task, m, whileLive := c.newTask([]string{"", "t"}[c.IntN(2)])
	inTx := c.IntN(3) == 0
	return c.told(func() ([]historyNote, error) {
		err := c.write(task, inTx)
		var exists *TaskExistsError
		if errors.As(err, &exists) {
			return []historyNote{{operation: heldTag(task.tag, exists.ID), tag: task.tag}}, nil
		}
		if err != nil {
			return nil, err
		}
		return []historyNote{c.added(task, m, whileLive)}, nil
	})
}

func (c *historyCaller) write(task *newTask, inTx bool) error {
	ctx := context.Background()
	if !inTx {
		return c.store.enqueue(ctx, []*newTask{task})
	}
	tx, err := seam.Anchor.Begin(ctx, c.store)
	if err != nil {
		return err
	}
	if err := c.store.enqueueTx(ctx, tx, []*newTask{task}); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}

// hold keeps claims, and notes them.
func (c *historyCaller) hold(s *historySession, tasks []*claimedTask, operation func(id, token int64, attempt int, worker string) operation) []historyNote {
	c.mu.Lock()
	defer c.mu.Unlock()
	var notes []historyNote
	for _, task := range tasks {
		c.claims = append(c.claims, historyClaim{task, s})
		notes = append(notes, historyNote{operation: operation(task.id, task.token, int(task.attempt), task.workerID), id: task.id})
	}
	return notes
}

func (c *historyCaller) claim() error {
	s, limit := c.anySession(), 1+c.IntN(2)
	s.claiming.Lock()
	defer s.claiming.Unlock()
	return c.told(func() ([]historyNote, error) {
		got, err := s.claim(context.Background(), claimRequest{names: []string{"a"}, queues: []string{"q"}, limit: limit, firstHand: limit, sweep: true, fresh: true})
		if errors.Is(err, ErrClaimLost) || sqlState(err) == stateClaimLost {
			return nil, nil // the lease of the session's worker is over, and it has no other one yet
		}
		return c.hold(s, got.tasks, claimedOne), err
	})
}

func (c *historyCaller) takeBack() error {
	s := c.anySession()
	s.t.Lock()
	defer s.t.Unlock()
	return c.told(func() ([]historyNote, error) {
		taken, err := s.takeBack(context.Background(), []string{"a"}, 1000)
		return append(c.hold(s, taken.exhausted, retaken), historyNote{ofEach: lookedForDead}), err
	})
}

func (c *historyCaller) finish() error {
	how := []outcome{outcomeCompleted, outcomeCompleted, outcomeRetried, outcomeRetried, outcomeFailed, outcomeReleased, outcomeCancelled}[c.IntN(7)]
	later := c.IntN(4) == 0
	var batch []finishedAttempt
	for range 1 + c.IntN(2) {
		claim, ok := c.anyClaim()
		if !ok || claim.exhausted && how == outcomeReleased || slices.ContainsFunc(batch, func(f finishedAttempt) bool { return f.task.id == claim.id }) {
			continue
		}
		if how == outcomeCompleted && !c.completes(claim, false) {
			continue
		}
		f := finishedAttempt{task: claim.claimedTask, outcome: how}
		if how != outcomeCompleted && how != outcomeReleased {
			f.message = fmt.Sprintf("error of attempt %d", claim.attempt)
		}
		if later {
			f.after = time.Hour
		}
		batch = append(batch, f)
	}
	if len(batch) == 0 {
		return nil
	}
	s := c.anySession()
	s.finishing.Lock()
	defer s.finishing.Unlock()
	return c.told(func() ([]historyNote, error) {
		lost, err := s.finish(context.Background(), slices.Clone(batch))
		var held *heldError
		if errors.As(err, &held) {
			err = nil
		}
		var notes []historyNote
		for _, f := range batch {
			if held != nil && slices.Contains(held.ids, f.task.id) {
				continue // nothing was done to it
			}
			notes = append(notes, historyNote{
				operation: finished(f.task.id, f.task.token, how, f.message, "", later, slices.Contains(lost, f.task.id)), id: f.task.id,
			})
		}
		return notes, err
	})
}

// ended is what a call that has ended an attempt in a transaction was answered, in which a child was enqueued.
func (c *historyCaller) ended(claim historyClaim, how outcome, message, hookMessage string, err error, child *newTask, m modelTask, born bool) ([]historyNote, error) {
	note := historyNote{operation: finished(claim.id, claim.token, how, message, hookMessage, false, errors.Is(err, ErrClaimLost)), id: claim.id}
	switch {
	case err == nil && born:
		return []historyNote{note, c.added(child, m, false)}, nil
	case err == nil, errors.Is(err, ErrClaimLost):
		return []historyNote{note}, nil
	case isConflict(err):
		return nil, nil // nothing was done
	case reaped(err):
		note.unsure = true
		birth := historyNote{operation: enqueuedTask(child.id, m, false), id: child.id}
		birth.unsure = true
		if child.id == 0 {
			return []historyNote{note}, nil
		}
		return []historyNote{note, birth}, nil
	}
	return nil, err
}

// reaped tells that a connection was ended, as the one who takes back does with those of the dead.
func reaped(err error) bool {
	return err != nil && (sqlState(err) == "57P01" || outcomeUnknown(err) || pgconn.SafeToRetry(err) || errors.Is(err, errHandlerConnClosed))
}

// completes tells whether an attempt may be completed: by one transaction, or by any number of batches. A transaction that
// has lost its connection finds out by the token whether it was committed, so that nothing else may complete by that.
func (c *historyCaller) completes(claim historyClaim, tx bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.inTx[claim.token]
	if !known {
		c.inTx[claim.token] = tx
	}
	return !known || !tx && !before
}

// complete ends an attempt in its own transaction, which has enqueued a task.
func (c *historyCaller) complete() error {
	claim, ok := c.anyClaim()
	if !ok || !c.completes(claim, true) {
		return nil
	}
	ctx := context.Background()
	child, m, _ := c.newTask("")
	return c.told(func() ([]historyNote, error) {
		attempt := claim.session.begin(claim.claimedTask, time.Minute)
		defer attempt.abandon()
		err := c.store.enqueueTx(ctx, attempt.handler(), []*newTask{child})
		if reaped(err) {
			return nil, nil
		}
		if err == nil {
			err = attempt.complete(ctx)
		}
		return c.ended(claim, outcomeCompleted, "", "", err, child, m, true)
	})
}

// fail ends a task for good, with a hook that enqueues a task and may fail.
func (c *historyCaller) fail() error {
	claim, ok := c.anyClaim()
	if !ok {
		return nil
	}
	child, m, _ := c.newTask("")
	var hookErr error
	hookMessage := ""
	if c.IntN(2) == 0 {
		hookErr = errors.New("no luck")
		hookMessage = hookMessagePrefix + hookErr.Error()
	}
	called := 0
	hook := func(ctx context.Context, tx pgx.Tx) error {
		called++
		return errors.Join(c.store.enqueueTx(ctx, tx, []*newTask{child}), hookErr)
	}
	return c.told(func() ([]historyNote, error) {
		err := claim.session.fail(context.Background(), claim.claimedTask, finalFailure{message: "failed", idle: time.Minute, hook: hook})
		// In memory, the claim may be lost while the hook runs: then nothing of that is applied.
		if err == nil && called != 1 {
			return nil, fmt.Errorf("the hook was called %d times", called)
		}
		return c.ended(claim, outcomeFailed, "failed", hookMessage, err, child, m, hookErr == nil)
	})
}

func (c *historyCaller) cancel() error {
	id := c.anyTask().id
	return c.told(func() ([]historyNote, error) {
		err := c.store.cancel(context.Background(), nil, id)
		note := historyNote{operation: cancelled(id, err), id: id}
		if errors.Is(err, ErrTaskNotCancellable) {
			err = nil
		}
		return []historyNote{note}, err
	})
}

func (c *historyCaller) retry() error {
	id := c.anyTask().id
	return c.told(func() ([]historyNote, error) {
		err := c.store.retry(context.Background(), id)
		note := historyNote{operation: retried(id, err), id: id}
		if errors.Is(err, ErrTaskNotRetryable) || errors.Is(err, ErrTaskAlreadyExists) {
			err = nil
		}
		return []historyNote{note}, err
	})
}

func (c *historyCaller) releaseTag() error {
	return c.told(func() ([]historyNote, error) {
		return []historyNote{{operation: releasedTag("t"), tag: "t"}}, c.store.releaseTag(context.Background(), "t")
	})
}

func (c *historyCaller) read() error {
	id := c.anyTask().id
	return c.told(func() ([]historyNote, error) {
		info, err := c.store.task(context.Background(), id)
		if err != nil {
			return nil, err
		}
		return []historyNote{{operation: read(id, info.Status, info.Attempts), id: id}}, nil
	})
}

func (c *historyCaller) heartbeat() error {
	s := c.anySession()
	s.beating.Lock()
	defer s.beating.Unlock()
	return c.told(func() ([]historyNote, error) {
		beat, err := renew(context.Background(), s.session, false)
		if err == nil && beat.workerID != s.id {
			err = errors.New("a session with a lease of an hour has become another worker")
		}
		worker := s.id
		return []historyNote{{worker: worker, ofEach: func(id int64) operation {
			return beaten(worker, id, slices.Contains(beat.cancelled, id))
		}}}, err
	})
}

// die lets the lease of a session's worker be over: it goes on as another one.
func (c *historyCaller) die(s *historySession) error {
	s.beating.Lock()
	defer s.beating.Unlock()
	return c.told(func() ([]historyNote, error) {
		beat, err := renew(context.Background(), s.session, true)
		note := historyNote{operation: died(s.id), worker: s.id}
		s.id = beat.workerID
		return []historyNote{note}, err
	})
}
