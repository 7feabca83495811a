package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// narrator prints what happens, a line each, and what the library logs among it. It is safe for concurrent use.
type narrator struct {
	began time.Time

	mu  sync.Mutex
	out io.Writer
}

func newNarrator(out io.Writer) *narrator { return &narrator{began: time.Now(), out: out} }

func (n *narrator) print(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, format, args...)
}

func (n *narrator) heading(text string) { n.print("%s\n", text) }

func (n *narrator) say(text string) { n.print("  %6.3fs  %s\n", time.Since(n.began).Seconds(), text) }

func (n *narrator) tell(id int64, name, text string) {
	n.say(fmt.Sprintf("task %d %s: %s", id, name, text))
}

// narrated tells of each attempt. A handler is a function: whatever all of them need is put around it so.
func narrated[P any](n *narrator, handler anchor.Handler[P]) anchor.Handler[P] {
	return func(ctx context.Context, tx pgx.Tx, params *P) error {
		task, _ := anchor.TaskFromContext(ctx)
		n.tell(task.ID, task.Name, fmt.Sprintf("attempt %d of at most %d runs", task.Attempts, task.MaxAttempts))
		err := handler(ctx, tx, params)
		if err != nil {
			n.tell(task.ID, task.Name, fmt.Sprintf("attempt %d failed: %v", task.Attempts, err))
		}
		return err
	}
}

// The narrator is a slog.Handler, so that what the library logs stands where it happened. The library names the task
// and the kind of the error; the error's text is kept with the task, as it may hold what the parameters held.

var _ slog.Handler = (*narrator)(nil)

func (n *narrator) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (n *narrator) Handle(_ context.Context, record slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "log: %s %s", record.Level, record.Message)
	record.Attrs(func(attr slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", attr.Key, attr.Value)
		return true
	})
	n.say(line.String())
	return nil
}

// WithAttrs leaves out what all records share: one worker needs no name.
func (n *narrator) WithAttrs([]slog.Attr) slog.Handler { return n }
func (n *narrator) WithGroup(string) slog.Handler      { return n }
