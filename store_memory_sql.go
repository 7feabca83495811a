package anchor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var _ pgx.Tx = (*memoryTx)(nil)

func (t *memoryTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if err := t.unusable(); err != nil {
		return nil, err
	}
	return &memoryTx{store: t.store, parent: t, mark: len(t.root().log)}, nil
}

func (t *memoryTx) Commit(ctx context.Context) error {
	return t.finish(ctx, func(now time.Time) error {
		switch {
		case t.parent != nil:
			t.ended = true
			return t.parent.unusable()
		case t.aborted():
			t.discard(now)
			return pgx.ErrTxCommitRollback
		}
		t.apply(now)
		return nil
	})
}

func (t *memoryTx) Rollback(ctx context.Context) error {
	return t.finish(ctx, func(now time.Time) error {
		root := t.root()
		if t.parent == nil {
			t.discard(now)
			return nil
		}
		root.undo(t.mark, now)
		root.loosen()
		t.ended = true
		if root.failedIn.within(t) {
			root.failedIn, root.failedBy = nil, nil
		}
		return nil
	})
}

func (t *memoryTx) finish(ctx context.Context, end func(now time.Time) error) error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if t.attempt {
		return errHandlerTx
	}
	if err := t.closed(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		t.root().discard(time.Now()) // as a connection is closed whose statement was cut off
		return err
	}
	return end(time.Now())
}

// refusal is what SQL is answered.
func (t *memoryTx) refusal() error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if err := t.unusable(); err != nil {
		return err
	}
	return ErrNoTransaction
}

func (t *memoryTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, t.refusal()
}

func (t *memoryTx) Query(context.Context, string, ...any) (pgx.Rows, error) {
	err := t.refusal()
	return errorRows{err}, err
}

func (t *memoryTx) QueryRow(context.Context, string, ...any) pgx.Row { return errorRows{t.refusal()} }

func (t *memoryTx) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults {
	return errorBatch{t.refusal()}
}

func (t *memoryTx) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, t.refusal()
}

func (t *memoryTx) Prepare(context.Context, string, string) (*pgconn.StatementDescription, error) {
	return nil, t.refusal()
}

func (t *memoryTx) LargeObjects() pgx.LargeObjects { return noLargeObjects() }

func (t *memoryTx) Conn() *pgx.Conn { return nil }
