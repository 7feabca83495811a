package anchor_test

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

type WelcomeParams struct {
	UserID     int32  `json:"userId" jsonschema:"minimum=1"`
	TemplateID string `json:"templateId"`
}

var SendWelcomeEmail = anchor.Define("SendWelcomeEmail", sendWelcomeEmail,
	anchor.WithDescription("Send a welcome email to a new user"),
	anchor.WithRetryPolicy("5m", 3),
	anchor.WithTimeout("30s"),
)

func sendWelcomeEmail(ctx context.Context, tx pgx.Tx, p *WelcomeParams) error {
	// ... send the email; what is written through tx commits together with the task's completion ...
	_, err := tx.Exec(ctx, "update users set welcomed = true where id = $1", p.UserID)
	return err
}

func run(ctx context.Context, pool *pgxpool.Pool) error {
	store := anchor.NewPGStore(pool) // or anchor.NewMemoryStore()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	client, err := anchor.New(store, anchor.WithTasks(SendWelcomeEmail))
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var id int32
		if err := tx.QueryRow(ctx, "insert into users default values returning id").Scan(&id); err != nil {
			return err
		}
		_, err := SendWelcomeEmail.RunWithTx(ctx, client, tx, &WelcomeParams{id, "welcome"}, anchor.WithDelay(time.Second))
		return err
	})
	if err != nil {
		return err
	}
	return client.Work(ctx) // until ctx is done
}
