package anchor

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestEverythingWorksAtEachDefaultIsolationLevel(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"repeatable read", "serializable"} {
		for _, what := range []string{"database", "role"} {
			t.Run(what+" "+level, func(t *testing.T) {
				t.Parallel()
				rig := newPG(t)
				database := pgx.Identifier{readOne[string](rig, "select current_database()")}.Sanitize()
				of := "database " + database
				if what == "role" {
					of = "role current_user in database " + database
				}
				rig.exec(fmt.Sprintf("alter %s set default_transaction_isolation = '%s'", of, level))
				rig.pool.Reset()
				if got := readOne[string](rig, "show transaction_isolation"); got != level {
					t.Fatalf("isolation level %q, want %q", got, level)
				}
				runEverything(t, rig)
			})
		}
	}
}

// runEverything has two workers complete, retry, fail and cancel tasks at the same time.
func runEverything(t *testing.T, rig *pgRig) {
	t.Helper()
	task := Define("Each", func(ctx context.Context, tx pgx.Tx, p *caseParams) error {
		info, _ := TaskFromContext(ctx)
		switch p.Case {
		case "no-op":
			return nil
		case "fails":
			return errNoLuck
		case "recovers":
			if info.Attempts == 1 {
				return errNoLuck
			}
		case "cancelled":
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return noteEffect(ctx, tx, "handler")
	}, WithRetryPolicy("1ms", 2)).OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *caseParams) error {
		return noteEffect(ctx, tx, "hook")
	})
	client := rig.newClient(task)
	for range 2 {
		rig.startWork(rig.clientOf(NewPGStore(rig.newPool(8)), task), WithConcurrency(8), WithLease(2*time.Second), WithPollInterval(50*time.Millisecond))
	}
	want := map[string]struct {
		status  Status
		effects int
	}{
		"no-op":     {StatusCompleted, 0},
		"writes":    {StatusCompleted, 1},
		"recovers":  {StatusCompleted, 1},
		"fails":     {StatusFailed, 1},
		"cancelled": {StatusCancelled, 0},
	}
	ids := map[int64]string{}
	for range 10 {
		for name := range want {
			// Conflicts of serializable handlers use attempts: there must be enough.
			opts := []RunOption{WithRetryPolicy("1ms", 100)}
			if name == "fails" {
				opts = nil
			}
			ids[enqueue(rig, client, task, &caseParams{name}, opts...)] = name
		}
	}
	for id, name := range ids {
		if name == "cancelled" {
			if err := client.Cancel(t.Context(), id); err != nil && !errors.Is(err, ErrTaskNotCancellable) {
				t.Errorf("Cancel: %v", err)
			}
		}
	}
	for id, name := range ids {
		info, effects := rig.ended(client, id), len(rig.effectsOf(id))
		if info.Status != want[name].status || effects != want[name].effects {
			t.Errorf("%s: status %s with %d effects, want %s with %d; errors %v", name, info.Status, effects, want[name].status, want[name].effects, info.Errors)
		}
	}
}
