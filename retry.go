package anchor

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	defaultRetryInterval = "1s,5s,30s,2m,10m,30m,1h"
	defaultMaxAttempts   = 10
	unlimitedAttempts    = -1

	// maxBackoff bounds the distance to the next attempt, so that no arithmetic on times overflows.
	maxBackoff = 365 * 24 * time.Hour

	// jitterFraction is how much of an interval is added at random, at most: tasks that failed together
	// spread over a fifth of their interval.
	jitterFraction = 0.2
)

// retryPolicy is a parsed interval list: text as the user wrote it, and what it means.
type retryPolicy struct {
	text      string
	intervals []time.Duration
}

// parseRetryPolicy reads "5m" or "1m,2m,4m": one or more positive durations, the last of which repeats.
func parseRetryPolicy(text string) (retryPolicy, error) {
	parts := strings.Split(text, ",")
	intervals := make([]time.Duration, 0, len(parts))
	for i, part := range parts {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		switch {
		case err != nil:
			return retryPolicy{}, fmt.Errorf("interval %s: entry %d is not a duration such as \"5m\"", quotedShort(text), i+1)
		case d <= 0:
			return retryPolicy{}, fmt.Errorf("interval %s: entry %d is not positive", quotedShort(text), i+1)
		case d > maxBackoff:
			return retryPolicy{}, fmt.Errorf("interval %s: entry %d is longer than a year", quotedShort(text), i+1)
		}
		intervals = append(intervals, d)
	}
	return retryPolicy{text: text, intervals: intervals}, nil
}

// backoff is the distance from a failed attempt (the first is 1) to the next one, with jitter added:
// random is in [0, 1).
func (p retryPolicy) backoff(attempt int, random float64) time.Duration {
	i := min(max(attempt-1, 0), len(p.intervals)-1)
	return withJitter(p.intervals[i], random)
}

func withJitter(d time.Duration, random float64) time.Duration {
	return d + time.Duration(random*jitterFraction*float64(d))
}

// jitter is the source of every policy's randomness in a worker.
func jitter() float64 { return rand.Float64() }

// fatalError marks a failure that no retry can mend.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// Fatal marks err as final: a handler that returns it (wrapped or not) is not retried, whatever its policy
// says; the task fails now and its failure hook runs. The message and the chain of err are kept.
// Fatal(nil) is nil.
func Fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

// retryAfterError carries the distance to the next attempt.
type retryAfterError struct {
	after time.Duration
	err   error
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryAfter marks err with the distance to the next attempt: a handler that returns it (wrapped or not) has
// failed this attempt, and the next one is due after d instead of what the policy says, without jitter. It
// counts as an attempt; after the last one the task fails for good. A negative d counts as 0, and more than
// a year counts as a year. A nil err is given a message of its own.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("retry asked for by the handler")
	}
	return &retryAfterError{after: min(max(d, 0), maxBackoff), err: err}
}

// nextAttempt tells what follows a failed attempt: when to try again, or that this was the last one.
func nextAttempt(f attemptFailure, p retryPolicy, attempt, maxAttempts int, random float64) (after time.Duration, final bool) {
	switch {
	case f.fatal, maxAttempts != unlimitedAttempts && attempt >= maxAttempts:
		return 0, true
	case f.spread: // what a server asked of many at once
		return withJitter(f.after, random), false
	case f.asked:
		return f.after, false
	}
	return p.backoff(attempt, random), false
}

// askedFor is the distance to the next attempt that err carries, if it carries one; spread, if a server asked many for it.
func askedFor(err error) (after time.Duration, asked, spread bool) {
	var by *retryAfterError
	if errors.As(err, &by) {
		return by.after, true, false
	}
	var response *ResponseError
	if errors.As(err, &response) && response.RetryAfter > 0 {
		return response.RetryAfter, true, true
	}
	return 0, false, false
}
