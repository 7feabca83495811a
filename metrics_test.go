package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// readMetrics are the values of all series, of histograms the counts, by name and labels.
func readMetrics(t *testing.T, registry prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			key := strings.TrimPrefix(family.GetName(), "anchor_")
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			values[key] = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// counted are the series of counters and histograms that are not 0.
func counted(t *testing.T, registry prometheus.Gatherer) map[string]float64 {
	t.Helper()
	values := readMetrics(t, registry)
	for key, value := range values {
		name, _, _ := strings.Cut(key, "{")
		if value == 0 || !strings.HasSuffix(name, "_total") && !strings.HasPrefix(name, "task_") {
			delete(values, key)
		}
	}
	return values
}

// withSampling shortens how old a sample of the queues may be.
func withSampling(d time.Duration) WorkOption {
	return workOption{fmt.Sprintf("withSampling(%v)", d), func(o *workOptions) error { o.sampleInterval = d; return nil }}
}

// measuredClient is a client of the rig with metrics.
func (r *pgRig) measuredClient(registry prometheus.Registerer, tasks ...AnyTask) *Client {
	r.t.Helper()
	c, err := New(r.store, WithTasks(tasks...), WithRegisterer(registry), WithLogger(slog.New(slog.NewTextHandler(r.logs, nil))))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// measured are the tasks of the tests of metrics: each ends in a way of its own.
type measured struct {
	completed, inTx, flaky, failed, hooked, panicking, fatal *Task[noParams]
}

func defineMeasured() measured {
	refuse := func(context.Context, pgx.Tx, *noParams) error { return errors.New("no") }
	retries := WithRetryPolicy("1ms", 2)
	return measured{
		completed: Define("Completed", func(context.Context, pgx.Tx, *noParams) error { return nil }, WithQueue("fast")),
		inTx: Define("InTx", func(ctx context.Context, tx pgx.Tx, _ *noParams) error {
			_, err := tx.Exec(ctx, "select 1")
			if errors.Is(err, ErrNoTransaction) {
				return nil
			}
			return err
		}),
		flaky: Define("Flaky", func(ctx context.Context, _ pgx.Tx, _ *noParams) error {
			if task, _ := TaskFromContext(ctx); task.Attempts < 3 {
				return errors.New("not yet")
			}
			return nil
		}, WithRetryPolicy("1ms", 5)),
		failed:    Define("Failed", refuse, retries),
		hooked:    Define("Hooked", refuse, retries).OnFailed(func(context.Context, pgx.Tx, Failure, *noParams) error { return nil }),
		panicking: Define("Panicking", func(context.Context, pgx.Tx, *noParams) error { panic("no") }, WithRetryPolicy("1ms", 1)),
		fatal:     Define("Fatal", func(context.Context, pgx.Tx, *noParams) error { return Fatal(errors.New("no")) }),
	}
}

func (m measured) tasks() []AnyTask {
	return []AnyTask{m.completed, m.inTx, m.flaky, m.failed, m.hooked, m.panicking, m.fatal}
}

// run enqueues a known number of each, and waits for their end.
func (m measured) run(t *testing.T, c *Client) {
	t.Helper()
	var ids []int64
	add := func(id int64, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	many, err := m.completed.RunMany(t.Context(), c, []*noParams{{}, {}, {}, {}, {}})
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, many...)
	add(m.completed.Run(t.Context(), c, &noParams{}, WithQueue("made up at run time")))
	for _, task := range []*Task[noParams]{m.inTx, m.inTx, m.flaky, m.flaky, m.failed, m.hooked, m.panicking, m.fatal} {
		add(task.Run(t.Context(), c, &noParams{}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, id := range ids {
		if _, err := c.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
}

var wantMeasured = map[string]float64{
	"tasks_enqueued_total{queue=fast,task=Completed}":                   5,
	"tasks_enqueued_total{queue=(other),task=Completed}":                1,
	"tasks_enqueued_total{queue=default,task=InTx}":                     2,
	"tasks_enqueued_total{queue=default,task=Flaky}":                    2,
	"tasks_enqueued_total{queue=default,task=Failed}":                   1,
	"tasks_enqueued_total{queue=default,task=Hooked}":                   1,
	"tasks_enqueued_total{queue=default,task=Panicking}":                1,
	"tasks_enqueued_total{queue=default,task=Fatal}":                    1,
	"tasks_completed_total{queue=fast,task=Completed}":                  5,
	"tasks_completed_total{queue=(other),task=Completed}":               1,
	"tasks_completed_total{queue=default,task=InTx}":                    2,
	"tasks_completed_total{queue=default,task=Flaky}":                   2,
	"tasks_failed_total{queue=default,task=Failed}":                     1,
	"tasks_failed_total{queue=default,task=Hooked}":                     1,
	"tasks_failed_total{queue=default,task=Panicking}":                  1,
	"tasks_failed_total{queue=default,task=Fatal}":                      1,
	"task_attempts_failed_total{queue=default,task=Flaky}":              4,
	"task_attempts_failed_total{queue=default,task=Failed}":             2,
	"task_attempts_failed_total{queue=default,task=Hooked}":             2,
	"task_attempts_failed_total{queue=default,task=Panicking}":          1,
	"task_attempts_failed_total{queue=default,task=Fatal}":              1,
	"task_execution_duration_seconds{outcome=completed,task=Completed}": 6,
	"task_execution_duration_seconds{outcome=completed,task=InTx}":      2,
	"task_execution_duration_seconds{outcome=completed,task=Flaky}":     2,
	"task_execution_duration_seconds{outcome=retried,task=Flaky}":       4,
	"task_execution_duration_seconds{outcome=retried,task=Failed}":      1,
	"task_execution_duration_seconds{outcome=failed,task=Failed}":       1,
	"task_execution_duration_seconds{outcome=retried,task=Hooked}":      1,
	"task_execution_duration_seconds{outcome=failed,task=Hooked}":       1,
	"task_execution_duration_seconds{outcome=failed,task=Panicking}":    1,
	"task_execution_duration_seconds{outcome=failed,task=Fatal}":        1,
	"task_pickup_delay_seconds{queue=fast}":                             5,
	"task_pickup_delay_seconds{queue=(other)}":                          1,
	"task_pickup_delay_seconds{queue=default}":                          14,
}

// Two clients of one registerer, one of which works.
func TestMetricsCountEveryOutcomeOnce(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	for name, store := range map[string]Store{"postgres": rig.store, "memory": NewMemoryStore()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewPedanticRegistry()
			tasks := defineMeasured()
			newClient := func() *Client {
				c, err := New(store, WithTasks(tasks.tasks()...), WithRegisterer(registry), WithLogger(slog.New(slog.NewTextHandler(rig.logs, nil))))
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			enqueuer, worker := newClient(), newClient()
			stop := rig.startWork(worker, WithPollInterval(20*time.Millisecond))
			tasks.run(t, enqueuer)
			stop()
			if diff := cmp.Diff(wantMeasured, counted(t, registry)); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
			if values := readMetrics(t, registry); values["worker_slots"] != 0 {
				t.Errorf("%v slots although nobody works", values["worker_slots"])
			}
		})
	}
}

func TestMetricsPassTheLinters(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	tasks := defineMeasured()
	client := rig.measuredClient(registry, tasks.tasks()...)
	rig.startWork(client, WithPollInterval(20*time.Millisecond), withSampling(10*time.Millisecond), WithLease(3*time.Second))
	tasks.run(t, client)
	eventually(t, "a sample", func() bool {
		_, sampled := readMetrics(t, registry)["queue_depth{queue=fast,state=ready}"]
		return sampled
	})
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed, only promlint has looked")
		return
	}
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = answer.Body
	if output, err := check.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, output)
	}
}

func TestMetricsWithATakenNameAreRefused(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	err := registry.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "anchor_tasks_taken_back_total", Help: "Somebody else's."}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = New(NewMemoryStore(), WithRegisterer(registry)); err == nil || !strings.Contains(err.Error(), "anchor_tasks_taken_back_total") {
		t.Errorf("New with a registerer that has one of the names: %v", err)
	}
	if _, err = New(NewMemoryStore(), WithRegisterer(nil)); err == nil || !strings.Contains(err.Error(), "the registerer is nil") {
		t.Errorf("New with a nil registerer: %v", err)
	}
	failed := prometheus.NewRegistry()
	if _, err = New(NewMemoryStore(), WithRegisterer(failed), WithTasks(nil)); err == nil {
		t.Error("New with a nil task: no error")
	}
	if got := readMetrics(t, failed); len(got) > 0 {
		t.Errorf("a client that could not be made has registered %v", got)
	}
}

// Clients behind wrapping registerers of other labels have metrics of their own.
func TestMetricsBehindAWrappingRegisterer(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	task := Define[noParams]("Wrapped", nil)
	for _, tenant := range []string{"a", "b", "b"} {
		client, err := New(NewMemoryStore(), WithTasks(task), WithRegisterer(prometheus.WrapRegistererWith(prometheus.Labels{"tenant": tenant}, registry)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := task.Run(t.Context(), client, &noParams{}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]float64{
		"tasks_enqueued_total{queue=default,task=Wrapped,tenant=a}": 1,
		"tasks_enqueued_total{queue=default,task=Wrapped,tenant=b}": 2,
	}
	if diff := cmp.Diff(want, counted(t, registry)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A worker whose lease ends under it: its running task is taken back and runs again, and what its first handler
// comes to is not applied.
func TestMetricsCountTakebacksAndLostClaims(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	started, goOn := make(chan int, 2), make(chan struct{})
	task := Define("Held", func(ctx context.Context, _ pgx.Tx, _ *noParams) error {
		info, _ := TaskFromContext(ctx)
		started <- info.Attempts
		if info.Attempts == 1 {
			<-goOn
		}
		return nil
	})
	client := rig.measuredClient(registry, task)
	rig.startWork(client, WithPollInterval(20*time.Millisecond), WithLease(30*time.Second), WithConcurrency(2))
	id := enqueue(rig, client, task, &noParams{})
	receive(t, "the first attempt", started)
	rig.exec("update anchor_workers set lease_until = clock_timestamp() - interval '1 second'")
	rig.startWork(client, WithPollInterval(20*time.Millisecond), WithLease(3*time.Second))
	if attempt := receive(t, "the second attempt", started); attempt != 2 {
		t.Errorf("attempt %d, want 2", attempt)
	}
	rig.ended(client, id)
	close(goOn)
	want := map[string]float64{
		"tasks_enqueued_total{queue=default,task=Held}":                1,
		"tasks_completed_total{queue=default,task=Held}":               1,
		"tasks_taken_back_total":                                       1,
		"claims_lost_total":                                            1,
		"task_pickup_delay_seconds{queue=default}":                     2,
		"task_execution_duration_seconds{outcome=completed,task=Held}": 2,
	}
	eventually(t, "the lost claim", func() bool { return counted(t, registry)["claims_lost_total"] > 0 })
	got := counted(t, registry)
	delete(got, "db_errors_total") // the first worker may have been refused a claim
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestMetricsCountFailedCallsOfTheStore(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	task := Define[noParams]("Unreachable", nil)
	pool := rig.newPool(1)
	client, err := New(NewPGStore(pool), WithTasks(task), WithRegisterer(registry))
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	for range 3 {
		if _, err := task.Run(t.Context(), client, &noParams{}); err == nil {
			t.Fatal("no error of a closed pool")
		}
	}
	if _, err := task.Run(t.Context(), client, nil); !errors.Is(err, ErrInvalidParams) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"db_errors_total": 3}, counted(t, registry)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestMetricsShowSlots(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	registry := prometheus.NewPedanticRegistry()
	goOn := make(chan struct{})
	task := Define("Deaf", func(context.Context, pgx.Tx, *noParams) error { <-goOn; return nil })
	client := rig.measuredClient(registry, task)
	stop := rig.startWork(client, WithConcurrency(7), withGrace(100*time.Millisecond))
	slots := func() []float64 {
		values := readMetrics(t, registry)
		return []float64{values["worker_slots"], values["worker_slots_busy"], values["worker_slots_stuck"]}
	}
	ids := []int64{enqueue(rig, client, task, &noParams{}), enqueue(rig, client, task, &noParams{})}
	eventually(t, "two busy slots", func() bool { return slices.Equal(slots(), []float64{7, 2, 0}) })
	for _, id := range ids {
		must(t, client.Cancel(t.Context(), id))
	}
	eventually(t, "two stuck handlers", func() bool { return slices.Equal(slots(), []float64{7, 0, 2}) })
	close(goOn)
	eventually(t, "no stuck handler", func() bool { return slices.Equal(slots(), []float64{7, 0, 0}) })
	stop()
	if diff := cmp.Diff([]float64{0, 0, 0}, slots()); diff != "" {
		t.Errorf("slots after the end (-want +got):\n%s", diff)
	}
}

func TestMetricsHistogramsAreClassicAndNative(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registered, err := registerMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	registered.ofTask("Any", "default").ran(AttemptCompleted, time.Second)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if h := metric.GetHistogram(); h.GetSampleCount() > 0 {
				found++
				if len(h.GetBucket()) == 0 || len(h.GetPositiveSpan()) == 0 {
					t.Errorf("%s: %d classic buckets, %d native spans", family.GetName(), len(h.GetBucket()), len(h.GetPositiveSpan()))
				}
			}
		}
	}
	if found != 1 {
		t.Errorf("%d histograms were observed, want 1", found)
	}
}
