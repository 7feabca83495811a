package anchortest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

const insertMail = "insert into mails (n) values ($1)"

// mailer counts what its handler did outside of its transaction.
type mailer struct{ sent int }

func (m *mailer) handle(ctx context.Context, tx pgx.Tx, p *stepParams) error {
	m.sent++
	_, err := tx.Exec(ctx, insertMail, p.N)
	return err
}

func TestCrashNextRunsTheTaskAgain(t *testing.T) {
	t.Parallel()
	var m mailer
	task := anchor.Define("task", m.handle)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		h.CrashNext(task)
		id := run(t, h, task, stepParams{N: 1})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Lost: 1, Completed: 1})
		if m.sent != 2 {
			t.Errorf("the handler ran %d times, want 2", m.sent)
		}
		if diff := cmp.Diff(1, len(h.Executed())); diff != "" {
			t.Errorf("statements that were committed (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]anchortest.Statement{{TaskID: id, SQL: insertMail, Args: []any{1}}}, h.RolledBack()); diff != "" {
			t.Errorf("rolled back (-want +got):\n%s", diff)
		}
		info, err := h.Client.Task(t.Context(), id)
		if err != nil || info.Attempts != 2 || len(info.Errors) != 1 || !strings.Contains(info.Errors[0].Message, "stopped responding") {
			t.Errorf("task %+v, error %v; want 2 attempts, the first lost with its worker", info, err)
		}
	}, task)
}

func TestCrashInTheLastAttemptCallsTheHook(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]handler{
		"success": succeed,
		"error":   func(context.Context, pgx.Tx, *stepParams) error { return errors.New("broken") },
		"panic":   func(context.Context, pgx.Tx, *stepParams) error { panic("broken") },
		"fatal":   func(context.Context, pgx.Tx, *stepParams) error { return anchor.Fatal(errors.New("broken")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hooks := 0
			task := anchor.Define("task", handler, anchor.WithRetryPolicy("1m", 2)).OnFailed(
				func(context.Context, pgx.Tx, anchor.Failure, *stepParams) error { hooks++; return nil })
			anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
				h.CrashNext(task)
				h.CrashNext(task)
				run(t, h, task, stepParams{})
				wantOutcomes(t, h.Drain(), anchortest.Outcomes{Lost: 2, Failed: 1})
				anchortest.RequireHookRan(t, h, task)
				if hooks != 1 {
					t.Errorf("the hook ran %d times, want once", hooks)
				}
			}, task)
		})
	}
}

func TestDrainOneAfterACrash(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		h.CrashNext(task)
		run(t, h, task, stepParams{})
		wantOutcomes(t, h.DrainOne(), anchortest.Outcomes{Lost: 1})
		wantOutcomes(t, h.DrainOne(), anchortest.Outcomes{Completed: 1})
	}, task)
}

func TestDuplicateDelivery(t *testing.T) {
	t.Parallel()
	var attempts []int
	for name, fails := range map[string]error{"that succeeds": nil, "that fails": errors.New("seen before"), "fatal": anchor.Fatal(errors.New("seen before"))} {
		t.Run(name, func(t *testing.T) {
			var m mailer
			task := anchor.Define("task", func(ctx context.Context, tx pgx.Tx, p *stepParams) error {
				info, _ := anchor.TaskFromContext(ctx)
				attempts = append(attempts, info.Attempts)
				err := m.handle(ctx, tx, p)
				if m.sent > 1 {
					return fails
				}
				return err
			}).OnFailed(func(context.Context, pgx.Tx, anchor.Failure, *stepParams) error {
				t.Error("the hook was called of a task that has completed")
				return nil
			})
			anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
				h.DuplicateDelivery(task)
				run(t, h, task, stepParams{})
				wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 1, Lost: 1})
				if m.sent != 2 || len(h.Executed()) != 1 {
					t.Errorf("the handler ran %d times with %d writes committed, want 2 and 1", m.sent, len(h.Executed()))
				}
				anchortest.RequireCompleted(t, h, task)
			}, task)
		})
	}
}

func TestFailCommit(t *testing.T) {
	t.Parallel()
	var m mailer
	task := anchor.Define("task", m.handle, anchor.WithRetryPolicy("1m", 2))
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		h.FailCommit(task)
		run(t, h, task, stepParams{})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Retried: 1})
		anchortest.RequireNothingWritten(t, h)
		h.FailCommit(task)
		wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{Failed: 1})
		anchortest.RequireNothingWritten(t, h)
		anchortest.RequireFailed(t, h, task, anchortest.ErrCommitFailed)
	}, task)
}

func TestFailCommitOfAHandlerWithoutStatements(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		h.FailCommit(task)
		run(t, h, task, stepParams{})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Retried: 1})
		wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{Completed: 1})
	}, task)
}

func TestLoseLease(t *testing.T) {
	t.Parallel()
	t.Run("of a handler that runs", func(t *testing.T) {
		t.Parallel()
		var h *anchortest.Harness
		var causes []error
		task := anchor.Define("task", func(ctx context.Context, _ pgx.Tx, _ *stepParams) error {
			if len(causes) == 1 {
				causes = append(causes, nil)
				return nil
			}
			h.LoseLease()
			began := time.Now()
			<-ctx.Done()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the handler was told after %v, want 5s at most", took)
			}
			causes = append(causes, context.Cause(ctx))
			return ctx.Err()
		})
		anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
			h = harness
			run(t, h, task, stepParams{})
			wantOutcomes(t, h.Drain(), anchortest.Outcomes{Lost: 1, Completed: 1})
			if len(causes) != 2 || !errors.Is(causes[0], anchor.ErrClaimLost) {
				t.Errorf("causes %v, want ErrClaimLost in the first attempt", causes)
			}
		}, task)
	})
	t.Run("of the next one", func(t *testing.T) {
		t.Parallel()
		var m mailer
		task := anchor.Define("task", m.handle)
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.LoseLease()
			run(t, h, task, stepParams{})
			wantOutcomes(t, h.Drain(), anchortest.Outcomes{Lost: 1, Completed: 1})
			if m.sent != 2 || len(h.Executed()) != 1 {
				t.Errorf("the handler ran %d times with %d writes committed, want 2 and 1", m.sent, len(h.Executed()))
			}
		}, task)
	})
}

func TestRequireIdempotent(t *testing.T) {
	t.Parallel()
	sent := map[int]int{}
	careful := anchor.Define("careful", func(_ context.Context, _ pgx.Tx, p *stepParams) error {
		sent[p.N] = 1
		return nil
	})
	careless := anchor.Define("careless", func(_ context.Context, _ pgx.Tx, p *stepParams) error {
		sent[p.N]++
		return nil
	})
	observe := func() map[int]int { return map[int]int{1: sent[1], 2: sent[2]} }
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		anchortest.RequireIdempotent(t, h, careful, &stepParams{N: 1}, observe)
		failure := failureOf(t, func(t testing.TB) {
			anchortest.RequireIdempotent(t, h, careless, &stepParams{N: 2}, observe)
		})
		for _, want := range []string{"careless is not idempotent", "-once +twice"} {
			if !strings.Contains(failure, want) {
				t.Errorf("the failure %q does not say %q", failure, want)
			}
		}
	}, careful, careless)
}

// recorder is a testing.TB that keeps the text of its failure.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Helper() {}

// failed ends the function under test.
type failed struct{}

func (r *recorder) Fatalf(format string, args ...any) {
	r.text = sprintf(format, args...)
	panic(failed{})
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", sprint(args...)) }

// failureOf is the text that an assertion fails with. The test fails if it does not.
func failureOf(t *testing.T, assert func(t testing.TB)) (text string) {
	t.Helper()
	r := &recorder{TB: t}
	defer func() {
		if value := recover(); value != nil && value != any(failed{}) {
			panic(value)
		}
		text = r.text
		if text == "" {
			t.Error("the assertion holds, want a failure")
		}
	}()
	assert(r)
	return ""
}

func TestHookIsCalledAgainAfterTroubleOfTheServer(t *testing.T) {
	t.Parallel()
	full := &pgconn.PgError{Code: "53100", Message: "could not extend file"}
	for name, swallows := range map[string]bool{"returned": false, "swallowed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h *anchortest.Harness
			calls := 0
			task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error { return anchor.Fatal(errors.New("broken")) }).
				OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, p *stepParams) error {
					if calls++; calls == 3 {
						h.Answer(insertMail, []any{})
					}
					_, err := tx.Exec(ctx, insertMail, p.N)
					if swallows {
						return nil
					}
					return err
				})
			anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
				h = harness
				h.FailStatement(insertMail, full)
				id := run(t, h, task, stepParams{N: 1})
				wantOutcomes(t, h.Drain(), anchortest.Outcomes{Failed: 1})
				if calls != 3 {
					t.Errorf("the hook was called %d times, want 3", calls)
				}
				anchortest.RequireHookRan(t, h, task)
				wantTexts(t, "executed", h.Executed(), insertMail+" [1]")
				if info, err := h.Client.Task(t.Context(), id); err != nil || len(info.Errors) != 1 {
					t.Errorf("task %+v, error %v; want the handler's error alone", info, err)
				}
			}, task)
		})
	}
}
