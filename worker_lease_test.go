package anchor

import (
	"context"
	"log/slog"
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
