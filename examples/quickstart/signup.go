package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// The parameters of a task are a struct. They are stored as JSON, so keep them small: ids rather than what they
// stand for.
type (
	WelcomeParams struct {
		UserID     int32  `json:"userId" jsonschema:"minimum=1"`
		TemplateID string `json:"templateId"`
	}
	ChargeParams struct {
		UserID int32 `json:"userId" jsonschema:"minimum=1"`
		Cents  int   `json:"cents"`
	}
	FollowUpParams struct {
		UserID int32 `json:"userId" jsonschema:"minimum=1"`
	}
	ResizeParams struct {
		Picture int `json:"picture"`
	}
)

// signUp is the program: its tasks, and what their handlers need. A program whose handlers need nothing may
// keep its tasks in package variables.
type signUp struct {
	users  users
	life   *narrator
	client *anchor.Client

	welcome  *anchor.Task[WelcomeParams]
	charge   *anchor.Task[ChargeParams]
	followUp *anchor.Task[FollowUpParams]
	resize   *anchor.Task[ResizeParams]

	enqueued []int64            // the tasks of this run
	ended    []*anchor.TaskInfo // and how they ended
	userIDs  []int32
}

// newSignUp declares the tasks. A task's name is stored with it, so it outlives the process.
func newSignUp(users users, life *narrator) *signUp {
	s := &signUp{users: users, life: life}
	s.welcome = anchor.Define("SendWelcomeEmail", narrated(life, s.sendWelcomeEmail),
		anchor.WithDescription("Send a welcome email to a new user"),
		anchor.WithRetryPolicy("200ms,1s,1m", 5), // five attempts, so far apart
		anchor.WithTimeout("30s"),                // each
	)
	s.charge = anchor.Define("ChargeCard", narrated(life, s.chargeCard)).OnFailed(s.chargeFailed)
	s.followUp = anchor.Define("SendFollowUp", narrated(life, s.sendFollowUp))
	s.resize = anchor.Define("ResizePicture", s.resizePicture, anchor.WithQueue(bulkQueue))
	return s
}

var errMailServerBusy = errors.New("the mail server is busy")

// sendWelcomeEmail is a handler. What it writes through tx commits together with the task's completion: the user is
// marked exactly once. Sending mail is not in the database's hands, so it happens at least once.
func (s *signUp) sendWelcomeEmail(ctx context.Context, tx pgx.Tx, p *WelcomeParams) error {
	user, err := s.users.Find(ctx, tx, p.UserID)
	if err != nil {
		return err
	}
	task, _ := anchor.TaskFromContext(ctx)
	if strings.HasPrefix(user.Email, "grace@") && task.Attempts == 1 {
		return errMailServerBusy // any error: this attempt failed, and is retried as the policy says
	}
	// Send the mail here, with task.ID as its idempotency key if the mail service takes one.
	return s.users.MarkWelcomed(ctx, tx, user.ID)
}

// chargeCard shows a failure that no retry mends.
func (s *signUp) chargeCard(ctx context.Context, tx pgx.Tx, p *ChargeParams) error {
	user, err := s.users.Find(ctx, tx, p.UserID)
	if err != nil {
		return err
	}
	if strings.HasPrefix(user.Email, "mallory@") {
		return anchor.Fatal(errors.New("the bank declined the card"))
	}
	return nil
}

// chargeFailed is the hook of ChargeCard. What it writes commits together with the status failed, once.
func (s *signUp) chargeFailed(ctx context.Context, tx pgx.Tx, failure anchor.Failure, p *ChargeParams) error {
	s.life.tell(failure.TaskID, failure.Name, "the hook runs, because "+failure.Err.Error()+": it suspends the user")
	return s.users.Suspend(ctx, tx, p.UserID)
}

func (s *signUp) sendFollowUp(ctx context.Context, tx pgx.Tx, p *FollowUpParams) error {
	_, err := s.users.Find(ctx, tx, p.UserID)
	return err
}

// resizePicture leaves tx alone. It costs no connection then, and is completed together with its neighbours.
func (s *signUp) resizePicture(context.Context, pgx.Tx, *ResizeParams) error { return nil }

func (s *signUp) signUpAll(ctx context.Context) error {
	for _, email := range []string{"ada@example.com", "grace@example.com", "mallory@example.com"} {
		user, err := s.register(ctx, email)
		if err != nil {
			return err
		}
		s.userIDs = append(s.userIDs, user.ID)
		// Run enqueues in a transaction of its own: when it returns, the task is durable.
		id, err := s.charge.Run(ctx, s.client, &ChargeParams{UserID: user.ID, Cents: 900})
		if err != nil {
			return err
		}
		s.enqueue(id, s.charge.Name(), "enqueued")
	}
	if _, err := s.register(ctx, "no address"); !errors.Is(err, errNoAddress) {
		return fmt.Errorf("a sign-up without an address: got the error %v", err)
	}
	s.life.say("rolled back a sign-up: there is neither its user nor its task")
	return s.askLater(ctx, s.userIDs[0])
}

var errNoAddress = errors.New("this is no email address")

// register adds a user and the task that welcomes them in one transaction: there are both or none.
func (s *signUp) register(ctx context.Context, email string) (User, error) {
	var user User
	var id int64
	err := s.users.InTx(ctx, func(tx pgx.Tx) (err error) {
		if user, err = s.users.Add(ctx, tx, email); err != nil {
			return err
		}
		id, err = s.welcome.RunWithTx(ctx, s.client, tx, &WelcomeParams{UserID: user.ID, TemplateID: "welcome"})
		if err != nil {
			return err
		}
		if !strings.Contains(email, "@") {
			return errNoAddress // late on purpose: the task is enqueued already
		}
		return nil
	})
	if err == nil {
		s.enqueue(id, s.welcome.Name(), "enqueued in one transaction with its user, "+email)
	}
	return user, err
}

// askLater enqueues a delayed task, twice: the tag allows one of them.
func (s *signUp) askLater(ctx context.Context, userID int32) error {
	options := []anchor.RunOption{
		anchor.WithDelay(time.Second),
		anchor.WithUniqueTag(fmt.Sprintf("quickstart/follow-up/%d", userID), anchor.UniqueWhileLive),
	}
	id, err := s.followUp.Run(ctx, s.client, &FollowUpParams{UserID: userID}, options...)
	if err != nil {
		return err
	}
	s.enqueue(id, s.followUp.Name(), "enqueued, due in a second, with a unique tag")

	_, err = s.followUp.Run(ctx, s.client, &FollowUpParams{UserID: userID}, options...)
	var exists *anchor.TaskExistsError
	if !errors.As(err, &exists) { // or errors.Is(err, anchor.ErrTaskAlreadyExists)
		return fmt.Errorf("a second task of one tag: got the error %v", err)
	}
	s.life.say(fmt.Sprintf("refused a second follow-up: task %d has its tag", exists.ID))
	return nil
}

func (s *signUp) enqueue(id int64, name, text string) {
	s.enqueued = append(s.enqueued, id)
	s.life.tell(id, name, text)
}

// follow tells how each task ends. Wait looks at intervals of up to half a second, so that is when it tells.
func (s *signUp) follow(ctx context.Context) error {
	s.ended = make([]*anchor.TaskInfo, len(s.enqueued))
	errs := make([]error, len(s.enqueued))
	var all sync.WaitGroup
	for i, id := range s.enqueued {
		all.Go(func() {
			if s.ended[i], errs[i] = s.client.Wait(ctx, id); errs[i] == nil {
				s.life.tell(id, s.ended[i].Name, string(s.ended[i].Status))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s *signUp) summary(ctx context.Context, out io.Writer) error {
	attempts, byStatus := 0, map[anchor.Status]int{}
	for _, info := range s.ended {
		attempts += info.Attempts
		byStatus[info.Status]++
	}
	fmt.Fprintf(out, "  %d tasks: %d completed, %d failed for good, in %d attempts\n",
		len(s.ended), byStatus[anchor.StatusCompleted], byStatus[anchor.StatusFailed], attempts)
	return s.users.InTx(ctx, func(tx pgx.Tx) error {
		for _, id := range s.userIDs {
			user, err := s.users.Find(ctx, tx, id)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "  user %s: welcomed %t, suspended %t\n", user.Email, user.Welcomed, user.Suspended)
		}
		return nil
	})
}
