package anchor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

// fakeWriter stands for the store: each statement waits for the test's answer. Tests run in a synctest bubble,
// which fails if a goroutine is left behind.
type fakeWriter struct {
	mu         sync.Mutex
	statements [][]string // the names of each statement's tasks
	nextID     int64
	answers    chan error
	refuse     func(tasks []*newTask) error
}

func newFakeWriter() *fakeWriter { return &fakeWriter{answers: make(chan error)} }

func (f *fakeWriter) write(_ context.Context, tasks []*newTask) error {
	f.mu.Lock()
	var names []string
	for _, task := range tasks {
		names = append(names, task.name)
	}
	f.statements = append(f.statements, names)
	f.mu.Unlock()
	err := <-f.answers
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.refuse != nil {
		err = f.refuse(tasks)
	}
	if err != nil {
		return err
	}
	for _, task := range tasks {
		f.nextID++
		task.id = f.nextID
	}
	return nil
}

func (f *fakeWriter) wantStatements(t *testing.T, want ...[]string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(want, f.statements); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
}

// call is one caller of the combiner.
type call struct {
	task *newTask
	err  error
	done chan struct{}
}

func startCall(ctx context.Context, c *combiner, name string) *call {
	started := &call{task: &newTask{name: name}, done: make(chan struct{})}
	go func() {
		defer close(started.done)
		started.err = c.enqueue(ctx, started.task)
	}()
	synctest.Wait()
	return started
}

func (c *call) returned() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *call) wantID(t *testing.T, id int64) {
	t.Helper()
	if !c.returned() || c.err != nil || c.task.id != id {
		t.Errorf("%s: returned %v with id %d, error %v, want id %d", c.task.name, c.returned(), c.task.id, c.err, id)
	}
}

func TestCombinerSharesStatements(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		c := newCombiner(f.write)
		first := startCall(t.Context(), c, "a")
		second, third := startCall(t.Context(), c, "b"), startCall(t.Context(), c, "c")
		f.wantStatements(t, []string{"a"})

		f.answers <- nil
		first.wantID(t, 1)
		if second.returned() || third.returned() {
			t.Error("a caller returned before its statement was answered")
		}
		f.answers <- nil
		second.wantID(t, 2)
		third.wantID(t, 3)
		f.wantStatements(t, []string{"a"}, []string{"b", "c"})

		fourth := startCall(t.Context(), c, "d")
		f.answers <- nil
		fourth.wantID(t, 4)
	})
}

func TestCombinerBoundsAStatement(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		c := newCombiner(f.write)
		calls := []*call{startCall(t.Context(), c, "first")}
		for i := range combinedRows + 1 {
			calls = append(calls, startCall(t.Context(), c, fmt.Sprint(i)))
		}
		for range 3 {
			f.answers <- nil
			synctest.Wait()
		}
		for i, call := range calls {
			call.wantID(t, int64(i+1))
		}
		var sizes []int
		for _, statement := range f.statements {
			sizes = append(sizes, len(statement))
		}
		if diff := cmp.Diff([]int{1, combinedRows, 1}, sizes); diff != "" {
			t.Errorf("rows of each statement (-want +got):\n%s", diff)
		}
	})
}

func TestCombinerBoundsAStatementsBytes(t *testing.T) {
	t.Parallel()

	c := newCombiner(nil)
	for range 5 {
		c.waiting = append(c.waiting, &combined{task: &newTask{params: make([]byte, combinedBytes/2)}})
	}
	var sizes []int
	for batch := c.next(); batch != nil; batch = c.next() {
		sizes = append(sizes, len(batch))
	}
	if diff := cmp.Diff([]int{2, 2, 1}, sizes); diff != "" {
		t.Errorf("rows of each statement (-want +got):\n%s", diff)
	}
}

func TestCombinerCallerLeavesBeforeTheFlush(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		c := newCombiner(f.write)
		ctx, leave := context.WithCancel(t.Context())
		first := startCall(t.Context(), c, "a")
		leaving, staying := startCall(ctx, c, "b"), startCall(t.Context(), c, "c")

		leave()
		if !leaving.returned() || !errors.Is(leaving.err, context.Canceled) || errors.Is(leaving.err, ErrOutcomeUnknown) {
			t.Errorf("error %v, want only %v", leaving.err, context.Canceled)
		}
		f.answers <- nil
		f.answers <- nil
		first.wantID(t, 1)
		staying.wantID(t, 2)
		f.wantStatements(t, []string{"a"}, []string{"c"})
	})
}

func TestCombinerCallerComesWithAnEndedContext(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		ctx, leave := context.WithCancel(t.Context())
		leave()
		err := newCombiner(f.write).enqueue(ctx, &newTask{name: "a"})
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("error %v, want only %v", err, context.Canceled)
		}
		f.wantStatements(t)
	})
}

func TestCombinerCallerLeavesDuringTheFlush(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		c := newCombiner(f.write)
		ctx, leave := context.WithCancel(t.Context())
		first := startCall(t.Context(), c, "a")
		leaving, staying := startCall(ctx, c, "b"), startCall(t.Context(), c, "c")
		f.answers <- nil
		first.wantID(t, 1)

		leave()
		if !leaving.returned() || !errors.Is(leaving.err, context.Canceled) || !errors.Is(leaving.err, ErrOutcomeUnknown) {
			t.Errorf("error %v, want %v and %v", leaving.err, context.Canceled, ErrOutcomeUnknown)
		}
		f.answers <- nil
		staying.wantID(t, 3)
		if leaving.task.id != 0 {
			t.Errorf("the caller that left was given id %d afterwards", leaving.task.id)
		}
	})
}

func TestCombinerGivesEachRowItsOwnError(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		refused := &pgconn.PgError{Code: "22003", Message: "value overflows numeric format"}
		f.refuse = func(tasks []*newTask) error {
			for _, task := range tasks {
				if task.name == "bad" {
					return fmt.Errorf("enqueue: %w", refused)
				}
			}
			return nil
		}
		c := newCombiner(f.write)
		first := startCall(t.Context(), c, "a")
		good, bad, better := startCall(t.Context(), c, "b"), startCall(t.Context(), c, "bad"), startCall(t.Context(), c, "c")
		for range 5 {
			f.answers <- nil
			synctest.Wait()
		}
		first.wantID(t, 1)
		good.wantID(t, 2)
		better.wantID(t, 3)
		if !bad.returned() || !errors.Is(bad.err, refused) {
			t.Errorf("error %v, want %v", bad.err, refused)
		}
		f.wantStatements(t, []string{"a"}, []string{"b", "bad", "c"}, []string{"b"}, []string{"bad"}, []string{"c"})
	})
}

// An error that is no row's own is everybody's, and nothing is written twice.
func TestCombinerSharesTheDatabasesError(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		f := newFakeWriter()
		c := newCombiner(f.write)
		first := startCall(t.Context(), c, "a")
		second, third := startCall(t.Context(), c, "b"), startCall(t.Context(), c, "c")
		f.answers <- nil
		first.wantID(t, 1)
		f.answers <- ErrOutcomeUnknown
		for _, call := range []*call{second, third} {
			if !call.returned() || !errors.Is(call.err, ErrOutcomeUnknown) {
				t.Errorf("error %v, want %v", call.err, ErrOutcomeUnknown)
			}
		}
		f.wantStatements(t, []string{"a"}, []string{"b", "c"})
	})
}

func TestCombinerSurvivesAPanic(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		panics := true
		c := newCombiner(func(_ context.Context, tasks []*newTask) error {
			if panics {
				panics = false
				panic("broken")
			}
			tasks[0].id = 7
			return nil
		})
		if err := c.enqueue(t.Context(), &newTask{name: "a"}); err == nil {
			t.Error("no error of a write that panicked")
		}
		task := &newTask{name: "b"}
		if err := c.enqueue(t.Context(), task); err != nil || task.id != 7 {
			t.Errorf("after a panic: id %d, error %v", task.id, err)
		}
	})
}

func TestCombinerBoundsTheWriteInTime(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		c := newCombiner(func(ctx context.Context, _ []*newTask) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if err := c.enqueue(t.Context(), &newTask{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
		}
	})
}
