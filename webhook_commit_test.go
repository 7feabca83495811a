package anchor

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// Where one of the two cannot be written, neither is there.
func TestWebhookDeliveryCommitsWithTheFailure(t *testing.T) {
	t.Parallel()
	for refused, table := range map[string]string{"delivery": "anchor_tasks_hot", "failure": "anchor_task_errors"} {
		t.Run("the "+refused+" is refused", func(t *testing.T) {
			t.Parallel()
			rig := newPG(t)
			receiver := newReceiver(t)
			task := defineCharge(receiver.url)
			client := rig.newClient(task)
			id := enqueue(rig, client, task, &chargeParams{canary})
			rig.exec(`create table gates (open int);
				create function refuse() returns trigger language plpgsql as $$
				begin
					if not exists (select from gates) then raise 'refused for now'; end if;
					return new;
				end $$;
				create trigger refuse before insert on ` + table + ` for each row execute function refuse()`)
			rig.startWork(client)
			eventually(t, "a refused commit", func() bool { return strings.Contains(rig.logs.String(), "refused for now") })
			if info, err := client.Task(t.Context(), id); err != nil || info.Status != StatusRunning {
				t.Errorf("%+v, %v; want running", info, err)
			}
			if found := deliveries(t, client); len(found) > 0 {
				t.Errorf("%d deliveries, want none", len(found))
			}
			rig.exec("insert into gates values (1)")
			rig.ended(client, id)
			if delivery := rig.delivered(client); delivery.Status != StatusCompleted || len(receiver.taken()) != 1 {
				t.Errorf("delivery %s, %d requests; want completed and 1", delivery.Status, len(receiver.taken()))
			}
		})
	}
}

// The delivery does not depend on what becomes of the task's own hook.
func TestWebhookDeliversWhateverTheHookDoes(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		hooks := map[string]func(ctx context.Context, tx pgx.Tx) error{
			"good":   func(context.Context, pgx.Tx) error { return nil },
			"error":  func(context.Context, pgx.Tx) error { return errors.New("no") },
			"panic":  func(context.Context, pgx.Tx) error { panic("no") },
			"goexit": func(context.Context, pgx.Tx) error { runtime.Goexit(); return nil },
			"deaf":   func(context.Context, pgx.Tx) error { <-t.Context().Done(); return nil },
		}
		if rig.pool != nil {
			hooks["own connection"] = func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
				return err
			}
			hooks["rollback"] = func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "rollback"); return err }
			hooks["swallowed"] = func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, "select 1/0"); return nil }
		}
		receiver := newReceiver(t)
		task := Define("Charge", func(context.Context, pgx.Tx, *caseParams) error { return Fatal(errDeclined) }, WithTimeout("500ms"),
			WebhookOnFailed(receiver.url, WithWebhookAllow("127.0.0.1"))).
			OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, p *caseParams) error { return hooks[p.Case](ctx, tx) })
		client := rig.clientOf(store, task)
		rig.startWork(client, withGrace(100*time.Millisecond))
		ids := map[string]int64{}
		for name := range hooks {
			ids[name] = enqueue(rig, client, task, &caseParams{name})
		}
		for name, id := range ids {
			if info := rig.ended(client, id); info.Status != StatusFailed {
				t.Errorf("%s: status %s", name, info.Status)
			}
		}
		found := deliveries(t, client)
		if len(found) != len(hooks) {
			t.Errorf("%d deliveries, want one for each of %d failures", len(found), len(hooks))
		}
		for _, delivery := range found {
			rig.ended(client, delivery.ID)
		}
		if n := len(receiver.taken()); n != len(hooks) {
			t.Errorf("%d requests, want %d", n, len(hooks))
		}
	})
}

func TestWebhookIsCalledForStoredParametersThatDoNotFit(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	receiver := newReceiver(t)
	client := rig.newClient(defineCharge(receiver.url))
	rig.startWork(client)
	id := readOne[int64](rig, insertRaw, "Charge", `{"unknown": "`+canary+`"}`, nil)
	rig.ended(client, id)
	rig.delivered(client)
	if body := receiver.taken()[0].body; !strings.Contains(body, "do not fit") || strings.Contains(body, canary) {
		t.Errorf("body %s", body)
	}
}

func TestWebhookIsNotCalledForCompletedOrCancelledTasks(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver := newReceiver(t)
		task := Define("Good", func(context.Context, pgx.Tx, *noParams) error { return nil }, WebhookOnFailed(receiver.url, WithWebhookAllow("127.0.0.1")))
		client := rig.clientOf(store, task)
		cancelled := enqueue(rig, client, task, &noParams{}, WithDelay(time.Hour))
		if err := client.Cancel(t.Context(), cancelled); err != nil {
			t.Fatal(err)
		}
		rig.startWork(client)
		for id, want := range map[int64]Status{cancelled: StatusCancelled, enqueue(rig, client, task, &noParams{}): StatusCompleted} {
			if info := rig.ended(client, id); info.Status != want {
				t.Errorf("status %s, want %s", info.Status, want)
			}
		}
		if found := deliveries(t, client); len(found) > 0 {
			t.Errorf("%d deliveries, want none", len(found))
		}
	})
}

// Deliveries go to processes that know the webhook, also when they work on other queues only.
func TestWebhookDeliveriesGoWhereTheDeclarationIs(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver, others := newReceiver(t), newReceiver(t)
		charge := defineCharge(receiver.url)
		refund := Define("Refund", func(context.Context, pgx.Tx, *noParams) error { return Fatal(errDeclined) }, WebhookOnFailed(others.url, WithWebhookAllow("127.0.0.1")))
		charging, refunding := rig.clientOf(store, charge), rig.clientOf(store, refund)
		refundOnce := enqueue(rig, refunding, refund, &noParams{})
		rig.startWork(refunding, WithPollInterval(20*time.Millisecond))
		rig.ended(refunding, refundOnce)
		eventually(t, "the other's delivery", func() bool { return len(others.taken()) == 1 })
		stop := rig.startWork(charging, WithQueues("default"))
		rig.ended(charging, enqueue(rig, charging, charge, &chargeParams{canary}))
		eventually(t, "the delivery", func() bool { return len(receiver.taken()) == 1 })
		stop()
		if n := len(others.taken()); n != 1 {
			t.Errorf("%d requests of the other webhook, want 1", n)
		}
	})
}

func TestWebhookDeliveriesAreCountedAndTraced(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, rig *pgRig, store Store) {
		receiver := newReceiver(t)
		task := defineCharge(receiver.url)
		registry := prometheus.NewPedanticRegistry()
		tracer := &recordingTracer{carrier: func(context.Context) map[string]string { return map[string]string{"trace": "7"} }}
		client, err := New(store, WithTasks(task), WithRegisterer(registry), WithTracer(tracer), WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		stop := rig.startWork(client)
		enqueue(rig, client, task, &chargeParams{canary})
		rig.delivered(client)
		stop()
		want := map[string]float64{
			"tasks_enqueued_total{queue=default,task=Charge}":                               1,
			"tasks_failed_total{queue=default,task=Charge}":                                 1,
			"task_attempts_failed_total{queue=default,task=Charge}":                         1,
			"task_execution_duration_seconds{outcome=failed,task=Charge}":                   1,
			"task_pickup_delay_seconds{queue=default}":                                      1,
			"tasks_enqueued_total{queue=anchor.webhooks,task=anchor.webhook/Charge}":        1,
			"tasks_completed_total{queue=anchor.webhooks,task=anchor.webhook/Charge}":       1,
			"task_execution_duration_seconds{outcome=completed,task=anchor.webhook/Charge}": 1,
			"task_pickup_delay_seconds{queue=anchor.webhooks}":                              1,
		}
		if diff := cmp.Diff(want, counted(t, registry)); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
		if lines := strings.Join(tracer.taken(), "\n"); !strings.Contains(lines, "attempt 1/12 of anchor.webhook/Charge 2 in anchor.webhooks, carrier map[trace:7]") {
			t.Errorf("the delivery is not in the trace of its task:\n%s", lines)
		}
	})
}
