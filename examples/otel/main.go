package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"

	"github.com/anchor-go/anchor"
)

type order struct {
	ID int64 `json:"id"`
}

// shop has a task that fails in its first attempt, and in its second one enqueues another in its own transaction.
type shop struct {
	client  *anchor.Client
	charge  *anchor.Task[order]
	receipt *anchor.Task[order]
}

func newShop(store anchor.Store, t anchor.Tracer, logger *slog.Logger) (*shop, error) {
	s := &shop{}
	s.charge = anchor.Define("Charge", s.chargeOrder, anchor.WithRetryPolicy("100ms", 3))
	s.receipt = anchor.Define("SendReceipt", func(context.Context, pgx.Tx, *order) error { return nil })
	var err error
	s.client, err = anchor.New(store, anchor.WithTasks(s.charge, s.receipt), anchor.WithTracer(t), anchor.WithLogger(logger))
	return s, err
}

func (s *shop) chargeOrder(ctx context.Context, tx pgx.Tx, o *order) error {
	if task, _ := anchor.TaskFromContext(ctx); task.Attempts == 1 {
		return errors.New("the bank does not answer")
	}
	_, err := s.receipt.RunWithTx(ctx, s.client, tx, o, anchor.WithUniqueTag(fmt.Sprintf("receipt-%d", o.ID)))
	return err
}

// run takes an order within a span of its own, as an HTTP handler would have it, works until the receipt is sent, and
// flushes the spans.
func run(ctx context.Context, store anchor.Store, out io.Writer, options ...otlptracehttp.Option) (err error) {
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("anchor-example"))))
	defer func() { err = errors.Join(err, provider.Shutdown(context.WithoutCancel(ctx))) }()

	if err := store.Migrate(ctx); err != nil {
		return err
	}
	s, err := newShop(store, newTracer(provider), slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		return err
	}
	id, err := s.takeOrder(ctx, provider)
	if err != nil {
		return err
	}
	return s.workUntilReceipt(ctx, id, out)
}

func (s *shop) takeOrder(ctx context.Context, provider *sdktrace.TracerProvider) (int64, error) {
	ctx, span := provider.Tracer("shop").Start(ctx, "POST /orders")
	defer span.End()
	return s.charge.Run(ctx, s.client, &order{ID: 1})
}

func (s *shop) workUntilReceipt(ctx context.Context, charged int64, out io.Writer) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.client.Work(working) }()
	err := s.awaitReceipt(ctx, charged, out)
	stop()
	return errors.Join(err, <-ended)
}

func (s *shop) awaitReceipt(ctx context.Context, charged int64, out io.Writer) error {
	charge, err := s.client.Wait(ctx, charged)
	if err != nil {
		return err
	}
	receipts, err := s.client.Tasks(ctx, anchor.TaskQuery{Name: "SendReceipt"})
	if err != nil {
		return err
	}
	if len(receipts) == 0 {
		return fmt.Errorf("the charge is %s, and there is no receipt", charge.Status)
	}
	receipt, err := s.client.Wait(ctx, receipts[0].ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "charge %s after %d attempts, receipt %s\n", charge.Status, charge.Attempts, receipt.Status)
	return nil
}

func main() {
	url := flag.String("database-url", "", "PostgreSQL to use instead of memory")
	collector := flag.String("collector", "http://localhost:4318/v1/traces", "OTLP/HTTP endpoint for traces")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var store anchor.Store = anchor.NewMemoryStore()
	if *url != "" {
		pool, err := pgxpool.New(ctx, *url)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer pool.Close()
		store = anchor.NewPGStore(pool)
	}
	if err := run(ctx, store, os.Stdout, otlptracehttp.WithEndpointURL(*collector)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
