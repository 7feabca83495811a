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

func ExampleHarness_Drain() {
	var h *anchortest.Harness
	var mail *anchor.Task[MailParams]
	mail = anchor.Define("SendMail", func(ctx context.Context, tx pgx.Tx, p *MailParams) error {
		fmt.Println("mail to", p.To)
		if p.To == "ada" {
			_, err := mail.RunWithTx(ctx, h.Client, tx, &MailParams{To: "bob"})
			return err
		}
		return nil
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, harness *anchortest.Harness) {
			h = harness
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			fmt.Printf("%+v\n", h.Drain())
		}, mail)
	})
	// Output:
	// mail to ada
	// mail to bob
	// {Completed:2 Failed:0 Retried:0 Snoozed:0 Cancelled:0 Lost:0}
}

func ExampleHarness_DrainOne() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.RunMany(t.Context(), h.Client, []*MailParams{{To: "ada"}, {To: "bob"}})
			check(err)
			for h.DrainOne().Total() > 0 {
				fmt.Println(len(anchortest.Enqueued(h, mail)), "left")
			}
		}, mail)
	})
	// Output:
	// 1 left
	// 0 left
}

func ExampleHarness_Advance() {
	began := time.Now()
	report := anchor.Define("SendReport", sendMail).Cron("0 9 * * *", &MailParams{To: "team"})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			fmt.Println(time.Now().UTC().Format(time.DateTime))
			fmt.Println(h.Advance(90*24*time.Hour).Completed, "reports")
			fmt.Println(time.Now().UTC().Format(time.DateTime))
		}, report)
	})
	fmt.Println("within a minute:", time.Since(began) < time.Minute)
	// Output:
	// 2000-01-01 00:00:00
	// 90 reports
	// 2000-03-31 00:00:00
	// within a minute: true
}

func ExampleHarness_AdvanceToNext() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"}, anchor.WithDelay(36*time.Hour))
			check(err)
			fmt.Println(h.AdvanceToNext().Completed, "completed at", time.Now().UTC().Format(time.DateTime))
		}, mail)
	})
	// Output: 1 completed at 2000-01-02 12:00:00
}

func ExampleHarness_Timeline() {
	mail := anchor.Define("SendMail", func(ctx context.Context, _ pgx.Tx, _ *MailParams) error {
		if task, _ := anchor.TaskFromContext(ctx); task.Attempts < 3 {
			return errors.New("the mail server is down")
		}
		return nil
	}, anchor.WithRetryPolicy("1m,1h", 5))
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Advance(24 * time.Hour)
			fmt.Print(h.Timeline()) // printed by itself when a test fails
		}, mail)
	})
	// Output:
	// task 1 SendMail
	//   +0s            enqueued
	//   +0s            claimed, attempt 1 of 5
	//   +0s            attempt failed: the mail server is down; due again at +1m8.117s
	//   +1m8.117s      claimed, attempt 2 of 5
	//   +1m8.117s      attempt failed: the mail server is down; due again at +1h6m40.316s
	//   +1h6m40.316s   claimed, attempt 3 of 5
	//   +1h6m40.316s   completed
}

func ExampleOutcomes() {
	mail := anchor.Define("SendMail", func(_ context.Context, _ pgx.Tx, p *MailParams) error {
		switch p.To {
		case "nobody":
			return anchor.Fatal(errors.New("no such mailbox"))
		case "grace":
			return anchor.RetryAfter(time.Hour, errors.New("greylisted"))
		case "eve":
			return errors.New("the mail server is down")
		}
		return nil
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.RunMany(t.Context(), h.Client, []*MailParams{{To: "ada"}, {To: "bob"}, {To: "nobody"}, {To: "grace"}, {To: "eve"}})
			check(err)
			fmt.Printf("%+v\n", h.Drain())
		}, mail)
	})
	// Output: {Completed:2 Failed:1 Retried:1 Snoozed:1 Cancelled:0 Lost:0}
}

func ExampleOutcomes_Total() {
	fmt.Println(anchortest.Outcomes{Completed: 2, Retried: 1}.Total(), "attempts")
	// Output: 3 attempts
}
