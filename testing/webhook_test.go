package anchortest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

// A test of a program must not post to the program's receivers; that something would be posted is seen.
func TestHarnessDeliversNoWebhooks(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(server.Close)
	type params struct{}
	task := anchor.Define("Charge", func(context.Context, pgx.Tx, *params) error { return anchor.Fatal(errors.New("declined")) },
		anchor.WebhookOnFailed(server.URL, anchor.WithWebhookAllow("127.0.0.1")))
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		if _, err := task.Run(t.Context(), h.Client, &params{}); err != nil {
			t.Fatal(err)
		}
		if got := h.Drain(); got.Failed != 1 || got.Total() != 1 {
			t.Errorf("drained %+v, want one failure", got)
		}
		if got := h.Advance(24 * time.Hour); got.Total() != 0 {
			t.Errorf("a day later: %+v, want nothing", got)
		}
		deliveries, err := h.Client.Tasks(t.Context(), anchor.TaskQuery{Queue: "anchor.webhooks"})
		if err != nil || len(deliveries) != 1 || deliveries[0].Status != anchor.StatusPending || deliveries[0].Name != "anchor.webhook/Charge" {
			t.Errorf("deliveries %+v, %v; want a pending one", deliveries, err)
		}
	}, task)
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}
