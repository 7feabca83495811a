package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckQueuedCountsWhatNoLongerValidatesByName(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec)
		select 'Mail', 'default', 5, jsonb_build_object('userId', i % 3, 'locale', 'en') from generate_series(1, 2 * $1::int + 300) i`, checkQueuedPage)
	rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec) values ('Old', 'default', 5, '{"user": "7"}'), ('Old', 'default', 5, '{"user": ""}'),
		('Good', 'default', 5, '{}'), ('Unknown', 'default', 5, '{"anything": 1}')`)
	upcaster := WithUpcaster(func(old json.RawMessage) (json.RawMessage, error) {
		if strings.Contains(string(old), `""`) {
			return nil, errors.New("no user")
		}
		return json.RawMessage(`{"userId": 7, "locale": "de"}`), nil
	})
	tasks := []AnyTask{Define[mailV2]("Mail", nil), Define[mailV2]("Old", nil, upcaster), Define[noParams]("Good", nil)}
	got, err := rig.newClient(tasks...).CheckQueued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"Mail": (2*checkQueuedPage + 300) / 3, "Old": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckQueuedLooksAtPendingTasksAlone(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.exec(`insert into anchor_tasks (name, queue, max_attempts, spec, status, slot, finished_at) values ('Mail', 'default', 5, '{}', 'failed', -1, now())`)
	got, err := rig.newClient(Define[mailV2]("Mail", nil)).CheckQueued(t.Context())
	if err != nil || len(got) != 0 || got == nil {
		t.Errorf("%v, error %v, want an empty map", got, err)
	}
}

func TestCheckQueuedReportsTheStoresError(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := rig.newClient(Define[mailV2]("Mail", nil)).CheckQueued(ctx); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("%v, error %v, want that the context was cancelled", got, err)
	}
}

func TestCheckQueuedInMemory(t *testing.T) {
	t.Parallel()
	store := NewMemoryStore()
	old := Define[struct {
		User string `json:"user"`
	}]("Mail", nil)
	before, err := New(store, WithTasks(old))
	if err != nil {
		t.Fatal(err)
	}
	for range checkQueuedPage {
		if _, err := old.Run(t.Context(), before, &struct {
			User string `json:"user"`
		}{"7"}); err != nil {
			t.Fatal(err)
		}
	}
	after, err := New(store, WithTasks(Define[mailV2]("Mail", nil)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := after.CheckQueued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"Mail": checkQueuedPage}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
