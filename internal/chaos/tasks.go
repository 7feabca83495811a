//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

// TaskName is the name of the one task of worker processes.
const TaskName = "Chaos"

// Params say what a task does.
type Params struct {
	Key    string `json:"key"` // no two tasks that were enqueued share one
	Do     Deed   `json:"do"`
	Millis int    `json:"millis,omitempty"` // how long it takes
	Slow   int    `json:"slow,omitempty"`   // how much longer every attempt after the first takes
	Fails  int    `json:"fails,omitempty"`  // how many attempts fail before one succeeds, where that is the deed
	Note   bool   `json:"note,omitempty"`   // write each start of the handler to starts, at once
}

// Deed is what a handler does. Those that write do so through their transaction, to the table effects.
type Deed string

const (
	Write    Deed = "write"    // an effect
	NoOp     Deed = "no-op"    // nothing: it is completed in a batch
	Flaky    Deed = "flaky"    // an effect, then an error, as often as Fails says
	FlakyOp  Deed = "flaky-op" // the same without an effect
	Fail     Deed = "fail"     // an effect, then an error, each time
	HookFail Deed = "hook-fail"
	Hold     Deed = "hold" // the same, and then an attempt that waits for the end of its context; the next one returns
	Deaf     Deed = "deaf" // an effect, then nothing for Millis, without looking at the context

	ExitSelf Deed = "exit" // os.Exit
	KillSelf Deed = "kill" // SIGKILL
	Devour   Deed = "oom"  // more memory than there is

	Panic     Deed = "panic"
	NilMap    Deed = "nil-map"
	Goexit    Deed = "goexit"
	HookPanic Deed = "hook-panic"

	Swallow     Deed = "swallow"      // a statement fails, the handler says nothing
	RawCommit   Deed = "raw-commit"   // COMMIT as SQL
	RawRollback Deed = "raw-rollback" // ROLLBACK as SQL
	Deferred    Deed = "deferred"     // violates a constraint that is checked at COMMIT
	Timeout     Deed = "timeout"      // statement_timeout ends a statement
	Deadlock    Deed = "deadlock"     // with another one of its kind
	ReadOnly    Deed = "read-only"    // makes its transaction read only

	Bad Deed = "bad" // parameters that cannot be read
)

// outcomes are how a deed may end, and whether its effect is there then.
var outcomes = map[Deed]struct {
	statuses []string
	effect   bool // of a completed one
	hooks    bool // a failed one's hook leaves a row
}{
	Write:       {[]string{"completed"}, true, true},
	NoOp:        {[]string{"completed"}, false, true},
	Flaky:       {[]string{"completed"}, true, true},
	FlakyOp:     {[]string{"completed"}, false, true},
	Fail:        {[]string{"failed"}, false, true},
	HookFail:    {[]string{"failed"}, false, false},
	Hold:        {[]string{"completed"}, true, true},
	Deaf:        {[]string{"completed"}, true, true},
	ExitSelf:    {[]string{"failed"}, false, true},
	KillSelf:    {[]string{"failed"}, false, true},
	Devour:      {[]string{"failed"}, false, true},
	Panic:       {[]string{"failed"}, false, true},
	NilMap:      {[]string{"failed"}, false, true},
	Goexit:      {[]string{"failed"}, false, true},
	HookPanic:   {[]string{"failed"}, false, false},
	Swallow:     {[]string{"failed"}, false, true},
	RawCommit:   {[]string{"failed"}, false, true},
	RawRollback: {[]string{"failed"}, false, true},
	Deferred:    {[]string{"failed"}, false, true},
	Timeout:     {[]string{"failed"}, false, true},
	Deadlock:    {[]string{"completed"}, true, true},
	ReadOnly:    {[]string{"failed"}, false, true},
	Bad:         {[]string{"failed"}, false, false},
}

const (
	insertEffect = `insert into effects (task_id, attempt, key) values ($1, $2, $3)`
	insertHook   = `insert into hooks (task_id, attempt, key) values ($1, $2, $3)`
	insertStart  = `insert into starts (task_id, attempt, pid) values ($1, $2, $3)`
	insertWoken  = `insert into woken (task_id, attempt, pid, cause) values ($1, $2, $3, $4)`
)

var errAsked = errors.New("failed as asked")

// Define makes the task. A nil pool makes one to enqueue with only.
func Define(pool *pgxpool.Pool) *anchor.Task[Params] {
	var handler anchor.Handler[Params]
	if pool != nil {
		handler = func(ctx context.Context, tx pgx.Tx, p *Params) error { return handle(ctx, pool, tx, p) }
	}
	return anchor.Define(TaskName, handler, anchor.WithRetryPolicy("100ms", 50), anchor.WithTimeout("60s")).OnFailed(hook)
}

func hook(ctx context.Context, tx pgx.Tx, failure anchor.Failure, p *Params) error {
	if _, err := tx.Exec(ctx, insertHook, failure.TaskID, failure.Attempt, p.Key); err != nil {
		return err
	}
	switch p.Do {
	case HookFail:
		return errAsked
	case HookPanic:
		panic("a hook panics")
	}
	return nil
}

func handle(ctx context.Context, pool *pgxpool.Pool, tx pgx.Tx, p *Params) error {
	info, ok := anchor.TaskFromContext(ctx)
	if !ok {
		return errors.New("no task in the context")
	}
	if p.Note {
		if _, err := pool.Exec(context.WithoutCancel(ctx), insertStart, info.ID, info.Attempts, os.Getpid()); err != nil {
			return err
		}
	}
	switch p.Do {
	case NoOp, FlakyOp, RawCommit: // what is written before a COMMIT of one's own stays
	case ExitSelf:
		os.Exit(3)
	case KillSelf:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case Devour:
		return devour()
	default:
		if _, err := tx.Exec(ctx, insertEffect, info.ID, info.Attempts, p.Key); err != nil {
			return err
		}
	}
	if err := misbehave(ctx, tx, p.Do); err != nil {
		return err
	}
	switch p.Do {
	case Hold:
		switch {
		case info.Attempts <= p.Fails:
			return errAsked
		case info.Attempts > p.Fails+1:
			return nil
		}
		<-ctx.Done()
		_, _ = pool.Exec(context.WithoutCancel(ctx), insertWoken, info.ID, info.Attempts, os.Getpid(), context.Cause(ctx).Error())
		return ctx.Err()
	case Deaf:
		time.Sleep(time.Duration(p.Millis) * time.Millisecond)
	default:
		millis := p.Millis
		if info.Attempts > 1 {
			millis += p.Slow
		}
		if err := pass(ctx, millis); err != nil {
			return err
		}
	}
	if p.Do == Fail || p.Do == HookFail || p.Do == HookPanic || info.Attempts <= p.Fails && (p.Do == Flaky || p.Do == FlakyOp) {
		return errAsked
	}
	return nil
}

// pass takes its time, unless ctx ends.
func pass(ctx context.Context, millis int) error {
	if millis == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(millis) * time.Millisecond):
		return nil
	}
}

// misbehave is what handlers do that no handler should.
func misbehave(ctx context.Context, tx pgx.Tx, do Deed) error {
	var err error
	switch do {
	case Panic:
		panic("a handler panics")
	case NilMap:
		noMap()["x"]++
	case Goexit:
		runtime.Goexit()
	case Swallow:
		_, _ = tx.Exec(ctx, "select 1/0")
	case RawCommit:
		if _, err = tx.Exec(ctx, "select 1"); err == nil {
			_, err = tx.Exec(ctx, "commit")
		}
	case RawRollback:
		_, err = tx.Exec(ctx, "rollback")
	case Deferred:
		_, err = tx.Exec(ctx, "insert into deferred_ones (id) values (1), (1)")
	case Timeout:
		if _, err = tx.Exec(ctx, "set local statement_timeout = '20ms'"); err == nil {
			_, err = tx.Exec(ctx, "select pg_sleep(5)")
		}
	case Deadlock:
		first, second := 1, 2
		if rand.IntN(2) == 0 {
			first, second = 2, 1
		}
		if _, err = tx.Exec(ctx, "update locked set n = n + 1 where id = $1", first); err == nil {
			if _, err = tx.Exec(ctx, "select pg_sleep(0.01)"); err == nil {
				_, err = tx.Exec(ctx, "update locked set n = n + 1 where id = $1", second)
			}
		}
	case ReadOnly:
		_, err = tx.Exec(ctx, "set transaction read only")
	}
	return err
}

func noMap() map[string]int { return nil }

// devour asks for more memory than its process may have, and does not live on.
func devour() error {
	limit := syscall.Rlimit{Cur: 2 << 30, Max: 2 << 30}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		return err
	}
	var kept [][]byte
	for {
		kept = append(kept, make([]byte, 64<<20))
		if len(kept) > 1000 {
			return fmt.Errorf("%d pieces of memory, and still alive", len(kept))
		}
	}
}
