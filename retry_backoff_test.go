package anchor

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-retryablehttp"
)

func TestRetryBackoffIsAPolicy(t *testing.T) {
	t.Parallel()
	linear := func(least, _ time.Duration, attempt int, _ *http.Response) time.Duration {
		return least * time.Duration(attempt+1)
	}
	for name, c := range map[string]struct {
		options  []TaskOption
		interval string
		attempts int
	}{
		"doubling":      {[]TaskOption{RetryBackoff(retryablehttp.DefaultBackoff, time.Second, time.Minute)}, "1s,2s,4s,8s,16s,32s,1m", 10},
		"with attempts": {[]TaskOption{WithRetryPolicy("5m", 3), RetryBackoff(retryablehttp.DefaultBackoff, time.Minute, time.Minute)}, "1m", 3},
		"linear, bounded": {
			[]TaskOption{RetryBackoff(linear, time.Hour, 100*time.Hour)},
			"1h,2h,3h,4h,5h,6h,7h,8h,9h,10h,11h,12h,13h,14h,15h,16h,17h,18h,19h,20h,21h,22h,23h,24h,25h,26h,27h,28h,29h,30h,31h,32h", 10,
		},
		"beyond a year": {[]TaskOption{RetryBackoff(linear, maxBackoff, maxBackoff)}, "8760h", 10},
	} {
		options, err := resolveTaskOptions(c.options)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.interval, options.retry.text); diff != "" || options.maxAttempts != c.attempts {
			t.Errorf("%s: %d attempts, want %d; interval (-want +got):\n%s", name, options.maxAttempts, c.attempts, diff)
		}
	}
	jittered, err := resolveTaskOptions([]TaskOption{RetryBackoff(retryablehttp.LinearJitterBackoff, 800*time.Millisecond, 1200*time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range jittered.retry.intervals {
		if least := time.Duration(i+1) * 800 * time.Millisecond; d < least || d > least*3/2 {
			t.Errorf("jittered entry %d: %v", i, d)
		}
	}
}

func TestRetryBackoffOfOneRunIsStoredWithIt(t *testing.T) {
	t.Parallel()
	task := Define[noParams]("Any", nil)
	client, err := New(NewMemoryStore(), WithTasks(task))
	if err != nil {
		t.Fatal(err)
	}
	registered, options, err := client.resolve(task.def, []RunOption{RetryBackoff(retryablehttp.DefaultBackoff, time.Second, 4*time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	made, err := registered.newTask(&noParams{}, &options)
	if err != nil || string(made.attributes) != `{"retry":"1s,2s,4s"}` {
		t.Errorf("attributes %s, %v", made.attributes, err)
	}
}

func TestRetryBackoffMistakes(t *testing.T) {
	t.Parallel()
	for want, option := range map[string]TaskOption{
		"the backoff is nil": RetryBackoff(nil, time.Second, time.Minute),
		"0 < min <= max":     RetryBackoff(retryablehttp.DefaultBackoff, 0, time.Minute),
		"min <= max <=":      RetryBackoff(retryablehttp.DefaultBackoff, time.Minute, time.Second),
		"max <= 8760h0m0s":   RetryBackoff(retryablehttp.DefaultBackoff, time.Minute, 2*maxBackoff),
		"answers -1s after attempt 1, which is not positive": RetryBackoff(func(time.Duration, time.Duration, int, *http.Response) time.Duration { return -time.Second }, time.Second, time.Minute),
		"the backoff panicked": RetryBackoff(func(_, _ time.Duration, _ int, resp *http.Response) time.Duration {
			return time.Duration(resp.StatusCode)
		}, time.Second, time.Minute),
	} {
		_, err := New(NewMemoryStore(), WithTasks(Define[noParams]("Any", nil, option)))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "RetryBackoff(") {
			t.Errorf("error %v, want one of RetryBackoff with %q", err, want)
		}
	}
}
