package anchor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// attemptFailure is what an attempt failed with. The error is the handler's, and so are the methods that tell of it:
// they may panic, as that of a nil pointer does. So it is examined once, under guard, and not asked again.
type attemptFailure struct {
	err      error  // for the hook and for those who watch
	message  string // storable
	brief    string // the same without the stack of a panic
	kind     string // for the log: what kind of error it is, without its text, which may hold what parameters held
	fatal    bool
	deadline bool // a context's deadline is in its chain
	asked    bool // the handler has set the distance to the next attempt
	spread   bool // and it is jittered
	after    time.Duration
}

func examine(err error) attemptFailure {
	f := attemptFailure{err: err, message: cleanMessage(errorText(err)), kind: fmt.Sprintf("%T", err)}
	f.brief = f.message
	_ = guarded(func() { f.brief = cleanMessage(withoutStack(err)) })
	_ = guarded(func() { f.kind = errorKind(err) })
	_ = guarded(func() {
		var fatal *fatalError
		f.fatal = errors.As(err, &fatal)
	})
	_ = guarded(func() {
		f.after, f.asked, f.spread = askedFor(err)
	})
	_ = guarded(func() { f.deadline = errors.Is(err, context.DeadlineExceeded) })
	return f
}

// errorText is the text of an error, or says why it cannot be had.
func errorText(err error) (text string) {
	if value := guarded(func() { text = err.Error() }); value != nil {
		text = fmt.Sprintf("anchor: the text of this error of type %T cannot be had, asking for it panicked: %v", err, value)
	}
	return text
}

// guarded answers the value that f panicked with, nil when it did not.
func guarded(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

// errorKind is panic, goexit, timeout, lost worker, or the type of the innermost error.
func errorKind(err error) string {
	var panicked *panicError
	switch {
	case errors.As(err, &panicked):
		return "panic"
	case errors.Is(err, errGoexit):
		return "goexit"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	case errors.Is(err, errAttemptsLost):
		return "lost worker"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Sprintf("%T", err)
		}
		err = inner
	}
}
