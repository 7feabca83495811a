package anchor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A worker that lost its lease goes on under a new id. What it claims before it knows must not be taken for a claim of
// the past and dropped: the worker lives, so nobody would ever take it back.
func TestTasksClaimedWhileAWorkerChangesItsIDRun(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]Store{"memory": NewMemoryStore(), "postgres": newPG(t).store} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ran := make(chan struct{})
			task := Define("Ran", func(context.Context, pgx.Tx, *caseParams) error { close(ran); return nil })
			s := &loseLeaseStore{Store: store, claims: make(chan struct{})}
			client, err := New(s, WithTasks(task), WithLogger(slog.New(slog.DiscardHandler)))
			must(t, err)
			s.between = func() { _, err = task.Run(t.Context(), client, &caseParams{"between"}) }
			ctx, stop := context.WithCancel(t.Context())
			var working sync.WaitGroup
			working.Go(func() { _ = client.Work(ctx, WithPollInterval(10*time.Millisecond), WithLease(500*time.Millisecond)) })
			defer working.Wait()
			defer stop()
			receive(t, "the task that was enqueued meanwhile to run", ran)
			must(t, err)
		})
	}
}

// The lease may be lost between the look at it and the handler's start: then nobody would tell the handler.
func TestAClaimLostWhileItsParametersAreReadDoesNotStart(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	s := &loseLeaseStore{Store: rig.store, claims: make(chan struct{}), renewed: make(chan struct{})}
	reading := make(chan struct{})
	var once sync.Once
	waitsToBeRead.Store(t.Name(), func() {
		once.Do(func() {
			close(reading)
			<-s.renewed
		})
	})
	starts := make(chan *TaskInfo, 10)
	task := Define("Ran", func(ctx context.Context, _ pgx.Tx, _ *slowlyRead) error {
		info, _ := TaskFromContext(ctx)
		starts <- info
		return nil
	})
	client := rig.clientOf(s, task)
	enqueue(rig, client, task, &slowlyRead{slowText(t.Name())})
	s.between = func() { <-reading }
	rig.startWork(client, WithPollInterval(10*time.Millisecond), WithLease(3*time.Second))
	if info := receive(t, "a start", starts); info.Attempts != 2 {
		t.Errorf("attempt %d started, whose claim was lost by then", info.Attempts)
	}
}

// slowlyRead are parameters whose reading calls what waitsToBeRead has for their text.
type slowlyRead struct{ Text slowText }

type slowText string

var waitsToBeRead sync.Map

func (s *slowText) UnmarshalText(text []byte) error {
	*s = slowText(text)
	if wait, ok := waitsToBeRead.Load(string(text)); ok {
		wait.(func())()
	}
	return nil
}

func (s slowText) MarshalText() ([]byte, error) { return []byte(s), nil }

// loseLeaseStore has the first renewal of a lease fail, and holds its answer back until the worker has claimed a few times.
type loseLeaseStore struct {
	Store
	between func()
	claims  chan struct{}
	renewed chan struct{} // closed by the renewal behind that
}

func (s *loseLeaseStore) openSession(ctx context.Context, w workerRecord) (session, error) {
	inner, err := s.Store.openSession(ctx, w)
	return &loseLeaseSession{session: inner, store: s}, err
}

type loseLeaseSession struct {
	session
	store *loseLeaseStore
	beats int
}

func (s *loseLeaseSession) heartbeat(ctx context.Context, over bool) (beat heartbeat, err error) {
	s.beats++
	if s.beats == 2 && s.store.renewed != nil {
		close(s.store.renewed)
	}
	lose := s.beats == 1
	if beat, err = s.session.heartbeat(ctx, over || lose); lose && err == nil {
		s.store.between()
		for range 5 {
			<-s.store.claims
		}
	}
	return beat, err
}

func (s *loseLeaseSession) claim(ctx context.Context, req claimRequest) (claimed, error) {
	answer, err := s.session.claim(ctx, req)
	select {
	case s.store.claims <- struct{}{}:
	default:
	}
	return answer, err
}

// A claim that is answered when its lease is over was not started by anybody. Whoever took it back would count it.
func TestATaskClaimedTooLateToStartCountsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]Store{"memory": NewMemoryStore(), "postgres": newPG(t).store} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStalledStore(store)
			s.claimStalls = true
			client, ids, stop := s.work(t, 5, func(context.Context) error { return nil }, WithConcurrency(5))
			defer stop()
			for _, id := range ids {
				if task := ended(t, client, id); task.Attempts != 1 {
					t.Errorf("task %d was charged %d attempts and started once", id, task.Attempts)
				}
			}
		})
	}
}

// What is given back is still to be given back when the database comes back behind the end of the lease.
func TestATaskGivenBackBehindTheLeaseCountsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]Store{"memory": NewMemoryStore(), "postgres": newPG(t).store} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStalledStore(store)
			s.most = 5
			var first sync.Once
			client, ids, stop := s.work(t, 5, func(ctx context.Context) error {
				first.Do(func() { <-ctx.Done() })
				return ctx.Err()
			}, WithConcurrency(1))
			defer stop()
			started := 0
			for _, id := range ids {
				started += ended(t, client, id).Attempts
			}
			if want := len(ids) + 1; started != want {
				t.Errorf("%d attempts were charged, %d started", started, want)
			}
		})
	}
}

// stalledStore is a store whose database says nothing from the first claimed tasks on until the worker's lease is over.
// The first renewal behind that waits for the tasks to be given back that were not started.
type stalledStore struct {
	Store
	claimStalls bool // the claim too, which is committed by then
	most        int  // what a claim asks for, 0 for what the worker asks for

	claims, over chan struct{}
	released     chan struct{}
	lapsed, late chan struct{} // the lease is over; a task could not be given back behind that
}

func newStalledStore(store Store) *stalledStore {
	return &stalledStore{
		Store: store, claims: make(chan struct{}), over: make(chan struct{}), released: make(chan struct{}),
		lapsed: make(chan struct{}), late: make(chan struct{}),
	}
}

// work has a worker with a lease of half a second do n tasks.
func (s *stalledStore) work(t *testing.T, n int, handle func(ctx context.Context) error, opts ...WorkOption) (client *Client, ids []int64, stop func()) {
	t.Helper()
	task := Define("Stalled", func(ctx context.Context, _ pgx.Tx, _ *caseParams) error { return handle(ctx) })
	client, err := New(s, WithTasks(task), WithLogger(slog.New(slog.DiscardHandler)))
	must(t, err)
	ids, err = task.RunMany(t.Context(), client, slices.Repeat([]*caseParams{{"stalled"}}, n))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		_ = client.Work(ctx, append(opts, WithPollInterval(10*time.Millisecond), WithLease(500*time.Millisecond))...)
	})
	return client, ids, func() { cancel(); working.Wait() }
}

func (s *stalledStore) openSession(ctx context.Context, w workerRecord) (session, error) {
	inner, err := s.Store.openSession(ctx, w)
	return &stalledSession{session: inner, store: s}, err
}

type stalledSession struct {
	session
	store *stalledStore

	mu        sync.Mutex
	unstarted int // of those that are to be given back
}

var errStalled = errors.New("the database says nothing")

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *stalledSession) stalls() bool { return closed(s.store.claims) && !closed(s.store.over) }

func (s *stalledSession) heartbeat(ctx context.Context, over bool) (heartbeat, error) {
	if s.stalls() {
		if !over {
			return heartbeat{}, errStalled
		}
		close(s.store.lapsed)
		if !s.store.claimStalls {
			<-s.store.late
		}
		close(s.store.over)
		select {
		case <-s.store.released:
		case <-time.After(patience / 4):
		}
	}
	return s.session.heartbeat(ctx, over)
}

func (s *stalledSession) claim(ctx context.Context, req claimRequest) (claimed, error) {
	if s.stalls() {
		return claimed{}, errStalled
	}
	if s.store.most > 0 {
		req.limit = s.store.most
	}
	answer, err := s.session.claim(ctx, req)
	if len(answer.tasks) > 0 && !closed(s.store.claims) {
		s.mu.Lock()
		s.unstarted = len(answer.tasks)
		if !s.store.claimStalls {
			s.unstarted-- // one is started
		}
		s.mu.Unlock()
		close(s.store.claims)
		if s.store.claimStalls {
			<-s.store.over
		}
	}
	return answer, err
}

func (s *stalledSession) finish(ctx context.Context, batch []finishedAttempt) ([]int64, error) {
	if s.stalls() {
		if closed(s.store.lapsed) && !closed(s.store.late) {
			close(s.store.late)
		}
		return nil, errStalled
	}
	lost, err := s.session.finish(ctx, batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unstarted > 0 {
		for _, finished := range batch {
			if finished.outcome == outcomeReleased {
				s.unstarted--
			}
		}
		if s.unstarted == 0 {
			close(s.store.released)
		}
	}
	return lost, err
}
