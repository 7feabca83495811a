package anchor

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/jackc/pgx/v5"
)

const webhookEvent = "task.failed"

// WebhookBody is the JSON that a webhook of [WebhookOnFailed] posts.
type WebhookBody struct {
	// Event is "task.failed".
	Event string `json:"event"`
	// Delivery is the id of this delivery, the same in each of its attempts.
	Delivery int64 `json:"delivery"`
	// ID, Task and Queue are the failed task's id, name and queue.
	ID    int64  `json:"id"`
	Task  string `json:"task"`
	Queue string `json:"queue"`
	// Attempts is how many it has had.
	Attempts int `json:"attempts"`
	// Error is the last error's text, at most 16 KiB, without the stack of a panic.
	Error string `json:"error"`
	// FailedAt is when it failed, by its worker's clock.
	FailedAt time.Time `json:"failedAt"`
	// Params are the task's parameters if [WithWebhookParams] asks for them and they fit into a task beside the error.
	Params json.RawMessage `json:"params,omitempty"`
}

// webhookDelivery is what is stored of a delivery. Neither URL nor secret is: they are the declaration's.
type webhookDelivery struct {
	ID       int64           `json:"id"`
	Queue    string          `json:"queue"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"`
	FailedAt time.Time       `json:"failedAt"`
	Params   json.RawMessage `json:"params,omitempty"`
}

// webhookSender posts the failures of one task.
type webhookSender struct {
	*webhook
	task string
}

// prepare makes the delivery of a task that has failed for good, to be written with its status.
func (s *webhookSender) prepare(delivery *registeredTask, task *claimedTask, failure string) (*newTask, error) {
	params := &webhookDelivery{
		ID: task.id, Queue: task.queue, Attempts: int(task.attempt), Error: failure,
		FailedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	if s.withParams {
		params.Params = task.params
	}
	options := runOptions{taskPolicy: delivery.policy, trace: task.carrier()}
	prepared, err := delivery.newTask(params, &options)
	if err != nil && params.Params != nil {
		params.Params = nil
		prepared, err = delivery.newTask(params, &options)
	}
	return prepared, err
}

// withoutStack is the error's text; a stack is nothing to send out.
func withoutStack(err error) string {
	text := err.Error()
	var panicked *panicError
	if errors.As(err, &panicked) {
		text, _, _ = strings.Cut(text, "\n\n"+string(panicked.stack))
	}
	return text
}

// deliver is the handler of deliveries.
func (s *webhookSender) deliver(ctx context.Context, _ pgx.Tx, d *webhookDelivery) error {
	info, _ := TaskFromContext(ctx)
	body, err := json.Marshal(WebhookBody{
		Event: webhookEvent, Delivery: info.ID, ID: d.ID, Task: s.task, Queue: d.Queue,
		Attempts: d.Attempts, Error: d.Error, FailedAt: d.FailedAt, Params: d.Params,
	})
	if err != nil {
		return err
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), body)
	if err != nil {
		return withoutURL(err)
	}
	id := strconv.FormatInt(info.ID, 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "anchor")
	request.Header.Set("Idempotency-Key", id)
	s.sign(request.Header, id, time.Now(), body)
	response, err := s.client.Do(request)
	if response != nil {
		defer func() { _ = response.Body.Close() }()
		return CheckResponse(response)
	}
	return withoutURL(err)
}

// sign sets the headers of Standard Webhooks.
func (w *webhook) sign(header http.Header, id string, now time.Time, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	var signatures []string
	for _, secret := range w.secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if len(signatures) > 0 {
		header.Set("Webhook-Signature", strings.Join(signatures, " "))
	}
}

// withoutURL is err without the URL, whose path may be a secret.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	return fmt.Errorf("anchor: posting to the webhook: %w", err)
}
