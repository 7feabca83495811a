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

// logMail is a handler that writes through its tx.
func logMail(ctx context.Context, tx pgx.Tx, p *MailParams) error {
	_, err := tx.Exec(ctx, "insert into mails values ($1)", p.To)
	return err
}

func ExampleHarness_Begin() {
	mail := anchor.Define("SendMail", sendMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			tx := h.Begin() // pool.Begin in the program
			_, err := mail.RunWithTx(t.Context(), h.Client, tx, &MailParams{To: "ada"})
			check(err)
			fmt.Println(len(anchortest.Enqueued(h, mail)), "enqueued before the commit")
			check(tx.Commit(t.Context()))
			fmt.Println(len(anchortest.Enqueued(h, mail)), "enqueued after it")
		}, mail)
	})
	// Output:
	// 0 enqueued before the commit
	// 1 enqueued after it
}

func ExampleHarness_Executed() {
	mail := anchor.Define("SendMail", logMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
			for _, statement := range h.Executed() {
				fmt.Println(statement)
			}
		}, mail)
	})
	// Output: insert into mails values ($1) [ada]
}

func ExampleHarness_RolledBack() {
	mail := anchor.Define("SendMail", func(ctx context.Context, tx pgx.Tx, p *MailParams) error {
		return errors.Join(logMail(ctx, tx, p), errors.New("the mail server is down"))
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
			fmt.Println("executed:", h.Executed())
			fmt.Println("rolled back:", h.RolledBack())
		}, mail)
	})
	// Output:
	// executed: []
	// rolled back: [insert into mails values ($1) [ada]]
}

func ExampleRequireNothingWritten() {
	mail := anchor.Define("SendMail", logMail)
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			anchortest.RequireNothingWritten(t, h)
			h.Drain()
			printFailure(t, func(t testing.TB) { anchortest.RequireNothingWritten(t, h) })
		}, mail)
	})
	// Output:
	// anchortest: these statements were committed:
	//   insert into mails values ($1) [ada]
}

func ExampleHarness_Answer() {
	mail := anchor.Define("SendMail", func(ctx context.Context, tx pgx.Tx, p *MailParams) error {
		var address string
		if err := tx.QueryRow(ctx, "select address from users where name = $1", p.To).Scan(&address); err != nil {
			return err
		}
		fmt.Println("mail to", address)
		return nil
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.Answer("from users", []any{"ada@example.com"}) // a row for each further argument
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
		}, mail)
	})
	// Output: mail to ada@example.com
}

func ExampleColumns() {
	type user struct{ Name, Address string }
	mail := anchor.Define("SendMail", func(ctx context.Context, tx pgx.Tx, p *MailParams) error {
		found, err := tx.Query(ctx, "select name, address from users where name = $1", p.To)
		if err != nil {
			return err
		}
		to, err := pgx.CollectExactlyOneRow(found, pgx.RowToStructByName[user])
		fmt.Println("mail to", to.Address)
		return err
	})
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			h.Answer("from users", anchortest.Columns("name", "address"), []any{"ada", "ada@example.com"})
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			h.Drain()
		}, mail)
	})
	// Output: mail to ada@example.com
}

func ExampleHarness_FailStatement() {
	mail := anchor.Define("SendMail", logMail, anchor.WithRetryPolicy("1m", 1))
	asTest(func(t *testing.T) {
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			full := errors.New("the disk is full")
			h.FailStatement("insert into mails", full)
			_, err := mail.Run(t.Context(), h.Client, &MailParams{To: "ada"})
			check(err)
			fmt.Println(h.Drain().Failed, "failed")
			anchortest.RequireFailed(t, h, mail, full)
		}, mail)
	})
	// Output: 1 failed
}

func ExampleStatement() {
	statement := anchortest.Statement{TaskID: 1, SQL: "delete from mails where id = $1", Args: []any{7}}
	fmt.Println(statement.SQL)
	fmt.Println(statement.Args...)
	// Output:
	// delete from mails where id = $1
	// 7
}

func ExampleStatement_String() {
	fmt.Println(anchortest.Statement{SQL: "delete from mails where id = $1", Args: []any{7}})
	fmt.Println(anchortest.Statement{SQL: "delete from mails"})
	// Output:
	// delete from mails where id = $1 [7]
	// delete from mails
}
