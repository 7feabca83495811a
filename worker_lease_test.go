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

// loseLeaseStore has the first renewal of a lease fail, and holds its answer back until the worker has claimed a few times.
type loseLeaseStore struct {
	Store
	between func()
	claims  chan struct{}
}

func (s *loseLeaseStore) openSession(ctx context.Context, w workerRecord) (session, error) {
	inner, err := s.Store.openSession(ctx, w)
	return &loseLeaseSession{session: inner, store: s}, err
}

type loseLeaseSession struct {
	session
	store *loseLeaseStore
	once  sync.Once
}

func (s *loseLeaseSession) heartbeat(ctx context.Context, over bool) (beat heartbeat, err error) {
	lose := false
	s.once.Do(func() { lose = true })
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
