package anchor

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// sampled are the series of the queues' depths that are not 0.
func sampled(t *testing.T, registry prometheus.Gatherer) map[string]float64 {
	t.Helper()
	values := readMetrics(t, registry)
	maps.DeleteFunc(values, func(key string, value float64) bool { return value == 0 || !strings.HasPrefix(key, "queue_depth") })
	return values
}

// fill enqueues pending tasks behind the library's back: fast, and with any name.
func (r *pgRig) fill(n int, name, queue, due string) {
	r.t.Helper()
	r.exec(`insert into anchor_tasks (name, queue, priority, next_run, spec)
		select $2, $3, i % 3 - 1, now() + $4::interval, '{}' from generate_series(1, $1) i`, n, name, queue, due)
}

func TestDepthOfQueuesIsShown(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	goOn := make(chan struct{})
	task := Define("Busy", func(context.Context, pgx.Tx, *noParams) error { <-goOn; return nil }, WithQueue("mail"))
	client := rig.measuredClient(registry, task)
	rig.fill(20, "Nobody", "mail", "-1 hour")
	rig.fill(30, "Nobody", "mail", "1 hour")
	rig.fill(7, "Nobody", "somebody else's", "-1 minute")
	for range 3 {
		enqueue(rig, client, task, &noParams{})
	}
	stop := rig.startWork(client, withSampling(10*time.Millisecond), WithLease(3*time.Second))
	want := map[string]float64{
		"queue_depth{queue=mail,state=ready}":     20,
		"queue_depth{queue=mail,state=scheduled}": 30,
		"queue_depth{queue=mail,state=running}":   3,
		"queue_depth{queue=(other),state=ready}":  7,
	}
	var got map[string]float64
	eventually(t, "the tasks in the sample", func() bool { got = sampled(t, registry); return got["queue_depth{queue=mail,state=running}"] == 3 })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("depth (-want +got):\n%s", diff)
	}
	values := readMetrics(t, registry)
	if oldest := values["queue_oldest_ready_seconds{queue=mail}"]; oldest < 3600 || oldest > 3600+patience.Seconds() {
		t.Errorf("the oldest ready task of mail: %v s, want 3600 and a little", oldest)
	}
	close(goOn)
	rig.exec("delete from anchor_tasks where queue = 'mail' and name = 'Nobody'")
	eventually(t, "an empty queue", func() bool {
		values := readMetrics(t, registry)
		oldest, known := values["queue_oldest_ready_seconds{queue=mail}"]
		return known && oldest == 0 && values["queue_depth{queue=mail,state=ready}"] == 0 && values["queue_depth{queue=mail,state=running}"] == 0
	})
	stop()
	if got := sampled(t, registry); len(got) > 0 {
		t.Errorf("shown although nobody works: %v", got)
	}
}

// takeSample takes one, whatever there is.
func (r *pgRig) takeSample(queues ...string) map[string]queueDepth {
	r.t.Helper()
	var kept keptSample
	if err := json.Unmarshal([]byte(readOne[string](r, "select sample::text from anchor_sample(0, $1)", queues)), &kept); err != nil {
		r.t.Fatal(err)
	}
	depths := map[string]queueDepth{}
	for _, q := range kept.Queues {
		depths[q.Queue] = queueDepth{ready: q.Ready, scheduled: q.Scheduled, running: q.Running}
	}
	return depths
}

// What is counted is bounded, and what is beyond is estimated well enough.
func TestDepthOfLongQueuesIsEstimated(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.fill(60_000, "Nobody", "long", "-1 hour")
	rig.fill(30_000, "Nobody", "long", "1 hour")
	rig.fill(30_000, "Nobody", "other", "-1 hour")
	rig.fill(12, "Nobody", "short", "-1 hour")
	got := rig.takeSample("nothing", "short", "long")
	near := func(what string, got, want int64) {
		if math.Abs(float64(got-want)) > 0.1*float64(want) {
			t.Errorf("%s: %d, want %d within a tenth", what, got, want)
		}
	}
	near("ready in long", got["long"].ready, 60_000)
	near("scheduled in long", got["long"].scheduled, 30_000)
	near("ready in other", got["other"].ready, 30_000)
	if short := got["short"]; short.ready != 12 {
		t.Errorf("ready in short: %d, want 12 exactly", short.ready)
	}
	_, nothing := got["nothing"]
	if nothing || len(got) != 3 {
		t.Errorf("queues %v, want long, other and short", got)
	}

	const explain = "explain (analyze, buffers, format json) "
	// The least of several runs: one that has to plan, perhaps because statistics have just changed, reads the catalogs too.
	pages := func(statement string) float64 {
		least := math.Inf(1)
		for range 5 {
			var plan []struct {
				Plan map[string]any `json:"Plan"`
			}
			if err := json.Unmarshal([]byte(readOne[string](rig, explain+statement)), &plan); err != nil {
				t.Fatal(err)
			}
			least = min(least, plan[0].Plan["Shared Hit Blocks"].(float64)+plan[0].Plan["Shared Read Blocks"].(float64))
		}
		return least
	}
	few := pages("select * from anchor_sample(0, '{}')")
	rig.fill(120_000, "Nobody", "long", "-1 hour")
	many := pages("select * from anchor_sample(0, '{}')")
	if all := readOne[float64](rig, "select pg_relation_size('anchor_tasks_hot') / current_setting('block_size')::float8"); many > 1.5*few || many > all/4 {
		t.Errorf("a sample touched %v pages with 120,000 tasks and %v with 240,000, of %v", few, many, all)
	}
}

// A queue that is asked for is counted however many others come before it.
func TestDepthOfTooManyQueues(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.exec(`insert into anchor_tasks (name, queue, spec) select 'Nobody', 'customer-' || i % 1000, '{}' from generate_series(1, 5000) i`)
	rig.fill(12, "Nobody", "zebra", "-1 hour")
	got := rig.takeSample("zebra")
	if zebra := got["zebra"]; zebra.ready != 12 {
		t.Errorf("ready in zebra: %d, want 12", zebra.ready)
	}
	total := int64(0)
	for _, q := range got {
		total += q.ready
	}
	if total < 4000 || total > 6500 {
		t.Errorf("%d ready in all, want 5012 or so", total)
	}
}

func TestUnknownNamesAndQueuesAddNoSeries(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	task := Define("Known", func(context.Context, pgx.Tx, *noParams) error { return nil })
	client := rig.measuredClient(registry, task)
	rig.startWork(client, withSampling(10*time.Millisecond), WithLease(3*time.Second), WithQueues("default", "more"), WithPollInterval(20*time.Millisecond))
	rig.fill(1, "Nobody", "not registered", "-1 hour")
	eventually(t, "a sample", func() bool { return sampled(t, registry)["queue_depth{queue=(other),state=ready}"] == 1 })
	before := readMetrics(t, registry)
	rig.exec(`insert into anchor_tasks (name, queue, spec) select 'Unknown' || i, case when i % 2 = 0 then 'default' else 'unknown' || i end, '{}' from generate_series(1, 10000) i`)
	for range 5 {
		id := enqueue(rig, client, task, &noParams{}, WithQueue("more"))
		rig.ended(client, id)
	}
	eventually(t, "the unknown in the sample", func() bool {
		return sampled(t, registry)["queue_depth{queue=default,state=ready}"] > 4000 && sampled(t, registry)["queue_depth{queue=(other),state=ready}"] > 1000
	})
	after := readMetrics(t, registry)
	for _, series := range []map[string]float64{before, after} {
		// A queue that WithQueues names becomes a label with its first task.
		maps.DeleteFunc(series, func(key string, _ float64) bool {
			return strings.Contains(key, "queue=more,task") || key == "task_pickup_delay_seconds{queue=more}"
		})
		for key := range series {
			series[key] = 0
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("series (-before +after):\n%s", diff)
	}
}

// Whoever finds a sample that is young enough takes none.
func TestDepthIsSampledByOneWorkerAtATime(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	rig.fill(5, "Nobody", "default", "-1 hour")
	read := func(maxAge time.Duration) *depthSample {
		t.Helper()
		opened, err := rig.store.openSession(t.Context(), workerRecord{id: newWorkerID(), lease: time.Minute, names: []string{"a"}, crons: map[string]string{}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = opened.close(context.Background()) }()
		sample, err := opened.sample(t.Context(), maxAge, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sample
	}
	tx, err := rig.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "select * from anchor_sample(0, '{}')"); err != nil {
		t.Fatal(err)
	}
	if sample := read(0); sample != nil {
		t.Errorf("a sample %v while another worker takes the first", sample)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := read(time.Hour)
	if first == nil || len(first.queues) != 1 || first.queues[0].ready != 5 {
		t.Fatalf("the other worker's sample: %+v", first)
	}
	if second := read(time.Hour); !second.at.Equal(first.at) {
		t.Errorf("sampled at %v again, although there is one of %v", second.at, first.at)
	}
	if third := read(0); !third.at.After(first.at) || third.source != first.source {
		t.Errorf("sampled at %v from %s, after %v from %s", third.at, third.source, first.at, first.source)
	}
}

func TestOldestTransactionIsShown(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	tx, err := rig.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	registry := prometheus.NewPedanticRegistry()
	client := rig.measuredClient(registry, Define("Any", func(context.Context, pgx.Tx, *noParams) error { return nil }))
	rig.startWork(client, withSampling(10*time.Millisecond), WithLease(3*time.Second))
	eventually(t, "the age of the transaction", func() bool {
		age := readMetrics(t, registry)["oldest_transaction_seconds"]
		return age >= 0.5 && age <= time.Since(began).Seconds()+patience.Seconds()
	})
}
