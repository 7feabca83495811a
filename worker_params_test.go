package anchor

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const insertRaw = `insert into anchor_tasks (name, queue, max_attempts, spec, attributes) values ($1, 'default', 5, $2::text::jsonb, $3::text::jsonb) returning id`

func TestStoredRowThatDoesNotDecodeFailsItsTaskAlone(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	type params struct {
		UserID int `json:"userId"`
	}
	task := Define("Strict", func(ctx context.Context, tx pgx.Tx, _ *params) error { return noteEffect(ctx, tx, "handler") }).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *params) error { return noteEffect(ctx, tx, "hook") })
	client := rig.newClient(task)
	bad := map[string]struct {
		spec       string
		attributes any
		message    string
	}{
		"unknown field": {`{"userId": 1, "secretField": 2}`, nil, "secretField"},
		"wrong type":    {`{"userId": "secret"}`, nil, "userId"},
		"too large":     {`{"userId": 1e400}`, nil, "userId"},
		"an array":      {`[1]`, nil, "not a JSON object"},
		"null":          {`null`, nil, "not a JSON object"},
	}
	ids := map[string]int64{}
	var neighbours []int64
	for name, c := range bad {
		neighbours = append(neighbours, enqueue(rig, client, task, &params{1}))
		ids[name] = readOne[int64](rig, insertRaw, "Strict", c.spec, c.attributes)
		neighbours = append(neighbours, enqueue(rig, client, task, &params{2}))
	}
	rig.startWork(client)
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			info := rig.ended(client, ids[name])
			if info.Status != StatusFailed || info.Attempts != 1 || len(info.Errors) != 1 {
				t.Fatalf("status %s after %d attempts, errors %v, want failed after 1 with an error", info.Status, info.Attempts, info.Errors)
			}
			if message := info.Errors[0].Message; !strings.Contains(message, c.message) || strings.Contains(message, `"secret"`) || strings.Contains(message, "1e400") {
				t.Errorf("error %q, want one with %q and no value", message, c.message)
			}
			if got := rig.effectsOf(info.ID); len(got) > 0 {
				t.Errorf("effects %q, want none", got)
			}
		})
	}
	for _, id := range neighbours {
		if info := rig.ended(client, id); info.Status != StatusCompleted {
			t.Errorf("neighbour %d: status %s, errors %v", id, info.Status, info.Errors)
		}
	}
}

func TestAttributesThatDoNotDecodeFailTheirTaskWithItsHook(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("Strict", func(ctx context.Context, tx pgx.Tx, _ *noParams) error { return noteEffect(ctx, tx, "handler") }).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, _ *noParams) error { return noteEffect(ctx, tx, "hook") })
	client := rig.newClient(task)
	rig.startWork(client)
	for _, attributes := range []string{`{"timeout": "secret"}`, `{"retry": "secret"}`, `{"timeout": 7}`, `[]`} {
		info := rig.ended(client, readOne[int64](rig, insertRaw, "Strict", "{}", attributes))
		if info.Status != StatusFailed || info.Attempts != 1 || len(info.Errors) != 1 {
			t.Errorf("%s: status %s after %d attempts, errors %v", attributes, info.Status, info.Attempts, info.Errors)
		}
		if got := rig.effectsOf(info.ID); len(got) != 1 || got[0] != "hook" {
			t.Errorf("%s: effects %q, want the hook's", attributes, got)
		}
	}
}

func TestTasksOfUnknownNamesStayPendingAndBlockNobody(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	known := Define("Known", func(context.Context, pgx.Tx, *noParams) error { return nil })
	onlyEnqueued := Define[noParams]("OnlyEnqueued", nil)
	client := rig.newClient(known, onlyEnqueued)
	rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec, priority) select 'Unknown', 'default', 5, '{}', -5 from generate_series(1, 300)`)
	first := enqueue(rig, client, onlyEnqueued, &noParams{})
	rig.startWork(client, WithConcurrency(2), WithPollInterval(20*time.Millisecond))
	for range 20 {
		rig.ended(client, enqueue(rig, client, known, &noParams{}))
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks where name = 'Unknown' and status = 'pending' and attempts = 0"); n != 300 {
		t.Errorf("%d tasks of an unknown name are untouched, want 300", n)
	}
	if info, err := client.Task(t.Context(), first); err != nil || info.Status != StatusPending || info.Attempts != 0 {
		t.Errorf("the task without a handler: %+v, %v", info, err)
	}
}
