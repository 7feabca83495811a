package anchor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestCheckResponse(t *testing.T) {
	t.Parallel()
	const inTenMinutes = "in ten minutes"
	for _, c := range []struct {
		status     int
		retryAfter string
		want       string // "" is no error
		least      time.Duration
	}{
		{200, "", "", 0},
		{204, "30", "", 0},
		{299, "", "", 0},
		{302, "30", "anchor: the server answered 302 Found", 0},
		{404, "30", "anchor: the server answered 404 Not Found", 0},
		{429, "30", "anchor: the server answered 429 Too Many Requests, retry after 30s", 30 * time.Second},
		{429, " 30 ", "anchor: the server answered 429 Too Many Requests, retry after 30s", 30 * time.Second},
		{503, "120", "anchor: the server answered 503 Service Unavailable, retry after 2m0s", 2 * time.Minute},
		{503, "3601", "anchor: the server answered 503 Service Unavailable, retry after 1h0m0s", time.Hour},
		{429, "18446744073709551616", "anchor: the server answered 429 Too Many Requests, retry after 1h0m0s", time.Hour},
		{429, "9223372036854775807", "anchor: the server answered 429 Too Many Requests, retry after 1h0m0s", time.Hour},
		{429, "Fri, 31 Dec 9999 23:59:59 GMT", "anchor: the server answered 429 Too Many Requests, retry after 1h0m0s", time.Hour},
		{429, "Fri, 31 Dec 1999 23:59:59 GMT", "anchor: the server answered 429 Too Many Requests", 0},
		{429, "0", "anchor: the server answered 429 Too Many Requests", 0},
		{429, "-5", "anchor: the server answered 429 Too Many Requests", 0},
		{429, "soon", "anchor: the server answered 429 Too Many Requests", 0},
		{500, "30", "anchor: the server answered 500 Internal Server Error", 0},
		{799, "", "anchor: the server answered 799", 0},
		{429, inTenMinutes, "*", 9 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.retryAfter), func(t *testing.T) {
			t.Parallel()
			if c.retryAfter == inTenMinutes {
				c.retryAfter = time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat)
			}
			err := CheckResponse(&http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {c.retryAfter}}})
			if c.want == "" {
				if err != nil {
					t.Errorf("error %v, want none", err)
				}
				return
			}
			var failed *ResponseError
			if !errors.As(err, &failed) || failed.StatusCode != c.status || failed.RetryAfter < c.least || failed.RetryAfter > c.least+time.Minute {
				t.Fatalf("error %#v, want a *ResponseError of %d and %v", err, c.status, c.least)
			}
			if c.want != "*" && (err.Error() != c.want || failed.RetryAfter != c.least) {
				t.Errorf("error %q and %v, want %q and %v", err, failed.RetryAfter, c.want, c.least)
			}
		})
	}
	if err := CheckResponse(nil); err == nil {
		t.Error("no error of a nil response")
	}
}

// What a server asks for comes before the policy, and behind what the handler asks for itself.
func TestRetryLogicHonoursResponses(t *testing.T) {
	t.Parallel()
	busy := &ResponseError{StatusCode: 429, RetryAfter: 10 * time.Minute}
	policy := mustParseRetry(t, "5s")
	type result struct {
		after time.Duration
		final bool
	}
	for name, c := range map[string]struct {
		err    error
		random float64
		want   result
	}{
		"asked":             {fmt.Errorf("wrapped: %w", busy), 0, result{10 * time.Minute, false}},
		"asked, jitter":     {busy, 1, result{12 * time.Minute, false}},
		"not asked":         {&ResponseError{StatusCode: 500}, 0, result{5 * time.Second, false}},
		"handler's own":     {RetryAfter(time.Second, busy), 1, result{time.Second, false}},
		"final by Fatal":    {Fatal(busy), 0, result{0, true}},
		"joined with other": {errors.Join(errNoLuck, busy), 0, result{10 * time.Minute, false}},
	} {
		after, final := nextAttempt(examine(c.err), policy, 1, 3, c.random)
		if diff := cmp.Diff(c.want, result{after, final}, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if after, final := nextAttempt(examine(busy), policy, 3, 3, 0); !final {
		t.Errorf("the last attempt is not final, but has another after %v", after)
	}
}

// A handler that calls a server and returns what CheckResponse says.
func TestHandlerReturnsCheckResponse(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		server := httptest.NewServer(answer(503, "Retry-After", "600"))
		defer server.Close()
		task := Define("Call", func(ctx context.Context, _ pgx.Tx, _ *noParams) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			return CheckResponse(response)
		}, WithRetryPolicy("1s", 3))
		client := rig.clientOf(store, task)
		rig.startWork(client)
		id := enqueue(rig, client, task, &noParams{})
		var info *TaskInfo
		eventually(t, "a failed attempt", func() bool {
			var err error
			if info, err = client.Task(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			return info.Status == StatusPending && len(info.Errors) == 1
		})
		if distance := info.NextRun.Sub(info.Errors[0].At); distance < 10*time.Minute-time.Second || distance > 12*time.Minute+time.Minute {
			t.Errorf("the next attempt is due after %v, want 10 to 12 minutes", distance)
		}
	})
}
