package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// WelcomeParams say whom to welcome, and how.
type WelcomeParams struct {
	UserID     int32  `json:"userId" jsonschema:"minimum=1" jsonschema_description:"The new user"`
	TemplateID string `json:"templateId" jsonschema:"enum=welcome,enum=welcome-back"`
}

// SendWelcomeEmail is tried three times, and says so when that was in vain.
var SendWelcomeEmail = anchor.Define("SendWelcomeEmail", sendWelcomeEmail,
	anchor.WithDescription("Send a welcome email to a new user"),
	anchor.WithRetryPolicy("5m", 3),
	anchor.WithTimeout("30s"),
).OnFailed(welcomeFailed)

// ThumbnailParams say what to make smaller. Its tags may be left out.
type ThumbnailParams struct {
	Image string   `json:"image" jsonschema:"format=uri"`
	Sizes []Size   `json:"sizes" jsonschema:"minItems=1,maxItems=5"`
	Tags  []string `json:"tags,omitempty"`
}

// Size is in pixels.
type Size struct {
	Width  uint16 `json:"width" jsonschema:"minimum=1"`
	Height uint16 `json:"height" jsonschema:"minimum=1"`
}

// MakeThumbnail has a queue of its own, so that a flood of images delays no email.
var MakeThumbnail = anchor.Define("MakeThumbnail", makeThumbnail,
	anchor.WithDescription("Make smaller copies of an image"),
	anchor.WithQueue("images"),
	anchor.WithPriority(10),
)

// diary is where the handlers write to.
var diary struct {
	sync.Mutex
	io.Writer
}

func note(format string, args ...any) {
	diary.Lock()
	defer diary.Unlock()
	fmt.Fprintf(diary.Writer, format+"\n", args...)
}

// unknownUser is one whose mail never arrives.
const unknownUser = 404

func sendWelcomeEmail(ctx context.Context, _ pgx.Tx, p *WelcomeParams) error {
	task, _ := anchor.TaskFromContext(ctx)
	note("SendWelcomeEmail %d: attempt %d of %d, queue %s, priority %d", p.UserID, task.Attempts, task.MaxAttempts, task.Queue, task.Priority)
	if p.UserID == unknownUser {
		return errors.New("no such user")
	}
	return nil
}

func welcomeFailed(_ context.Context, _ pgx.Tx, failure anchor.Failure, p *WelcomeParams) error {
	note("SendWelcomeEmail %d: failed for good after attempt %d: %v", p.UserID, failure.Attempt, failure.Err)
	return nil
}

func makeThumbnail(_ context.Context, _ pgx.Tx, p *ThumbnailParams) error {
	note("MakeThumbnail: %d sizes", len(p.Sizes))
	return nil
}

// run enqueues a few tasks, one of them with parameters that its type forbids, and works until they have ended.
func run(ctx context.Context, file string, out io.Writer) error {
	diary.Writer = out
	client, err := newClient(file)
	if err != nil {
		return err
	}
	if _, err := SendWelcomeEmail.Run(ctx, client, &WelcomeParams{UserID: 0, TemplateID: "wellcome"}); err != nil {
		note("refused: %v", err)
	}
	welcomed, err := SendWelcomeEmail.Run(ctx, client, &WelcomeParams{UserID: 7, TemplateID: "welcome"})
	if err != nil {
		return err
	}
	// An option of Run overrides the file, which overrides the declaration: nobody waits five minutes here.
	unknown, err := SendWelcomeEmail.Run(ctx, client, &WelcomeParams{UserID: unknownUser, TemplateID: "welcome"},
		anchor.WithRetryPolicy("50ms", 2))
	if err != nil {
		return err
	}
	thumbnail, err := MakeThumbnail.Run(ctx, client, &ThumbnailParams{Image: "https://example.org/a.png", Sizes: []Size{{64, 64}, {128, 128}}})
	if err != nil {
		return err
	}
	return workUntilEnded(ctx, client, []int64{welcomed, unknown, thumbnail})
}

func workUntilEnded(ctx context.Context, client *anchor.Client, ids []int64) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- client.Work(ctx) }()
	for _, id := range ids {
		task, err := client.Wait(ctx, id)
		if err != nil {
			return err
		}
		note("task %d %s: %s", task.ID, task.Name, task.Status)
	}
	stop()
	return <-worked
}
