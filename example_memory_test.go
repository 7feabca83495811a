package anchor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

type ChargeParams struct {
	Cents int `json:"cents"`
}

// newClient is a client of an empty store in memory.
func inMemory(tasks ...anchor.AnyTask) (*anchor.MemoryStore, *anchor.Client) {
	store := anchor.NewMemoryStore()
	client, err := anchor.New(store, anchor.WithTasks(tasks...), anchor.WithLogger(slog.New(slog.DiscardHandler)))
	check(err)
	return store, client
}

// workUntil works until the task has ended.
func workUntil(client *anchor.Client, id int64) *anchor.TaskInfo {
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- client.Work(ctx) }()
	task, err := client.Wait(ctx, id)
	stop()
	check(errors.Join(err, <-stopped))
	return task
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleTask_Run() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error {
		fmt.Println("charging", p.Cents)
		return nil
	})
	_, client := inMemory(charge)

	id, err := charge.Run(context.Background(), client, &ChargeParams{Cents: 900})
	check(err)
	fmt.Println(workUntil(client, id).Status)
	// Output:
	// charging 900
	// completed
}

func ExampleTask_RunWithTx() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error { return nil })
	store, client := inMemory(charge)
	ctx := context.Background()

	tx, err := store.Begin(ctx) // pool.Begin on PostgreSQL
	check(err)
	id, err := charge.RunWithTx(ctx, client, tx, &ChargeParams{Cents: 900})
	check(err)
	_, err = client.Task(ctx, id)
	fmt.Println(err)
	check(tx.Commit(ctx))
	task, err := client.Task(ctx, id)
	check(err)
	fmt.Println(task.Status)
	// Output:
	// anchor: no such task
	// pending
}

func ExampleTask_RunMany() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error { return nil })
	_, client := inMemory(charge)

	ids, err := charge.RunMany(context.Background(), client, []*ChargeParams{{Cents: 1}, {Cents: 2}, {Cents: 3}})
	check(err)
	fmt.Println(len(ids))
	// Output: 3
}

func ExampleTask_OnFailed() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error {
		return anchor.Fatal(errors.New("the card was declined")) // no retry mends this
	}).OnFailed(func(ctx context.Context, tx pgx.Tx, failure anchor.Failure, p *ChargeParams) error {
		// What is written through tx commits together with the status failed.
		fmt.Printf("attempt %d: %v\n", failure.Attempt, failure.Err)
		return nil
	})
	_, client := inMemory(charge)

	id, err := charge.Run(context.Background(), client, &ChargeParams{Cents: 900})
	check(err)
	fmt.Println(workUntil(client, id).Status)
	// Output:
	// attempt 1: the card was declined
	// failed
}

func ExampleWithRetryPolicy() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error {
		task, _ := anchor.TaskFromContext(ctx)
		if task.Attempts < 3 {
			return errors.New("the bank does not answer")
		}
		return nil
	}, anchor.WithRetryPolicy("1ms,5ms", 10))
	_, client := inMemory(charge)

	id, err := charge.Run(context.Background(), client, &ChargeParams{Cents: 900})
	check(err)
	task := workUntil(client, id)
	for _, e := range task.Errors {
		fmt.Println(e.Attempt, e.Message)
	}
	fmt.Println(task.Attempts, task.Status)
	// Output:
	// 1 the bank does not answer
	// 2 the bank does not answer
	// 3 completed
}

func ExampleWithUniqueTag() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error { return nil })
	_, client := inMemory(charge)
	ctx := context.Background()

	first, err := charge.Run(ctx, client, &ChargeParams{Cents: 900}, anchor.WithUniqueTag("invoice 12"))
	check(err)
	_, err = charge.Run(ctx, client, &ChargeParams{Cents: 900}, anchor.WithUniqueTag("invoice 12"))
	var exists *anchor.TaskExistsError
	fmt.Println(errors.Is(err, anchor.ErrTaskAlreadyExists), errors.As(err, &exists) && exists.ID == first)
	// Output: true true
}

func ExampleWithDelay() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error { return nil })
	_, client := inMemory(charge)
	ctx := context.Background()

	id, err := charge.Run(ctx, client, &ChargeParams{Cents: 900}, anchor.WithDelay(time.Hour))
	check(err)
	task, err := client.Task(ctx, id)
	check(err)
	fmt.Println(task.Status, task.NextRun.Sub(task.CreatedAt))
	// Output: pending 1h0m0s
}

func ExampleClient_Cancel() {
	charge := anchor.Define("Charge", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error { return nil })
	_, client := inMemory(charge)
	ctx := context.Background()

	id, err := charge.Run(ctx, client, &ChargeParams{Cents: 900})
	check(err)
	check(client.Cancel(ctx, id))
	task, err := client.Task(ctx, id)
	check(err)
	fmt.Println(task.Status)

	check(client.Retry(ctx, id)) // as if it had just been enqueued
	fmt.Println(workUntil(client, id).Status)
	// Output:
	// cancelled
	// completed
}

func ExampleNew() {
	// Mistakes of a declaration are reported here, each with its file and line.
	task := anchor.Define("", func(ctx context.Context, tx pgx.Tx, p *ChargeParams) error { return nil })
	_, err := anchor.New(anchor.NewMemoryStore(), anchor.WithTasks(task))
	fmt.Println(err != nil)
	// Output: true
}
