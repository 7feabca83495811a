package anchortest

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// finish is called when the test and its clean-ups are done. A test that has failed is not told what else it has left.
func (h *Harness) finish() {
	open := h.rollBackOpen()
	if !h.t.Failed() && !h.t.Skipped() {
		if open > 0 {
			h.t.Errorf("anchortest: %s neither committed nor rolled back", ofBegin(open, "was", "were"))
		}
		for _, fault := range h.neverHappened() {
			h.t.Errorf("anchortest: %s never happened", fault)
		}
	}
	if h.t.Failed() {
		h.t.Logf("the timeline of the tasks:\n%s", h.timeline(maxPrinted))
	}
}

// rollBackOpen ends what Begin has begun, and tells how many transactions were open.
func (h *Harness) rollBackOpen() int {
	ctx, cancel := context.WithTimeout(context.Background(), postgresTimeout)
	defer cancel()
	open := 0
	for _, tx := range h.begun {
		if err := tx.Rollback(ctx); !errors.Is(err, pgx.ErrTxClosed) {
			open++
		}
	}
	return open
}

// open counts the transactions of Begin that have not ended.
func (h *Harness) open() int {
	open := 0
	for _, tx := range h.begun {
		if recorded, ok := tx.(*recordedTx); ok {
			tx = recorded.Tx // nothing is recorded of this
		}
		if _, err := tx.Exec(h.ctx, ""); !errors.Is(err, pgx.ErrTxClosed) {
			open++
		}
	}
	return open
}

func ofBegin(n int, is, are string) string {
	if n == 1 {
		return "1 transaction of Begin " + is
	}
	return fmt.Sprintf("%d transactions of Begin %s", n, are)
}
