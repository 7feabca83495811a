package anchor

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

const (
	webhookSecretNew = "new-secret-0123456789"
	webhookSecretOld = "old-secret-0123456789"
	// webhookPath is as secret as those of chat services are.
	webhookPath = "/hooks/T0/path-is-secret"
)

// received is one request that a receiver had.
type received struct {
	header http.Header
	path   string
	body   string
}

// receiver is an HTTP server that answers the nth request by its nth script, and the last one from then on.
type receiver struct {
	url      string
	mu       sync.Mutex
	requests []received
}

func newReceiver(t *testing.T, scripts ...http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Errorf("reading the body of a request: %v", err)
		}
		r.mu.Lock()
		r.requests = append(r.requests, received{request.Header.Clone(), request.URL.Path, string(body)})
		n := len(r.requests)
		r.mu.Unlock()
		if len(scripts) > 0 {
			scripts[min(n, len(scripts))-1](w, request)
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // of scripts that hang
		server.Close()
	})
	r.url = server.URL + webhookPath
	return r
}

func (r *receiver) taken() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.requests...)
}

func answer(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func hang(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }

// verify is what a receiver does, written after the description in the documentation alone.
func verify(header http.Header, body, secret string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(header.Get("Webhook-Id") + "." + header.Get("Webhook-Timestamp") + "." + body))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, signature := range strings.Fields(header.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return true
		}
	}
	return false
}

type chargeParams struct {
	Card string `json:"card"`
}

var errDeclined = errors.New("the card was declined")

// defineCharge is a task that fails at once, with a webhook.
func defineCharge(url string, opts ...WebhookOption) *Task[chargeParams] {
	return Define("Charge", func(context.Context, pgx.Tx, *chargeParams) error { return Fatal(errDeclined) },
		WebhookOnFailed(url, append(opts, WithWebhookAllow("127.0.0.1"))...))
}

// deliveries are the tasks that deliver, in order.
func deliveries(t testing.TB, client *Client) []*TaskInfo {
	t.Helper()
	tasks, err := client.Tasks(t.Context(), TaskQuery{Queue: "anchor.webhooks"})
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// delivered waits for the end of the only delivery.
func (r *pgRig) delivered(client *Client) *TaskInfo {
	r.t.Helper()
	var found []*TaskInfo
	eventually(r.t, "a delivery", func() bool { found = deliveries(r.t, client); return len(found) > 0 })
	if len(found) != 1 {
		r.t.Fatalf("%d deliveries, want 1", len(found))
	}
	return r.ended(client, found[0].ID)
}

// onEachStore runs test for each store, as a rig whose log is that of the subtest.
func onEachStore(t *testing.T, test func(t *testing.T, rig *pgRig, store Store)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		rig := newPG(t)
		test(t, rig, rig.store)
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, &pgRig{t: t, logs: &testLog{}}, NewMemoryStore())
	})
}

func TestWebhookPostsTheFailureSigned(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver := newReceiver(t)
		client := rig.clientOf(store, defineCharge(receiver.url, WithWebhookSecret(webhookSecretNew, webhookSecretOld)))
		rig.startWork(client)
		began := time.Now().Truncate(time.Second)
		id, err := client.run(t.Context(), client.tasks["Charge"].taskDefinition, &chargeParams{canary}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rig.ended(client, id)
		delivery := rig.delivered(client)
		if delivery.Status != StatusCompleted || delivery.Name != "anchor.webhook/Charge" || delivery.MaxAttempts != 12 {
			t.Errorf("delivery %+v", delivery)
		}
		requests := receiver.taken()
		if len(requests) != 1 {
			t.Fatalf("%d requests, want 1", len(requests))
		}
		got := requests[0]
		key := strconv.FormatInt(delivery.ID, 10)
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Idempotency-Key": key, "Webhook-Id": key, "User-Agent": "anchor",
		} {
			if value := got.header.Get(name); value != want {
				t.Errorf("header %s: %q, want %q", name, value, want)
			}
		}
		if got.path != webhookPath {
			t.Errorf("path %q", got.path)
		}
		for secret, want := range map[string]bool{webhookSecretNew: true, webhookSecretOld: true, "another-secret-012345": false} {
			if verify(got.header, got.body, secret) != want {
				t.Errorf("verified with %q: %v", secret, !want)
			}
		}
		if verify(got.header, got.body+" ", webhookSecretNew) {
			t.Error("another body is verified, too")
		}
		if seconds, err := strconv.ParseInt(got.header.Get("Webhook-Timestamp"), 10, 64); err != nil || time.Unix(seconds, 0).Before(began) || time.Unix(seconds, 0).After(time.Now()) {
			t.Errorf("timestamp %q, %v", got.header.Get("Webhook-Timestamp"), err)
		}
		var body map[string]any
		if err := json.Unmarshal([]byte(got.body), &body); err != nil {
			t.Fatal(err)
		}
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(body["failedAt"])); err != nil || at.Before(began) || at.After(time.Now()) {
			t.Errorf("failedAt %v, %v", body["failedAt"], err)
		}
		delete(body, "failedAt")
		want := map[string]any{
			"event": "task.failed", "delivery": float64(delivery.ID), "id": float64(id), "task": "Charge", "queue": "default",
			"attempts": float64(1), "error": errDeclined.Error(),
		}
		if diff := cmp.Diff(want, body); diff != "" {
			t.Errorf("body (-want +got):\n%s", diff)
		}
		kept := string(delivery.Params) + rig.logs.String()
		if rig.store != nil {
			kept += strings.Join(readAll[string](rig, "select t::text from anchor_tasks t where name like 'anchor.%'"), "\n")
		}
		for _, secret := range []string{webhookSecretNew, webhookSecretOld, webhookPath, canary} {
			if strings.Contains(kept, secret) {
				t.Errorf("%q is stored or logged: %s", secret, kept)
			}
		}
	})
}

func TestWebhookSendsParametersOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver := newReceiver(t)
		task := defineCharge(receiver.url, WithWebhookParams())
		client := rig.clientOf(store, task)
		rig.startWork(client)
		enqueue(rig, client, task, &chargeParams{canary})
		rig.delivered(client)
		var body WebhookBody
		if err := json.Unmarshal([]byte(receiver.taken()[0].body), &body); err != nil {
			t.Fatal(err)
		}
		var params chargeParams
		if err := json.Unmarshal(body.Params, &params); err != nil || params.Card != canary {
			t.Errorf("params %s, %v", body.Params, err)
		}
		if signature := receiver.taken()[0].header.Get("Webhook-Signature"); signature != "" {
			t.Errorf("signed %q without a secret", signature)
		}
	})
}

// Parameters that leave no room for the rest of the delivery are left out, and the failure is delivered all the same.
func TestWebhookLeavesOutParametersThatDoNotFit(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver := newReceiver(t)
		task := defineCharge(receiver.url, WithWebhookParams())
		client := rig.clientOf(store, task)
		rig.startWork(client)
		enqueue(rig, client, task, &chargeParams{strings.Repeat("x", 1<<20-20)})
		rig.delivered(client)
		var body WebhookBody
		if err := json.Unmarshal([]byte(receiver.taken()[0].body), &body); err != nil {
			t.Fatal(err)
		}
		if body.Params != nil || body.Error != errDeclined.Error() {
			t.Errorf("error %q and %d bytes of parameters, want none", body.Error, len(body.Params))
		}
	})
}

func TestWebhookErrorHasNoStack(t *testing.T) {
	t.Parallel()
	rig := &pgRig{t: t, logs: &testLog{}}
	receiver := newReceiver(t)
	task := Define("Panics", func(context.Context, pgx.Tx, *noParams) error { panic("broken") }, WithRetryPolicy("1ms", 1),
		WebhookOnFailed(receiver.url, WithWebhookAllow("127.0.0.1")))
	client := rig.clientOf(NewMemoryStore(), task)
	rig.startWork(client)
	enqueue(rig, client, task, &noParams{})
	rig.delivered(client)
	var body WebhookBody
	if err := json.Unmarshal([]byte(receiver.taken()[0].body), &body); err != nil || body.Error != "panic: broken" {
		t.Errorf("error %q, %v", body.Error, err)
	}
}

// quickDeliveries is a tasks.yaml that hurries the deliveries of Charge: the way of operators.
func quickDeliveries(t *testing.T, timeout string) ClientOption {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tasks.yaml")
	text := "tasks:\n  - name: anchor.webhook/Charge\n    timeout: " + timeout + "\n    retryPolicy: {interval: 1ms, maxAttempts: 9}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return WithTaskFile(path)
}

func TestWebhookIsRetriedUntilTheServerTakesIt(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		private := newReceiver(t)
		receiver := newReceiver(t, answer(500), answer(429, "Retry-After", "1"), hang, answer(302, "Location", private.url),
			answer(307, "Location", private.url), answer(404), answer(503), answer(204))
		task := defineCharge(receiver.url, WithWebhookSecret(webhookSecretNew))
		client, err := New(store, WithTasks(task), quickDeliveries(t, "500ms"), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
		if err != nil {
			t.Fatal(err)
		}
		rig.startWork(client, WithPollInterval(20*time.Millisecond))
		enqueue(rig, client, task, &chargeParams{canary})
		delivery := rig.delivered(client)
		if delivery.Status != StatusCompleted || delivery.Attempts != 8 {
			t.Errorf("%s after %d attempts, want completed after 8", delivery.Status, delivery.Attempts)
		}
		wants := []string{
			"answered 500 Internal Server Error", "answered 429 Too Many Requests, retry after 1s", "timeout",
			"answered 302 Found", "answered 307 Temporary Redirect", "answered 404 Not Found", "answered 503 Service Unavailable",
		}
		if len(delivery.Errors) != len(wants) {
			t.Fatalf("errors %v, want %d", delivery.Errors, len(wants))
		}
		for i, want := range wants {
			if message := delivery.Errors[i].Message; !strings.Contains(message, want) || strings.Contains(message, webhookPath) {
				t.Errorf("attempt %d: %q, want one with %q and without the path", i+1, message, want)
			}
		}
		requests := receiver.taken()
		if len(requests) != 8 {
			t.Fatalf("%d requests, want one an attempt, 8", len(requests))
		}
		for i, request := range requests {
			if request.body != requests[0].body || request.header.Get("Webhook-Id") != requests[0].header.Get("Webhook-Id") ||
				!verify(request.header, request.body, webhookSecretNew) {
				t.Errorf("request %d is another one than the first, or not signed", i+1)
			}
		}
		if got := private.taken(); len(got) > 0 {
			t.Errorf("%d requests went where a redirect pointed", len(got))
		}
	})
}

func TestWebhookHonoursRetryAfterWithinAnHour(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver := newReceiver(t, answer(429, "Retry-After", "99999999999999999999"))
		task := defineCharge(receiver.url)
		client := rig.clientOf(store, task)
		rig.startWork(client)
		enqueue(rig, client, task, &chargeParams{canary})
		var delivery *TaskInfo
		eventually(t, "a refused delivery", func() bool {
			found := deliveries(t, client)
			if len(found) != 1 || found[0].Status != StatusPending {
				return false
			}
			var err error
			if delivery, err = client.Task(t.Context(), found[0].ID); err != nil {
				t.Fatal(err)
			}
			return delivery.Status == StatusPending && len(delivery.Errors) == 1
		})
		distance := delivery.NextRun.Sub(delivery.Errors[0].At)
		if distance < time.Hour-time.Minute || distance > time.Hour+time.Hour/5+time.Minute {
			t.Errorf("the next attempt is due after %v, want an hour and a fifth at most", distance)
		}
	})
}
