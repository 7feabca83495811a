package anchor

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// troubledSession is a session in memory in front of which a database has trouble.
type troubledSession struct {
	session
	trouble func(call int, batch []finishedAttempt) (lost []int64, err error)

	mu    sync.Mutex
	calls int
	done  []int64
}

func (s *troubledSession) finish(_ context.Context, batch []finishedAttempt) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	lost, err := s.trouble(s.calls, batch)
	if err == nil {
		for _, finished := range batch {
			if !slices.Contains(lost, finished.task.id) {
				s.done = append(s.done, finished.task.id)
			}
		}
	}
	return lost, err
}

func (s *troubledSession) finished() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.done))
}

// finishing is a finisher whose worker has nothing else to do.
func finishing(t *testing.T, trouble func(call int, batch []finishedAttempt) ([]int64, error)) (*finisher, *troubledSession, *testLog) {
	t.Helper()
	log := &testLog{}
	s := &troubledSession{trouble: trouble}
	client, err := New(NewMemoryStore())
	must(t, err)
	w := &worker{client: client, session: s, logger: slog.New(slog.NewTextHandler(log, nil))}
	w.lease.renewed("worker", time.Now().Add(time.Hour))
	f := newFinisher(w)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.run(ctx, ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return f, s, log
}

func endedTask(id int64) finishedAttempt {
	return finishedAttempt{task: &claimedTask{id: id, name: "Any", workerID: "worker"}, outcome: outcomeCompleted}
}

// A lost connection before it must not keep a batch with a refused row together.
func TestARefusedRowBehindALostConnectionHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	f, s, _ := finishing(t, func(call int, batch []finishedAttempt) ([]int64, error) {
		switch {
		case call == 1:
			return nil, ErrOutcomeUnknown
		case slices.ContainsFunc(batch, func(a finishedAttempt) bool { return a.task.id == 3 }):
			return nil, &pgconn.PgError{Code: "P0001", SeverityUnlocalized: "ERROR"}
		}
		return nil, nil
	})
	for id := range int64(10) {
		f.add(endedTask(id))
	}
	eventually(t, "the nine others", func() bool { return slices.Equal(s.finished(), []int64{0, 1, 2, 4, 5, 6, 7, 8, 9}) })
}

// What is refused counts against the bound on what is unwritten, and does not storm the database.
func TestRefusedFinishesAreBounded(t *testing.T) {
	t.Parallel()
	f, s, _ := finishing(t, func(int, []finishedAttempt) ([]int64, error) {
		return nil, &pgconn.PgError{Code: "42501", SeverityUnlocalized: "ERROR"}
	})
	full := make(chan struct{})
	go func() {
		defer close(full)
		for id := range int64(2 * maxUnwritten) {
			f.add(endedTask(id))
		}
	}()
	eventually(t, "the bound to be reached", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.waiting)+len(f.held) >= maxUnwritten
	})
	select {
	case <-full:
		t.Error("more was taken than the bound")
	default:
	}
	f.close()
	<-full
	if got := len(s.finished()); got != 0 {
		t.Errorf("%d were finished", got)
	}
}

// A first try that was committed although its answer was lost is not called a lost claim, whatever comes between.
func TestACommittedFinishIsNoLostClaim(t *testing.T) {
	t.Parallel()
	f, s, log := finishing(t, func(call int, batch []finishedAttempt) ([]int64, error) {
		switch call {
		case 1:
			return nil, ErrOutcomeUnknown // it goes on there
		case 2:
			return nil, &heldError{[]int64{7}} // by the first try's backend
		}
		return []int64{7}, nil
	})
	f.add(endedTask(7))
	eventually(t, "three tries", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.calls >= 3 })
	eventually(t, "nothing to be left", func() bool { waiting, held := f.left(); return !waiting && !held })
	if strings.Contains(log.String(), "claim") {
		t.Errorf("the log:\n%s", log.String())
	}
}

// What was not started is given back behind the lease too, but a shutdown does not wait for a database that is gone.
func TestGivingBackBehindTheLeaseEndsWithTheWork(t *testing.T) {
	t.Parallel()
	tried := make(chan struct{}, 100)
	s := &troubledSession{trouble: func(int, []finishedAttempt) ([]int64, error) {
		tried <- struct{}{}
		return nil, errStalled
	}}
	client, err := New(NewMemoryStore())
	must(t, err)
	w := &worker{client: client, session: s, logger: slog.New(slog.DiscardHandler)}
	w.lease.renewed("worker", time.Now())
	f := newFinisher(w)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); f.run(ctx, t.Context()) }()
	f.add(finishedAttempt{task: &claimedTask{id: 1, name: "Any", workerID: "worker"}, outcome: outcomeReleased})
	for range 3 {
		receive(t, "a try", tried)
	}
	cancel()
	receive(t, "the end", ended)
}
