package anchor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// backoffEntries is how many distances a [retryablehttp.Backoff] is asked for; the last one repeats.
const backoffEntries = 32

// RetryBackoff takes the distances between attempts from a [retryablehttp.Backoff], such as
// [retryablehttp.DefaultBackoff], which doubles from min up to max. backoff is asked once, here, for the first 32, without
// a response: what a server asks for is [CheckResponse]'s part. So the policy is a list as that of [WithRetryPolicy],
// jitter is added to it, and it stands in an exported tasks.yaml. The number of attempts stays as it is: 10, or what
// WithRetryPolicy says in front of this option. Defaults to the list of WithRetryPolicy.
func RetryBackoff(backoff retryablehttp.Backoff, min, max time.Duration) PolicyOption {
	retry, err := backoffPolicy(backoff, min, max)
	return policyOption{
		text: fmt.Sprintf("RetryBackoff(%v, %v)", min, max),
		set: func(p *taskPolicy) error {
			if err != nil {
				return err
			}
			p.retry = retry
			return nil
		},
		mark: func(o *runOptions) { o.retrySet = true },
	}
}

func backoffPolicy(backoff retryablehttp.Backoff, least, most time.Duration) (policy retryPolicy, err error) {
	switch {
	case backoff == nil:
		return retryPolicy{}, errors.New("the backoff is nil")
	case least <= 0 || least > most || most > maxBackoff:
		return retryPolicy{}, fmt.Errorf("0 < min <= max <= %v does not hold", maxBackoff)
	}
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("the backoff panicked: %v", value)
		}
	}()
	var entries []string
	for attempt := range backoffEntries {
		d := backoff(least, most, attempt, nil)
		if d <= 0 {
			return retryPolicy{}, fmt.Errorf("the backoff answers %v after attempt %d, which is not positive", d, attempt+1)
		}
		if d > 100*time.Millisecond {
			d = d.Round(time.Millisecond)
		}
		entries = append(entries, shortDuration(min(d, maxBackoff)))
	}
	for len(entries) > 1 && entries[len(entries)-1] == entries[len(entries)-2] {
		entries = entries[:len(entries)-1]
	}
	return parseRetryPolicy(strings.Join(entries, ","))
}
