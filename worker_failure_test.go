package anchor_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// nilError is an error whose pointer is nil, so that its methods panic.
type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func (e *nilError) Unwrap() error { return errors.New(e.text) }

// rudeError panics whatever it is asked.
type rudeError struct{ list []int }

func (rudeError) Error() string    { panic("no text") }
func (rudeError) Unwrap() error    { panic("no cause") }
func (rudeError) Is(error) bool    { panic("no likeness") }
func (rudeError) As(any) bool      { panic("no type") }
func (e rudeError) String() string { return "rude" }

func TestErrorsWhoseMethodsPanicEndNothingButTheirAttempt(t *testing.T) {
	t.Parallel()
	var none *nilError
	errs := map[string]error{
		"a nil pointer": none, "rude": rudeError{[]int{1}}, "fatal": anchor.Fatal(none), "a panic": nil,
		"asked": anchor.RetryAfter(0, rudeError{}), "joined": errors.Join(none, rudeError{}),
	}
	type params struct {
		Case string `json:"case"`
	}
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		hooks := make(chan anchor.Failure, 2*len(errs))
		task := anchor.Define("Fails", func(_ context.Context, _ pgx.Tx, p *params) error {
			if p.Case == "a panic" {
				panic(rudeError{})
			}
			return errs[p.Case]
		}, anchor.WithRetryPolicy("1ms", 2)).OnFailed(func(_ context.Context, _ pgx.Tx, f anchor.Failure, p *params) error {
			hooks <- f
			if p.Case == "a panic" {
				panic(rudeError{})
			}
			return errs[p.Case]
		})
		client := newClient(t, store, task)
		startWorker(t, client)
		for name, err := range errs {
			id, runErr := task.Run(t.Context(), client, &params{name})
			if runErr != nil {
				t.Fatal(runErr)
			}
			info, waitErr := client.Wait(t.Context(), id)
			if waitErr != nil {
				t.Fatal(waitErr)
			}
			attempts := 2
			if name == "fatal" {
				attempts = 1
			}
			if info.Status != anchor.StatusFailed || info.Attempts != attempts || len(info.Errors) != attempts+1 {
				t.Errorf("%s: %s after %d attempts with %d errors, want failed after %d with one more of the hook", name, info.Status, info.Attempts, len(info.Errors), attempts)
				continue
			}
			for i, want := range []string{"panic", "failure hook: "} {
				if message := info.Errors[attempts-1+i].Message; !strings.Contains(message, want) || strings.TrimPrefix(message, want) == "" {
					t.Errorf("%s: error %q, want %q in it", name, message, want)
				}
			}
			if f := <-hooks; err != nil && name != "rude" && f.Err != err {
				t.Errorf("%s: the hook was given an error of type %T, want the handler's own", name, f.Err)
			}
		}
	})
}
