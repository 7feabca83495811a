// Package signup is a sign-up flow on anchor, and its tests are how to test one: without a database and without
// waiting, although mail is retried for hours and a digest is sent every Monday.
//
//	go test -v ./examples/testing
//
// Start reading in signup_test.go.
package signup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// Mailer sends mail. Of two mails with one key it sends the first, as mail services do.
type Mailer interface {
	Send(ctx context.Context, key, to, template string) error
}

// ErrNoMailbox is what a [Mailer] answers when there is nobody to send to. No retry mends this.
var ErrNoMailbox = errors.New("there is no such mailbox")

type (
	WelcomeParams struct {
		UserID int64  `json:"userId" jsonschema:"minimum=1"`
		Email  string `json:"email"`
	}
	ReminderParams struct {
		UserID int64  `json:"userId" jsonschema:"minimum=1"`
		Email  string `json:"email"`
	}
	DigestParams struct {
		To string `json:"to"`
	}
)

// App is the program. Its tasks are fields, so that a test makes an App with a mailer of its own.
type App struct {
	mailer Mailer
	client *anchor.Client // set once it is known

	welcome  *anchor.Task[WelcomeParams]
	reminder *anchor.Task[ReminderParams]
	digest   *anchor.Task[DigestParams]
}

// New declares the tasks.
func New(mailer Mailer) *App {
	a := &App{mailer: mailer}
	a.welcome = anchor.Define("SendWelcome", a.sendWelcome, anchor.WithRetryPolicy("1m,10m,1h", 8)).OnFailed(a.welcomeFailed)
	a.reminder = anchor.Define("SendReminder", a.sendReminder, anchor.WithQueue("reminders"))
	a.digest = anchor.Define("SendDigest", a.sendDigest).
		Cron("0 9 * * MON", &DigestParams{To: "team@example.com"}, anchor.WithTimeZone("Europe/Berlin"))
	return a
}

// Tasks is what the client has to know.
func (a *App) Tasks() []anchor.AnyTask { return []anchor.AnyTask{a.welcome, a.reminder, a.digest} }

const (
	insertUser      = `insert into users (email) values ($1) returning id`
	markWelcomed    = `update users set welcomed = true where id = $1`
	markUnreachable = `update users set unreachable = true where id = $1`
	selectConfirmed = `select confirmed from users where id = $1`
	countUsers      = `select count(*) from users`
)

// SignUp adds a user, the task that welcomes them and the one that reminds them in two days, all in tx.
func (a *App) SignUp(ctx context.Context, tx pgx.Tx, email string) error {
	var id int64
	if err := tx.QueryRow(ctx, insertUser, email).Scan(&id); err != nil {
		return fmt.Errorf("sign up: %w", err)
	}
	if _, err := a.welcome.RunWithTx(ctx, a.client, tx, &WelcomeParams{UserID: id, Email: email}); err != nil {
		return fmt.Errorf("sign up: %w", err)
	}
	_, err := a.reminder.RunWithTx(ctx, a.client, tx, &ReminderParams{UserID: id, Email: email},
		anchor.WithDelay(48*time.Hour), anchor.WithUniqueTag("reminder/"+email, anchor.UniqueWhileLive))
	if err != nil {
		return fmt.Errorf("sign up: %w", err)
	}
	return nil
}

// send may be called more than once for a task, so the mail has a key: the task's id, which stays the same.
func (a *App) send(ctx context.Context, to, template string) error {
	task, _ := anchor.TaskFromContext(ctx)
	err := a.mailer.Send(ctx, fmt.Sprint("task/", task.ID), to, template)
	if errors.Is(err, ErrNoMailbox) {
		return anchor.Fatal(err)
	}
	return err
}

func (a *App) sendWelcome(ctx context.Context, tx pgx.Tx, p *WelcomeParams) error {
	if err := a.send(ctx, p.Email, "welcome"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, markWelcomed, p.UserID)
	return err
}

// welcomeFailed is the failure hook: what it writes commits together with the status failed.
func (a *App) welcomeFailed(ctx context.Context, tx pgx.Tx, _ anchor.Failure, p *WelcomeParams) error {
	_, err := tx.Exec(ctx, markUnreachable, p.UserID)
	return err
}

func (a *App) sendReminder(ctx context.Context, tx pgx.Tx, p *ReminderParams) error {
	var confirmed bool
	if err := tx.QueryRow(ctx, selectConfirmed, p.UserID).Scan(&confirmed); err != nil || confirmed {
		return err
	}
	return a.send(ctx, p.Email, "reminder")
}

func (a *App) sendDigest(ctx context.Context, tx pgx.Tx, p *DigestParams) error {
	var users int
	if err := tx.QueryRow(ctx, countUsers).Scan(&users); err != nil {
		return err
	}
	task, _ := anchor.TaskFromContext(ctx)
	return a.mailer.Send(ctx, fmt.Sprint("digest/", task.ScheduledFor.Format(time.DateOnly)), p.To, fmt.Sprintf("digest of %d users", users))
}
