package anchortest_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

type MailParams struct {
	To    string `json:"to"`
	Topic string `json:"topic,omitempty"`
}

// sendMail is a handler whose mail is always sent.
func sendMail(context.Context, pgx.Tx, *MailParams) error { return nil }

// asTest is what go test does for a TestXxx: an example has no *testing.T. Should the test fail, that is printed,
// which fails the example.
func asTest(test func(t *testing.T)) {
	for name, value := range map[string]string{"test.v": "false", "test.run": "", "test.skip": ""} {
		before := flag.Lookup(name).Value.String()
		check(flag.Set(name, value))
		defer func() { check(flag.Set(name, before)) }()
	}
	ran := false // -count and -cpu are for the examples, not for this
	testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Test", F: func(t *testing.T) {
		if !ran {
			ran = true
			test(t)
		}
	}}})
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// printFailure prints what an assertion fails with, without the blanks by which cmp makes its text unlike itself.
func printFailure(t *testing.T, assert func(t testing.TB)) {
	for line := range strings.Lines(strings.ReplaceAll(failureOf(t, assert), "\u00a0", " ")) {
		fmt.Println(strings.TrimRight(line, " \n"))
	}
}

func ExampleRun() {
	mail := anchor.Define("SendMail", func(_ context.Context, _ pgx.Tx, p *MailParams) error {
		fmt.Println("mail to", p.To)
		return nil
	})
	asTest(func(t *testing.T) { // func TestSignUp(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"}) // in the program under test
			check(err)
			anchortest.RequireEnqueued(t, h, mail, &MailParams{To: "ada"})
			fmt.Println(h.Drain().Completed, "completed")
		}, mail)
	})
	// Output:
	// mail to ada
	// 1 completed
}

func ExampleHarness() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			// The client is like any other; only its worker runs when the harness says so.
			id, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
			task, err := h.Client.Task(t.Context(), id)
			check(err)
			fmt.Println(task.ID, task.Name, task.Status)
		}, mail)
	})
	// Output: 1 SendMail completed
}

func ExampleRunPostgres() {
	mail := anchor.Define("SendMail", func(ctx context.Context, tx pgx.Tx, p *MailParams) error {
		_, err := tx.Exec(ctx, "insert into mails values ($1)", p.To)
		return err
	})
	asTest(func(t *testing.T) {
		anchortest.RunPostgres(t, func(t *testing.T, h *anchortest.Harness, pool *pgxpool.Pool) {
			_, err := pool.Exec(t.Context(), "create table mails (recipient text)")
			check(err)
			_, err = mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			fmt.Println(h.Drain().Completed, "completed")

			var recipient string
			check(pool.QueryRow(t.Context(), "select recipient from mails").Scan(&recipient))
			fmt.Println("mail to", recipient)
		}, mail)
	})
	// Output:
	// 1 completed
	// mail to ada
}

func ExamplePostgres() {
	asTest(func(t *testing.T) {
		pool := anchortest.Postgres(t)
		var tasks int
		check(pool.QueryRow(t.Context(), "select count(*) from anchor_tasks").Scan(&tasks))
		fmt.Println(tasks, "tasks in a database of this test's own")
	})
	// Output: 0 tasks in a database of this test's own
}

func ExampleTestStore() {
	asTest(func(t *testing.T) {
		// A rule that is broken fails its subtest, which prints the rule.
		anchortest.TestStore(t, func(*testing.T) anchor.Store {
			fmt.Println("a store to test")
			return anchor.NewMemoryStore()
		})
	})
	// Output: a store to test
}
