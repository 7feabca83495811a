package anchortest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
	anchortest "github.com/anchor-go/anchor/testing"
)

const createMails = "create table mails (n integer)"

func countMails(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), "select count(*) from mails").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// overPostgres is a test over a database with the table mails.
func overPostgres(t *testing.T, test func(t *testing.T, h *anchortest.Harness, pool *pgxpool.Pool), tasks ...anchor.AnyTask) {
	t.Helper()
	anchortest.RunPostgres(t, func(t *testing.T, h *anchortest.Harness, pool *pgxpool.Pool) {
		if _, err := pool.Exec(t.Context(), createMails); err != nil {
			t.Fatal(err)
		}
		test(t, h, pool)
	}, tasks...)
}

func TestPostgresRetriesAndHook(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	write := func(ctx context.Context, tx pgx.Tx, n int) error {
		_, err := tx.Exec(ctx, insertMail, n)
		return err
	}
	task := anchor.Define("task", func(ctx context.Context, tx pgx.Tx, p *stepParams) error {
		return errors.Join(write(ctx, tx, p.N), broken)
	}, anchor.WithRetryPolicy("1h", 3)).OnFailed(func(ctx context.Context, tx pgx.Tx, _ anchor.Failure, _ *stepParams) error {
		return write(ctx, tx, -1)
	})
	overPostgres(t, func(t *testing.T, h *anchortest.Harness, pool *pgxpool.Pool) {
		run(t, h, task, stepParams{N: 1})
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Retried: 1})
		anchortest.RequireEnqueued(t, h, task, &stepParams{N: 1})
		if n := countMails(t, pool); n != 0 {
			t.Errorf("%d rows are written by an attempt that failed, want none", n)
		}
		wantOutcomes(t, h.AdvanceToNext(), anchortest.Outcomes{Retried: 1})
		wantOutcomes(t, h.Advance(2*time.Hour), anchortest.Outcomes{Failed: 1})
		anchortest.RequireFailed(t, h, task, broken)
		anchortest.RequireHookRan(t, h, task)
		if n := countMails(t, pool); n != 1 {
			t.Errorf("%d rows are written, want the hook's", n)
		}
	}, task)
}

func TestPostgresFaults(t *testing.T) {
	t.Parallel()
	var m mailer
	task := anchor.Define("task", m.handle, anchor.WithRetryPolicy("1m", 3))
	overPostgres(t, func(t *testing.T, h *anchortest.Harness, pool *pgxpool.Pool) {
		lost := anchortest.Outcomes{Lost: 1, Completed: 1}
		for _, test := range []struct {
			name string
			arm  func(h *anchortest.Harness, task anchor.AnyTask)
			want anchortest.Outcomes
		}{
			{"crash", (*anchortest.Harness).CrashNext, lost},
			{"duplicate", (*anchortest.Harness).DuplicateDelivery, lost},
			{"lease", func(h *anchortest.Harness, _ anchor.AnyTask) { h.LoseLease() }, lost},
			{"commit", (*anchortest.Harness).FailCommit, anchortest.Outcomes{Retried: 1, Completed: 1}},
		} {
			sent, written := m.sent, countMails(t, pool)
			test.arm(h, task)
			run(t, h, task, stepParams{})
			if diff := cmp.Diff(test.want, h.Advance(2*time.Minute)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
			if sent, written = m.sent-sent, countMails(t, pool)-written; sent != 2 || written != 1 {
				t.Errorf("%s: the handler ran %d times and wrote %d rows, want 2 and 1", test.name, sent, written)
			}
		}
		anchortest.RequireIdempotent(t, h, task, &stepParams{}, func() int { return countMails(t, pool) })

		tx := h.Begin()
		if _, err := task.RunWithTx(t.Context(), h.Client, tx, &stepParams{}); err != nil {
			t.Fatal(err)
		}
		anchortest.RequireNotEnqueued(t, h, task)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantOutcomes(t, h.Drain(), anchortest.Outcomes{Completed: 1})
	}, task)
}

func TestPostgresDatabasesAreMigratedAndApart(t *testing.T) {
	t.Parallel()
	one := anchortest.Postgres(t)
	var two *pgxpool.Pool
	anchortest.RunPostgres(t, func(_ *testing.T, _ *anchortest.Harness, pool *pgxpool.Pool) { two = pool })
	anchortest.WantCopies(t, one, two)
	for i, pool := range []*pgxpool.Pool{one, two} {
		var tasks int
		if err := pool.QueryRow(t.Context(), "select count(*) from anchor_tasks").Scan(&tasks); err != nil || tasks != i {
			t.Errorf("database %d has %d tasks (%v), want %d", i, tasks, err, i)
		}
		if i > 0 {
			break
		}
		task := anchor.Define[stepParams]("task", nil)
		client, err := anchor.New(anchor.NewPGStore(two), anchor.WithTasks(task))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := task.Run(t.Context(), client, &stepParams{}); err != nil {
			t.Fatal(err)
		}
	}
}

func init() {
	scenarios["database of a failed test"] = func(t *testing.T) {
		anchortest.Postgres(t)
		t.FailNow()
	}
}

func TestPostgresKeepsTheDatabaseOfAFailedTest(t *testing.T) {
	t.Parallel()
	server := anchortest.ServerOf(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestScenario$")
	child.Env = append(os.Environ(), scenario+"=database of a failed test", testdb.URLVariable+"="+server)
	out, err := child.CombinedOutput()
	if err == nil {
		t.Error("the test has not failed")
	}
	_, url, ok := strings.Cut(string(out), "is kept: ")
	if !ok {
		t.Fatalf("no URL is logged:\n%s", out)
	}
	url, _, _ = strings.Cut(url, "\n")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("the database %s is not kept: %v", url, err)
	}
	var name string
	if err := conn.QueryRow(t.Context(), "select current_database()").Scan(&name); err != nil {
		t.Error(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := testdb.Drop(t.Context(), server, name); err != nil {
		t.Error(err)
	}
}
