//go:build unix

package anchor

import (
	"syscall"
	"testing"
)

// A worker that is killed within the failure hook leaves neither the status nor the delivery; the next one has both, once.
func TestWebhookDeliveryOfAKilledWorkerIsOneWithTheStatus(t *testing.T) {
	t.Parallel()
	rig, task, client := newProcessRig(t)
	receiver := newReceiver(t)
	setting := workerSetting{URL: rig.url, Lease: processLease, Concurrency: 2, Webhook: receiver.url}
	first := rig.startProcessWith(setting)
	id := enqueue(rig, client, task, &processParams{"hook"})
	starts := func(n int) func() bool {
		return func() bool { return readOne[int](rig, "select count(*) from starts") >= n }
	}
	eventually(t, "the failure hook", starts(2))
	first.signal(syscall.SIGKILL)
	first.exited()
	if info, err := client.Task(t.Context(), id); err != nil || info.Status != StatusRunning {
		t.Errorf("%+v, %v; want running, as its worker died before the commit", info, err)
	}
	if found := deliveries(t, client); len(found) > 0 {
		t.Errorf("%d deliveries of a failure that is not on record", len(found))
	}
	rig.exec("insert into gates values (1)")
	rig.startProcessWith(setting)
	if info := rig.ended(client, id); info.Status != StatusFailed || info.Attempts != 2 {
		t.Errorf("%s after %d attempts, want failed after 2", info.Status, info.Attempts)
	}
	delivery := rig.delivered(client)
	requests := receiver.taken()
	if delivery.Status != StatusCompleted || len(requests) != 1 {
		t.Errorf("%s, %d requests; want completed, and 1", delivery.Status, len(requests))
	}
}
