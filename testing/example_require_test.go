package anchortest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

func ExampleEnqueued() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.RunMany(t.Context(), h.Client, []*MailParams{{To: "ada"}, {To: "bob"}})
			check(err)
			for _, params := range anchortest.Enqueued(h, mail) { // each a *MailParams
				fmt.Println(params.To)
			}
		}, mail)
	})
	// Output:
	// ada
	// bob
}

func ExampleRequireEnqueued() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada", Topic: "welcome"}, anchor.WithQueue("mail"))
			check(err)
			anchortest.RequireEnqueued(t, h, mail, &MailParams{To: "ada"}) // whatever the topic is
			printFailure(t, func(t testing.TB) {
				anchortest.RequireEnqueued(t, h, mail, &MailParams{To: "bob"}, anchortest.InQueue("default"))
			})
		}, mail)
	})
	// Output:
	// anchortest: no such task SendMail is enqueued with InQueue("default")
	// the nearest of 1 pending:
	//   task 1, pending, in queue "mail"
	//     InQueue("default"): its queue is "mail"
	//     parameters (-want +got):
	//       &anchortest_test.MailParams{
	//     - 	To:    "bob",
	//     + 	To:    "ada",
	//       	Topic: "",
	//       }
}

func ExampleRequireNotEnqueued() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			anchortest.RequireNotEnqueued(t, h, mail)
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			printFailure(t, func(t testing.TB) { anchortest.RequireNotEnqueued(t, h, mail) })
		}, mail)
	})
	// Output:
	// anchortest: a task SendMail is enqueued:
	//   task 1, pending, in queue "default": {To:ada Topic:}
}

func ExampleMatch() {
	// Matches can be kept, and print what they ask for.
	for _, match := range []anchortest.Match{anchortest.InQueue("mail"), anchortest.DueWithin(time.Hour), anchortest.WithTag("welcome/7")} {
		fmt.Println(match)
	}
	// Output:
	// InQueue("mail")
	// DueWithin(1h0m0s)
	// WithTag("welcome/7")
}

func ExampleInQueue() {
	mail := anchor.Define("SendMail", sendMail, anchor.WithQueue("mail"))
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			anchortest.RequireEnqueued(t, h, mail, nil, anchortest.InQueue("mail"))
			anchortest.RequireNotEnqueued(t, h, mail, anchortest.InQueue("default"))
			fmt.Println("in its queue")
		}, mail)
	})
	// Output: in its queue
}

func ExampleDueWithin() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"}, anchor.WithDelay(time.Hour))
			check(err)
			anchortest.RequireEnqueued(t, h, mail, nil, anchortest.DueWithin(time.Hour))
			anchortest.RequireNotEnqueued(t, h, mail, anchortest.DueWithin(59*time.Minute))
			fmt.Println("due in an hour")
		}, mail)
	})
	// Output: due in an hour
}

func ExampleWithTag() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"}, anchor.WithUniqueTag("welcome/ada"))
			check(err)
			anchortest.RequireEnqueued(t, h, mail, nil, anchortest.WithTag("welcome/ada"))
			anchortest.RequireNotEnqueued(t, h, mail, anchortest.WithTag("welcome/bob"))
			fmt.Println("one welcome")
		}, mail)
	})
	// Output: one welcome
}

func ExampleRequireCompleted() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			printFailure(t, func(t testing.TB) { anchortest.RequireCompleted(t, h, mail) })
			h.Drain()
			anchortest.RequireCompleted(t, h, mail)
			fmt.Println("completed")
		}, mail)
	})
	// Output:
	// anchortest: no task SendMail has completed
	//   task 1 is pending after 0 attempts: no error
	// completed
}

var errNoMailbox = errors.New("no such mailbox")

func ExampleRequireFailed() {
	mail := anchor.Define("SendMail", func(_ context.Context, _ pgx.Tx, p *MailParams) error {
		return anchor.Fatal(fmt.Errorf("mail to %s: %w", p.To, errNoMailbox))
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
			anchortest.RequireFailed(t, h, mail, errNoMailbox) // by errors.Is
			printFailure(t, func(t testing.TB) { anchortest.RequireFailed(t, h, mail, context.DeadlineExceeded) })
		}, mail)
	})
	// Output:
	// anchortest: task SendMail has failed with
	//   mail to ada: no such mailbox
	// which is not
	//   context deadline exceeded
}

func ExampleRequireHookRan() {
	mail := anchor.Define("SendMail", func(context.Context, pgx.Tx, *MailParams) error { return anchor.Fatal(errNoMailbox) }).
		OnFailed(func(_ context.Context, _ pgx.Tx, failure anchor.Failure, p *MailParams) error {
			fmt.Printf("no mail to %s: %v\n", p.To, failure.Err)
			return nil
		})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
			anchortest.RequireHookRan(t, h, mail)
		}, mail)
	})
	// Output: no mail to ada: no such mailbox
}
