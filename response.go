package anchor

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a server may ask for, so that no header parks a task for years.
const maxRetryAfter = time.Hour

// ResponseError is an HTTP response that is no success, as [CheckResponse] saw it. It holds nothing of the request and
// nothing of the body.
type ResponseError struct {
	// StatusCode is the response's, such as 503.
	StatusCode int
	// RetryAfter is how long a 429 or a 503 asked to be left alone, an hour at most. 0: it did not ask.
	RetryAfter time.Duration
}

// Error writes "anchor: the server answered 503 Service Unavailable, retry after 30s".
func (e *ResponseError) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("anchor: the server answered %d %s", e.StatusCode, http.StatusText(e.StatusCode)))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", retry after %v", e.RetryAfter)
	}
	return text
}

// CheckResponse tells whether an HTTP response is a success: nil for a status from 200 to 299, a [*ResponseError] for any
// other. A handler that returns it, wrapped or not, has failed the attempt; the next one is due when the Retry-After of a
// 429 or 503 has passed (seconds or a date, clamped to an hour, jitter added), and as the task's policy says where there
// is none. [Fatal] around it ends the task instead. resp is neither read nor closed.
func CheckResponse(resp *http.Response) error {
	if resp == nil {
		return errors.New("anchor: CheckResponse: the response is nil")
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return nil
	}
	failed := &ResponseError{StatusCode: resp.StatusCode}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		failed.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return failed
}

// parseRetryAfter is 0 for what is no such header, and for what has passed already.
func parseRetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseUint(header, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
