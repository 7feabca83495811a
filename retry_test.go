package anchor

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustParseRetry(t *testing.T, text string) retryPolicy {
	t.Helper()
	policy, err := parseRetryPolicy(text)
	if err != nil {
		t.Fatalf("parseRetryPolicy(%q): %v", text, err)
	}
	return policy
}

// Each attempt's distance without jitter, and its bound with all of it.
func TestRetryPolicyTimes(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		text string
		want []time.Duration
	}{
		{"5m", []time.Duration{5 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
		{"1m,2m,4m,8m", []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 8 * time.Minute, 8 * time.Minute}},
		{" 1s , 500ms ", []time.Duration{time.Second, 500 * time.Millisecond, 500 * time.Millisecond}},
		{"1ns", []time.Duration{1, 1}},
		{"8760h", []time.Duration{maxBackoff, maxBackoff}},
		{defaultRetryInterval, []time.Duration{
			time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, time.Hour,
		}},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()

			policy := mustParseRetry(t, c.text)
			var got []time.Duration
			for attempt := range len(c.want) {
				least, most := policy.backoff(attempt+1, 0), policy.backoff(attempt+1, 1)
				got = append(got, least)
				if bound := least + least/5; most < bound-1 || most > bound {
					t.Errorf("attempt %d: at most %v, want %v", attempt+1, most, bound)
				}
				for range 100 {
					if d := policy.backoff(attempt+1, jitter()); d < least || d > most {
						t.Errorf("attempt %d: %v is not between %v and %v", attempt+1, d, least, most)
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("distances (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRetryPolicyTimesFarOut(t *testing.T) {
	t.Parallel()

	policy := mustParseRetry(t, "1m,2m")
	for _, c := range []struct {
		attempt int
		want    time.Duration
	}{{-1, time.Minute}, {0, time.Minute}, {1 << 30, 2 * time.Minute}} {
		if got := policy.backoff(c.attempt, 0); got != c.want {
			t.Errorf("attempt %d: %v, want %v", c.attempt, got, c.want)
		}
	}
}

// Tasks that failed together must not come back together.
func TestRetryJitterSpreads(t *testing.T) {
	t.Parallel()

	policy := mustParseRetry(t, "10m")
	var byQuarter [4]int
	const draws = 4000
	for range draws {
		extra := policy.backoff(1, jitter()) - 10*time.Minute
		byQuarter[min(3, extra/(30*time.Second))]++
	}
	for quarter, n := range byQuarter {
		if n < draws/8 {
			t.Errorf("quarter %d of the jitter has %d of %d draws", quarter, n, draws)
		}
	}
}

func TestNextAttempt(t *testing.T) {
	t.Parallel()

	type next struct {
		After time.Duration
		Final bool
	}
	policy := mustParseRetry(t, "1m,2m")
	plain := errors.New("plain")
	wrap := func(err error) error { return fmt.Errorf("outer: %w", err) }
	for _, c := range []struct {
		name                 string
		err                  error
		attempt, maxAttempts int
		want                 next
	}{
		{"first", plain, 1, 3, next{After: time.Minute}},
		{"second", plain, 2, 3, next{After: 2 * time.Minute}},
		{"last", plain, 3, 3, next{Final: true}},
		{"beyond the last", plain, 4, 3, next{Final: true}},
		{"only one", plain, 1, 1, next{Final: true}},
		{"unlimited", plain, 1_000_000, -1, next{After: 2 * time.Minute}},
		{"fatal", Fatal(plain), 1, 3, next{Final: true}},
		{"fatal, unlimited", Fatal(plain), 1, -1, next{Final: true}},
		{"fatal, wrapped", wrap(wrap(Fatal(plain))), 1, 3, next{Final: true}},
		{"fatal, joined", errors.Join(plain, Fatal(plain)), 1, 3, next{Final: true}},
		{"retry after", RetryAfter(7*time.Second, plain), 1, 3, next{After: 7 * time.Second}},
		{"retry after, wrapped", wrap(RetryAfter(7*time.Second, plain)), 2, 3, next{After: 7 * time.Second}},
		{"retry after, last", RetryAfter(7*time.Second, plain), 3, 3, next{Final: true}},
		{"retry after, unlimited", RetryAfter(7*time.Second, plain), 3, -1, next{After: 7 * time.Second}},
		{"retry after, negative", RetryAfter(-time.Second, plain), 1, 3, next{}},
		{"retry after, endless", RetryAfter(1<<63-1, plain), 1, 3, next{After: maxBackoff}},
		{"retry after, no error", RetryAfter(time.Second, nil), 1, 3, next{After: time.Second}},
		{"fatal in retry after", RetryAfter(time.Second, Fatal(plain)), 1, 3, next{Final: true}},
		{"retry after in fatal", Fatal(RetryAfter(time.Second, plain)), 1, 3, next{Final: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			after, final := nextAttempt(examine(c.err), policy, c.attempt, c.maxAttempts, 0)
			if diff := cmp.Diff(c.want, next{after, final}); diff != "" {
				t.Errorf("next attempt (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMarkedErrorsKeepTheirChain(t *testing.T) {
	t.Parallel()

	plain := errors.New("plain")
	for _, marked := range []error{Fatal(plain), RetryAfter(time.Second, plain)} {
		if !errors.Is(marked, plain) || marked.Error() != "plain" {
			t.Errorf("%v (%T) has lost what it marks", marked, marked)
		}
	}
	if err := Fatal(nil); err != nil {
		t.Errorf("Fatal(nil) is %v", err)
	}
	if err := RetryAfter(time.Second, nil); err == nil || err.Error() == "" {
		t.Errorf("RetryAfter(d, nil) is %v, want an error with a message", err)
	}
}
