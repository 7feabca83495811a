package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor"
)

// The exit codes; the text about describes them.
const (
	exitDone        = 0
	exitOther       = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitNotMigrated = 4
	exitNotFound    = 5
	exitRefused     = 6
	exitInterrupted = 130
)

var errTimeout = errors.New("the timeout is over")

// usageError is a mistake in the command line or the environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// unreachableError is a connection that was not made.
type unreachableError struct{ error }

func (e unreachableError) Unwrap() error { return e.error }

// toldError has been told already; it is here for its exit code.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// verdict is the exit code for an error, and the line that tells of it.
func (a *app) verdict(ctx context.Context, err error) (code int, text string) {
	code, text = a.judge(ctx, err)
	if errors.As(err, new(toldError)) {
		text = ""
	}
	return code, text
}

func (a *app) judge(ctx context.Context, err error) (int, string) {
	var connecting *pgconn.ConnectError
	switch {
	case errors.As(err, new(usageError)):
		return exitUsage, bareText(err)
	case ctx.Err() != nil:
		return exitInterrupted, "interrupted"
	case errors.As(err, &connecting):
		return exitUnreachable, "cannot connect to the database: " + bareText(connecting)
	case errors.As(err, new(unreachableError)) && errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable, fmt.Sprintf("cannot connect to the database: no answer within %v (--timeout)", a.timeout)
	case errors.As(err, new(unreachableError)):
		return exitUnreachable, "cannot connect to the database: " + bareText(err)
	case errors.Is(err, anchor.ErrNotMigrated):
		return exitNotMigrated, strings.Replace(bareText(err), ": call Migrate", `: run "anchor migrate"`, 1)
	case errors.Is(err, anchor.ErrTaskNotFound), errors.Is(err, anchor.ErrCronNotFound):
		return exitNotFound, bareText(err)
	case errors.Is(err, anchor.ErrTaskNotCancellable), errors.Is(err, anchor.ErrTaskNotRetryable), errors.Is(err, anchor.ErrTaskAlreadyExists):
		return exitRefused, bareText(err)
	case errors.Is(err, context.DeadlineExceeded):
		return exitOther, fmt.Sprintf("the database did not answer within %v (--timeout): %s", a.timeout, bareText(err))
	}
	return exitOther, bareText(err)
}

// bareText is an error in one line, without the library's prefixes and without passwords.
func bareText(err error) string { return oneLine(strings.ReplaceAll(err.Error(), "anchor: ", "")) }

var (
	spaces  = regexp.MustCompile(`\s*\n\s*`)
	secrets = regexp.MustCompile(`://[^\s/@]*:\S*@|(?i:password)\s*=\s*('[^']*'|\S+)`)
)

func oneLine(text string) string {
	return clean(secrets.ReplaceAllStringFunc(spaces.ReplaceAllString(strings.TrimSpace(text), " "), func(secret string) string {
		if secret == "://user:password@" { // that of the examples
			return secret
		}
		return "..."
	}))
}

// looksSecret tells of what may be the address of a database.
func looksSecret(text string) bool {
	return strings.Contains(text, "://") || strings.Contains(strings.ToLower(text), "password")
}
