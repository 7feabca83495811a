package monitoring

import (
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// alerts are the rules by name, read as promtool check rules reads them: format, expressions and templates.
func alerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Fatal(err)
	}
	rules := map[string]rulefmt.Rule{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			if _, double := rules[rule.Alert]; double || rule.Alert == "" {
				t.Fatalf("alert %q is a second one of its name, or has none", rule.Alert)
			}
			rules[rule.Alert] = rule
		}
	}
	return rules
}

func TestAlertsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, alert := range alerts(t) {
		if alert.Annotations["summary"] == "" || alert.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", name)
		}
		if severity := alert.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s has the severity %q", name, severity)
		}
	}
}

// healthy is an hour of a system in which nothing is wrong.
const healthy = `load 1m
  anchor_worker_slots{instance="a"} 10x60
  anchor_worker_slots_busy{instance="a"} 4x60
  anchor_worker_slots_stuck{instance="a"} 0x60
  anchor_queue_oldest_ready_seconds{instance="a",queue="default"} 1x60
  anchor_queue_depth{instance="a",queue="default",state="ready"} 5x60
  anchor_task_pickup_delay_seconds_bucket{instance="a",queue="default",le="1"} 0+100x60
  anchor_task_pickup_delay_seconds_bucket{instance="a",queue="default",le="300"} 0+100x60
  anchor_task_pickup_delay_seconds_bucket{instance="a",queue="default",le="+Inf"} 0+100x60
  anchor_tasks_failed_total{instance="a",queue="default",task="T"} 0+1x60
  anchor_task_attempts_failed_total{instance="a",queue="default",task="T"} 0+5x60
  anchor_tasks_completed_total{instance="a",queue="default",task="T"} 0+100x60
  anchor_tasks_taken_back_total{instance="a"} 3x60
  anchor_claims_lost_total{instance="a"} 3x60
  anchor_db_errors_total{instance="a"} 3x60
  anchor_oldest_transaction_seconds{instance="a"} 10x60
`

// troubles make each alert fire, and no other one that is not named.
var troubles = map[string]struct {
	series string
	others []string
}{
	"AnchorNoWorkers":      {"load 1m\n  anchor_worker_slots{instance=\"a\"} 0x60\n", nil},
	"AnchorQueueLate":      {"load 1m\n  anchor_queue_oldest_ready_seconds{queue=\"q\"} 600+60x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorQueueGrows":     {"load 1m\n  anchor_queue_depth{queue=\"q\",state=\"ready\"} 900+10x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorPickupSlow":     {"load 1m\n  anchor_task_pickup_delay_seconds_bucket{queue=\"q\",le=\"60\"} 0+90x60\n  anchor_task_pickup_delay_seconds_bucket{queue=\"q\",le=\"300\"} 0+100x60\n  anchor_task_pickup_delay_seconds_bucket{queue=\"q\",le=\"+Inf\"} 0+100x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorTasksFail":      {"load 1m\n  anchor_tasks_failed_total{task=\"T\"} 0+10x60\n  anchor_tasks_completed_total{task=\"T\"} 0+90x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorAttemptsFail":   {"load 1m\n  anchor_task_attempts_failed_total{task=\"T\"} 0+110x60\n  anchor_tasks_completed_total{task=\"T\"} 0+90x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorSlotsUsedUp":    {"load 1m\n  anchor_worker_slots{instance=\"a\"} 10x60\n  anchor_worker_slots_busy{instance=\"a\"} 10x60\n", nil},
	"AnchorHandlersStuck":  {"load 1m\n  anchor_worker_slots_stuck{instance=\"a\"} 1x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorWorkersDie":     {"load 1m\n  anchor_tasks_taken_back_total{instance=\"a\"} 0x55 1x5\n  anchor_worker_slots 1x60\n", nil},
	"AnchorClaimsLost":     {"load 1m\n  anchor_claims_lost_total{instance=\"a\"} 0x55 1x5\n  anchor_worker_slots 1x60\n", nil},
	"AnchorStoreErrors":    {"load 1m\n  anchor_db_errors_total{instance=\"a\"} 0+30x60\n  anchor_worker_slots 1x60\n", nil},
	"AnchorOldTransaction": {"load 1m\n  anchor_oldest_transaction_seconds{instance=\"a\"} 3500+60x60\n  anchor_worker_slots 1x60\n", nil},
}

// firing are the alerts whose expression holds after an hour of these series.
func firing(t *testing.T, series string) []string {
	t.Helper()
	storage := promqltest.LoadedStorage(t, series)
	t.Cleanup(func() { _ = storage.Close() })
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	var names []string
	for name, alert := range alerts(t) {
		query, err := engine.NewInstantQuery(t.Context(), storage, promql.NewPrometheusQueryOpts(false, 0, nil), alert.Expr, time.Unix(0, 0).Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		vector, err := query.Exec(t.Context()).Vector()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(vector) > 0 {
			names = append(names, name)
		}
		query.Close()
	}
	slices.Sort(names)
	return names
}

func TestAlertsAreSilentWhileAllIsWell(t *testing.T) {
	t.Parallel()
	if names := firing(t, healthy); len(names) > 0 {
		t.Errorf("%v fire", names)
	}
}

func TestEveryAlertFiresForItsTroubleAlone(t *testing.T) {
	t.Parallel()
	if want, got := slices.Sorted(maps.Keys(alerts(t))), slices.Sorted(maps.Keys(troubles)); !slices.Equal(want, got) {
		t.Errorf("alerts %v, troubles %v", want, got)
	}
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := firing(t, trouble.series); !slices.Equal(got, []string{name}) {
				t.Errorf("%v fire, want %s", got, name)
			}
		})
	}
	if got := firing(t, "load 1m\n  up 1x60\n"); !slices.Equal(got, []string{"AnchorNoWorkers"}) {
		t.Errorf("without any process that has the metrics: %v fire", got)
	}
}
