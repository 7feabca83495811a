package anchor

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Handlers that hold a transaction each and call Run must not take all connections that Run waits for.
func TestRunInsideHandlersDoesNotWaitForTheirConnections(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	child := Define[noParams]("Child", nil)
	var client *Client
	parent := Define("Parent", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
		if err := noteEffect(ctx, tx, "parent"); err != nil {
			return err
		}
		_, err := child.Run(ctx, client, &noParams{})
		return err
	}, WithTimeout(30*time.Second), WithRetryPolicy("1ms", 1))
	client = rig.clientOf(NewPGStore(rig.newPool(4)), child, parent)
	ids, err := parent.RunMany(t.Context(), client, make50())
	if err != nil {
		t.Fatal(err)
	}
	rig.startWork(client, WithShutdownTimeout(0))
	looking := rig.newClient()
	for _, id := range ids {
		if info := rig.ended(looking, id); info.Status != StatusCompleted {
			t.Fatalf("task %d: status %s, errors %v", id, info.Status, info.Errors)
		}
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks where name = 'Child'"); n != 50 {
		t.Errorf("%d children, want 50", n)
	}
}

func make50() []*noParams {
	params := make([]*noParams, 50)
	for i := range params {
		params[i] = &noParams{}
	}
	return params
}
