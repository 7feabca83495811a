package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

// collector is an OTLP/HTTP endpoint that keeps the spans it is sent.
type collector struct {
	url   string
	mu    sync.Mutex
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collectorpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		answer, err := proto.Marshal(&collectorpb.ExportTraceServiceResponse{})
		if err == nil {
			_, err = w.Write(answer)
		}
		if err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// tree is each span below its parent, in order of their starts, indented, with its kind, attempt and outcome.
func (c *collector) tree(t *testing.T) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	children := map[string][]*tracepb.Span{}
	traces := map[string]bool{}
	for _, span := range c.spans {
		traces[hex.EncodeToString(span.GetTraceId())] = true
		parent := string(span.GetParentSpanId())
		children[parent] = append(children[parent], span)
	}
	if len(traces) != 1 {
		t.Errorf("%d traces, want 1", len(traces))
	}
	var text strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		spans := children[parent]
		for len(spans) > 0 {
			first := 0
			for i, span := range spans {
				if span.GetStartTimeUnixNano() < spans[first].GetStartTimeUnixNano() {
					first = i
				}
			}
			span := spans[first]
			spans = append(spans[:first:first], spans[first+1:]...)
			text.WriteString(indent + describe(span) + "\n")
			write(string(span.GetSpanId()), indent+"  ")
		}
	}
	write("", "")
	return text.String()
}

func describe(span *tracepb.Span) string {
	parts := []string{span.GetName(), strings.ToLower(strings.TrimPrefix(span.GetKind().String(), "SPAN_KIND_"))}
	for _, attribute := range span.GetAttributes() {
		switch attribute.GetKey() {
		case "anchor.attempt":
			parts = append(parts, "attempt "+string(rune('0'+attribute.GetValue().GetIntValue())))
		case "anchor.outcome":
			parts = append(parts, attribute.GetValue().GetStringValue())
		}
	}
	if span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		parts = append(parts, "error "+span.GetStatus().GetMessage())
	}
	return strings.Join(parts, ", ")
}

const wantTree = `POST /orders, internal
  enqueue Charge, producer
    run Charge, consumer, attempt 1, retried, error *errors.errorString
    run Charge, consumer, attempt 2, completed
      enqueue SendReceipt, producer
        run SendReceipt, consumer, attempt 1, completed
`

func checkTrace(t *testing.T, store anchor.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	collected := newCollector(t)
	var out bytes.Buffer
	if err := run(ctx, store, &out, otlptracehttp.WithEndpointURL(collected.url+"/v1/traces")); err != nil {
		t.Fatalf("%v, after:\n%s", err, out.String())
	}
	if want := "charge completed after 2 attempts, receipt completed\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("output %q, want it to end with %q", out.String(), want)
	}
	if diff := cmp.Diff(wantTree, collected.tree(t)); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}

func TestOneTraceAcrossEnqueueAttemptsAndFollowUpInMemory(t *testing.T) {
	t.Parallel()
	checkTrace(t, anchor.NewMemoryStore())
}

func TestOneTraceAcrossEnqueueAttemptsAndFollowUpOnPostgreSQL(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	checkTrace(t, anchor.NewPGStore(pool))
}

// A collector that is down costs spans, and no task.
func TestTasksRunWithoutACollector(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	down := httptest.NewServer(nil)
	down.Close()
	var out bytes.Buffer
	err := run(ctx, anchor.NewMemoryStore(), &out, otlptracehttp.WithEndpointURL(down.URL+"/v1/traces"))
	if err != nil || !strings.Contains(out.String(), "charge completed after 2 attempts, receipt completed") {
		t.Errorf("error %v, output %q", err, out.String())
	}
}
