package signup

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	anchortest "github.com/anchor-go/anchor/testing"
)

// mails is the mail service of the tests.
type mails struct {
	down bool
	sent map[string]string // by key
}

var errDown = errors.New("the mail server is down")

func (m *mails) Send(_ context.Context, key, to, template string) error {
	switch {
	case m.down:
		return errDown
	case to == "nobody@example.com":
		return ErrNoMailbox
	}
	if _, twice := m.sent[key]; !twice {
		m.sent[key] = template + " to " + to
	}
	return nil
}

func (m *mails) list() []string {
	all := []string{}
	for _, mail := range m.sent {
		all = append(all, mail)
	}
	slices.Sort(all)
	return all
}

func (m *mails) want(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), m.list()); diff != "" {
		t.Errorf("mails (-want +got):\n%s", diff)
	}
}

// run tests an app in memory, where queries have the answers that the test gives.
func run(t *testing.T, test func(t *testing.T, h *anchortest.Harness, app *App, mail *mails)) {
	t.Helper()
	t.Parallel()
	mail := &mails{sent: map[string]string{}}
	app := New(mail)
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		app.client = h.Client
		h.Answer(insertUser, []any{7})
		h.Answer(selectConfirmed, []any{false})
		h.Answer(countUsers, []any{1})
		test(t, h, app, mail)
	}, app.Tasks()...)
}

// signUp signs up in a transaction that commits.
func signUp(t *testing.T, h *anchortest.Harness, app *App, email string) {
	t.Helper()
	tx := h.Begin()
	if err := app.SignUp(t.Context(), tx, email); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantStatements compares what was committed, with arguments, in order.
func wantStatements(t *testing.T, h *anchortest.Harness, want ...string) {
	t.Helper()
	got := []string{}
	for _, s := range h.Executed() {
		got = append(got, s.String())
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("statements that were committed (-want +got):\n%s", diff)
	}
}

func TestSignUpEnqueuesInItsTransaction(t *testing.T) {
	run(t, func(t *testing.T, h *anchortest.Harness, app *App, _ *mails) {
		tx := h.Begin()
		if err := app.SignUp(t.Context(), tx, "ada@example.com"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		anchortest.RequireNotEnqueued(t, h, app.welcome)
		anchortest.RequireNothingWritten(t, h)

		signUp(t, h, app, "ada@example.com")
		// Fields that are left out may be anything.
		anchortest.RequireEnqueued(t, h, app.welcome, &WelcomeParams{Email: "ada@example.com"}, anchortest.DueWithin(0))
		anchortest.RequireEnqueued(t, h, app.reminder, &ReminderParams{UserID: 7},
			anchortest.InQueue("reminders"), anchortest.DueWithin(48*time.Hour), anchortest.WithTag("reminder/ada@example.com"))
		wantStatements(t, h, insertUser+" [ada@example.com]")
	})
}

func TestSuccess(t *testing.T) {
	run(t, func(t *testing.T, h *anchortest.Harness, app *App, mail *mails) {
		signUp(t, h, app, "ada@example.com")
		if got := h.Drain(); got.Completed != 1 {
			t.Errorf("Drain: %+v, want the welcome to complete", got)
		}
		anchortest.RequireCompleted(t, h, app.welcome)
		mail.want(t, "welcome to ada@example.com")
		wantStatements(t, h, insertUser+" [ada@example.com]", markWelcomed+" [7]")

		// The reminder is due in two days, which take no time.
		h.Advance(48 * time.Hour)
		anchortest.RequireCompleted(t, h, app.reminder)
		mail.want(t, "reminder to ada@example.com", "welcome to ada@example.com")
	})
}

func TestRetryOverHours(t *testing.T) {
	run(t, func(t *testing.T, h *anchortest.Harness, app *App, mail *mails) {
		mail.down = true
		if _, err := app.welcome.Run(t.Context(), h.Client, &WelcomeParams{UserID: 7, Email: "ada@example.com"}); err != nil {
			t.Fatal(err)
		}
		if got := h.Advance(3 * time.Hour); got != (anchortest.Outcomes{Retried: 5}) {
			t.Errorf("in three hours: %+v, want 5 attempts, after 0, 1, 10, 60 and 60 minutes and jitter", got)
		}
		anchortest.RequireNothingWritten(t, h)
		mail.want(t)

		mail.down = false
		if got := h.AdvanceToNext(); got.Completed != 1 {
			t.Errorf("the next attempt: %+v, want it to complete", got)
		}
		mail.want(t, "welcome to ada@example.com")
		wantStatements(t, h, markWelcomed+" [7]")
	})
}

func TestHook(t *testing.T) {
	run(t, func(t *testing.T, h *anchortest.Harness, app *App, mail *mails) {
		signUp(t, h, app, "nobody@example.com")
		if got := h.Drain(); got.Failed != 1 {
			t.Errorf("Drain: %+v, want a failure without a retry", got)
		}
		anchortest.RequireFailed(t, h, app.welcome, ErrNoMailbox)
		anchortest.RequireHookRan(t, h, app.welcome)
		wantStatements(t, h, insertUser+" [nobody@example.com]", markUnreachable+" [7]")
		mail.want(t)
	})
}

func TestSchedule(t *testing.T) {
	run(t, func(t *testing.T, h *anchortest.Harness, app *App, mail *mails) {
		// It is Saturday, 2000-01-01.
		if got := h.Advance(4 * 7 * 24 * time.Hour); got.Completed != 4 {
			t.Errorf("in four weeks: %+v, want 4 digests", got)
		}
		want := map[string]string{}
		for _, day := range []string{"2000-01-03", "2000-01-10", "2000-01-17", "2000-01-24"} {
			want["digest/"+day] = "digest of 1 users to team@example.com"
		}
		if diff := cmp.Diff(want, mail.sent); diff != "" {
			t.Errorf("mails (-want +got):\n%s", diff)
		}
	})
}

func TestIdempotency(t *testing.T) {
	run(t, func(t *testing.T, h *anchortest.Harness, app *App, mail *mails) {
		anchortest.RequireIdempotent(t, h, app.welcome, &WelcomeParams{UserID: 7, Email: "ada@example.com"}, mail.list)

		// The worker dies when the mail is out, but its task has not completed.
		h.CrashNext(app.welcome)
		if _, err := app.welcome.Run(t.Context(), h.Client, &WelcomeParams{UserID: 8, Email: "bob@example.com"}); err != nil {
			t.Fatal(err)
		}
		if got := h.Drain(); got != (anchortest.Outcomes{Lost: 1, Completed: 1}) {
			t.Errorf("Drain: %+v, want a lost attempt and one that completes", got)
		}
		mail.want(t, "welcome to ada@example.com", "welcome to bob@example.com")
		wantStatements(t, h, markWelcomed+" [7]", markWelcomed+" [8]")
	})
}

// TestOverPostgres is for what only a database can tell: that the statements are right.
func TestOverPostgres(t *testing.T) {
	t.Parallel()
	mail := &mails{sent: map[string]string{}}
	app := New(mail)
	anchortest.RunPostgres(t, func(t *testing.T, h *anchortest.Harness, pool *pgxpool.Pool) {
		app.client = h.Client
		const users = `create table users (id bigint generated always as identity, email text unique,
			welcomed boolean default false, unreachable boolean default false, confirmed boolean default false)`
		if _, err := pool.Exec(t.Context(), users); err != nil {
			t.Fatal(err)
		}
		signUp(t, h, app, "ada@example.com")
		signUp(t, h, app, "nobody@example.com")
		if got := h.Advance(48 * time.Hour); got != (anchortest.Outcomes{Completed: 2, Failed: 2}) {
			t.Errorf("in two days: %+v, want 2 tasks completed, 2 failed", got)
		}
		mail.want(t, "reminder to ada@example.com", "welcome to ada@example.com")
		var welcomed, unreachable string
		err := pool.QueryRow(t.Context(), `select string_agg(email, ' ') filter (where welcomed), string_agg(email, ' ') filter (where unreachable) from users`).
			Scan(&welcomed, &unreachable)
		if err != nil || welcomed != "ada@example.com" || unreachable != "nobody@example.com" {
			t.Errorf("welcomed %q, unreachable %q, error %v", welcomed, unreachable, err)
		}
	}, app.Tasks()...)
}
