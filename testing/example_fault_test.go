package anchortest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

// announce is a handler that does something outside of its tx.
func announce(_ context.Context, _ pgx.Tx, p *MailParams) error {
	fmt.Println("mail to", p.To)
	return nil
}

func ExampleHarness_CrashNext() {
	mail := anchor.Define("SendMail", announce)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.CrashNext(mail)
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			outcomes := h.Drain()
			fmt.Println(outcomes.Lost, "lost,", outcomes.Completed, "completed")
		}, mail)
	})
	// Output:
	// mail to ada
	// mail to ada
	// 1 lost, 1 completed
}

func ExampleHarness_LoseLease() {
	var h *anchortest.Harness
	mail := anchor.Define("SendMail", func(ctx context.Context, _ pgx.Tx, _ *MailParams) error {
		if task, _ := anchor.TaskFromContext(ctx); task.Attempts > 1 {
			return nil
		}
		h.LoseLease()
		<-ctx.Done()
		fmt.Println("told to stop:", errors.Is(context.Cause(ctx), anchor.ErrClaimLost))
		return ctx.Err()
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
			h = harness
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			outcomes := h.Drain()
			fmt.Println(outcomes.Lost, "lost,", outcomes.Completed, "completed")
		}, mail)
	})
	// Output:
	// told to stop: true
	// 1 lost, 1 completed
}

func ExampleHarness_DuplicateDelivery() {
	mail := anchor.Define("SendMail", announce)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.DuplicateDelivery(mail)
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			outcomes := h.Drain()
			fmt.Println(outcomes.Completed, "completed,", outcomes.Lost, "lost")
		}, mail)
	})
	// Output:
	// mail to ada
	// mail to ada
	// 1 completed, 1 lost
}

func ExampleHarness_FailCommit() {
	mail := anchor.Define("SendMail", logMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.FailCommit(mail)
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			fmt.Println(h.Drain().Retried, "retried, executed:", h.Executed())
			fmt.Println(h.AdvanceToNext().Completed, "completed, executed:", h.Executed())
		}, mail)
	})
	// Output:
	// 1 retried, executed: []
	// 1 completed, executed: [insert into mails values ($1) [ada]]
}

func ExampleErrCommitFailed() {
	mail := anchor.Define("SendMail", sendMail, anchor.WithRetryPolicy("1m", 1))
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.FailCommit(mail)
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			fmt.Println(h.Drain().Failed, "failed")
			anchortest.RequireFailed(t, h, mail, anchortest.ErrCommitFailed)
		}, mail)
	})
	// Output: 1 failed
}

func ExampleRequireIdempotent() {
	sent := map[int64]string{} // by task, as the mail service knows them
	careful := anchor.Define("SendMail", func(ctx context.Context, _ pgx.Tx, p *MailParams) error {
		task, _ := anchor.TaskFromContext(ctx)
		sent[task.ID] = p.To
		return nil
	})
	total := 0
	careless := anchor.Define("CountMail", func(context.Context, pgx.Tx, *MailParams) error {
		total++
		return nil
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			anchortest.RequireIdempotent(t, h, careful, &MailParams{To: "ada"}, func() int { return len(sent) })
			printFailure(t, func(t testing.TB) {
				anchortest.RequireIdempotent(t, h, careless, &MailParams{To: "ada"}, func() int { return total })
			})
		}, careful, careless)
	})
	// Output:
	// anchortest: CountMail is not idempotent: a second delivery has changed this (-once +twice):
	//   int(
	// - 	1,
	// + 	2,
	//   )
}
