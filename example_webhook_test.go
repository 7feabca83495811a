package anchor_test

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
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

const webhookSecret = "read it from the environment"

// Final failures are posted to an endpoint, which verifies who they are from.
func ExampleWebhookOnFailed() {
	received := make(chan anchor.WebhookBody)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2<<20))
		if err != nil {
			return
		}
		mac := hmac.New(sha256.New, []byte(webhookSecret))
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
		signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if !hmac.Equal([]byte(signature), []byte(r.Header.Get("Webhook-Signature"))) {
			http.Error(w, "not ours", http.StatusForbidden)
			return
		}
		var failure anchor.WebhookBody
		if err := json.Unmarshal(body, &failure); err == nil {
			received <- failure
		}
	}))
	defer endpoint.Close()

	type Charge struct {
		Card string `json:"card"`
	}
	charge := anchor.Define("Charge",
		func(context.Context, pgx.Tx, *Charge) error { return anchor.Fatal(errors.New("the card was declined")) },
		anchor.WebhookOnFailed(endpoint.URL,
			anchor.WithWebhookSecret(webhookSecret),
			anchor.WithWebhookAllow("127.0.0.1"))) // this endpoint is not public

	client, err := anchor.New(anchor.NewMemoryStore(), anchor.WithTasks(charge), anchor.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- client.Work(ctx) }()
	if _, err := charge.Run(ctx, client, &Charge{Card: strings.Repeat("4", 16)}); err != nil {
		fmt.Println(err)
	}
	failure := <-received
	fmt.Printf("%s: %s %d after %d attempt: %s\n", failure.Event, failure.Task, failure.ID, failure.Attempts, failure.Error)
	stop()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	// Output: task.failed: Charge 1 after 1 attempt: the card was declined
}
