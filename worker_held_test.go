package anchor

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Somebody's open transaction that cancels one running task must not hold up the others of its worker.
func TestAnOpenCancelHoldsUpOneTaskOnly(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	goOn := make(chan struct{})
	started := make(chan struct{}, 1)
	task := Define("Recorded", func(_ context.Context, _ pgx.Tx, p *caseParams) error {
		if p.Case == "cancelled" {
			started <- struct{}{}
			<-goOn
		}
		return nil
	})
	client := rig.newClient(task)
	rig.startWork(client, WithConcurrency(50))
	held := enqueue(rig, client, task, &caseParams{"cancelled"})
	receive(t, "the start", started)
	conn := rig.connect()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	must(t, client.CancelWithTx(t.Context(), tx, held))
	close(goOn)
	for range 5 {
		many := make([]*caseParams, 100)
		for i := range many {
			many[i] = &caseParams{"other"}
		}
		ids, err := task.RunMany(t.Context(), client, many)
		must(t, err)
		for _, id := range ids {
			rig.ended(client, id)
		}
	}
	if info, err := client.Task(t.Context(), held); err != nil || info.Status != StatusRunning {
		t.Errorf("the held task: %v, %v", info.Status, err)
	}
	must(t, tx.Commit(t.Context()))
	if info := rig.ended(client, held); info.Status != StatusCompleted {
		t.Errorf("the held task ended %s", info.Status)
	}
}

// A row that the database refuses to finish must not hold up others, nor shutting down.
func TestARefusedFinishHoldsUpOneTaskOnly(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task, _ := newRecorder("Recorded")
	client := rig.newClient(task)
	rig.exec(`create function refuse() returns trigger language plpgsql as $$ begin
		if new.status = 'completed' and old.spec->>'case' = 'refused' then raise exception 'refused'; end if; return new; end $$;
		create trigger refuse before update on anchor_tasks_hot for each row execute function refuse()`, pgx.QueryExecModeSimpleProtocol)
	many := make([]*caseParams, 100)
	for i := range many {
		many[i] = &caseParams{"other"}
	}
	many[50] = &caseParams{"refused"}
	ids, err := task.RunMany(t.Context(), client, many)
	must(t, err)
	stop := rig.startWork(client, WithShutdownTimeout(time.Second))
	for i, id := range ids {
		if i != 50 {
			rig.ended(client, id)
		}
	}
	if info, err := client.Task(t.Context(), ids[50]); err != nil || info.Status != StatusRunning {
		t.Errorf("the refused task: %v, %v", info.Status, err)
	}
	stop()
}
