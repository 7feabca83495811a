package anchor

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// otherQueues is the label of all queues that no task and no [WithQueues] of this process names, so that queues
// made up at run time add no series.
const otherQueues = "(other)"

// WithRegisterer exposes Prometheus metrics on r, named anchor_*. Clients that share a registerer share the
// metrics. [New] answers an error when r refuses them, for example because another collector has one of the names.
// The label task is the name of a registered task; queue is a queue that a registered task or [WithQueues] names, and
// "(other)" otherwise. Defaults to no metrics, which then cost nothing.
func WithRegisterer(r prometheus.Registerer) ClientOption {
	return clientOption{
		text: "WithRegisterer",
		set: func(o *clientOptions) error {
			if r == nil {
				return errors.New("the registerer is nil")
			}
			o.registerer = r
			return nil
		},
	}
}

// metrics is everything that is exposed on one registerer, as one collector. It is safe for concurrent use.
type metrics struct {
	enqueued       *prometheus.CounterVec
	completed      *prometheus.CounterVec
	failed         *prometheus.CounterVec
	attemptsFailed *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	pickup         *prometheus.HistogramVec
	takenBack      prometheus.Counter
	claimsLost     prometheus.Counter
	dbErrors       prometheus.Counter

	queues sync.Map // the names that may be labels

	mu      sync.Mutex
	workers map[*worker]struct{}
}

var (
	durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600}
	pickupBuckets   = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600}
)

// registerMetrics finds the metrics of a registerer, or registers them.
func registerMetrics(r prometheus.Registerer) (*metrics, error) {
	m := newMetrics()
	err := r.Register(m)
	if err == nil {
		return m, nil
	}
	if taken := (prometheus.AlreadyRegisteredError{}); errors.As(err, &taken) {
		if existing, ok := taken.ExistingCollector.(*metrics); ok {
			return existing, nil
		}
	}
	return nil, fmt.Errorf("WithRegisterer: registering the metrics: %w", err)
}

func newMetrics() *metrics {
	counters := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"task", "queue"})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, labels)
	}
	return &metrics{
		enqueued:       counters("anchor_tasks_enqueued_total", "Tasks enqueued by this process; one that was enqueued in a transaction counts whether or not that commits."),
		completed:      counters("anchor_tasks_completed_total", "Tasks completed by this process."),
		failed:         counters("anchor_tasks_failed_total", "Tasks that this process recorded as failed for good."),
		attemptsFailed: counters("anchor_task_attempts_failed_total", "Attempts in this process that ended with an error, a panic or a timeout, the last ones of failed tasks included."),
		duration: histograms("anchor_task_execution_duration_seconds", "How long handlers ran, by how the attempt ended: completed, retried, failed (for good), cancelled or lost (the claim).",
			durationBuckets, "task", "outcome"),
		pickup:     histograms("anchor_task_pickup_delay_seconds", "How long attempts waited from when they were due until their handler started.", pickupBuckets, "queue"),
		takenBack:  counter("anchor_tasks_taken_back_total", "Tasks that this process took back from workers whose lease was over."),
		claimsLost: counter("anchor_claims_lost_total", "Attempts of this process that had lost their claim when they ended: nothing of them was applied."),
		dbErrors:   counter("anchor_db_errors_total", "Calls of this library to its store that failed, those that were tried again included."),
		workers:    map[*worker]struct{}{},
	}
}

// nameQueue lets the queue be a label.
func (m *metrics) nameQueue(queue string) {
	if m != nil {
		m.queues.Store(queue, struct{}{})
	}
}

// queueNames are the names that may be labels, in order.
func (m *metrics) queueNames() []string {
	var names []string
	m.queues.Range(func(queue, _ any) bool { names = append(names, queue.(string)); return true })
	slices.Sort(names)
	return names
}

func (m *metrics) queueLabel(queue string) string {
	if _, named := m.queues.Load(queue); named {
		return queue
	}
	return otherQueues
}

func (m *metrics) tookBack(tasks int) {
	if m != nil {
		m.takenBack.Add(float64(tasks))
	}
}

func (m *metrics) lostClaims(n int) {
	if m != nil {
		m.claimsLost.Add(float64(n))
	}
}

func (m *metrics) storeFailed() {
	if m != nil {
		m.dbErrors.Inc()
	}
}

// taskMetrics are the counters and observers of one task, looked up once. A nil one counts nothing.
type taskMetrics struct {
	metrics *metrics
	task    string
	queue   string // the task's own, the common case
	own     *queueMetrics
	others  sync.Map // label -> *queueMetrics
	took    map[AttemptOutcome]prometheus.Observer
}

// queueMetrics are those of one task in one queue.
type queueMetrics struct {
	enqueued, completed, failed, attemptsFailed prometheus.Counter
	pickup                                      prometheus.Observer
}

// ofTask prepares a task's metrics; its series exist from here on.
func (m *metrics) ofTask(task, queue string) *taskMetrics {
	if m == nil {
		return nil
	}
	t := &taskMetrics{metrics: m, task: task, queue: queue, own: m.ofQueue(task, queue), took: map[AttemptOutcome]prometheus.Observer{}}
	for _, outcome := range attemptOutcomes {
		t.took[outcome] = m.duration.WithLabelValues(task, string(outcome))
	}
	return t
}

func (m *metrics) ofQueue(task, label string) *queueMetrics {
	return &queueMetrics{
		enqueued: m.enqueued.WithLabelValues(task, label), completed: m.completed.WithLabelValues(task, label),
		failed: m.failed.WithLabelValues(task, label), attemptsFailed: m.attemptsFailed.WithLabelValues(task, label),
		pickup: m.pickup.WithLabelValues(label),
	}
}

func (t *taskMetrics) in(queue string) *queueMetrics {
	if queue == t.queue {
		return t.own
	}
	label := t.metrics.queueLabel(queue)
	if found, ok := t.others.Load(label); ok {
		return found.(*queueMetrics)
	}
	made, _ := t.others.LoadOrStore(label, t.metrics.ofQueue(t.task, label))
	return made.(*queueMetrics)
}

func (t *taskMetrics) enqueued(queue string, tasks int) {
	if t != nil {
		t.in(queue).enqueued.Add(float64(tasks))
	}
}

// started is told how long an attempt has waited since it was due.
func (t *taskMetrics) started(task *claimedTask, now time.Time) {
	if t != nil {
		waited := task.startedAt.Sub(task.nextRun) + now.Sub(task.received)
		t.in(task.queue).pickup.Observe(max(0, waited.Seconds()))
	}
}

func (t *taskMetrics) ran(outcome AttemptOutcome, took time.Duration) {
	if t != nil {
		t.took[outcome].Observe(took.Seconds())
	}
}

// settled is told how an attempt is on record. An exhausted task's last attempt did not end here.
func (t *taskMetrics) settled(task *claimedTask, ended outcome) {
	if t == nil {
		return
	}
	in := t.in(task.queue)
	switch ended {
	case outcomeCompleted:
		in.completed.Inc()
	case outcomeRetried:
		in.attemptsFailed.Inc()
	case outcomeFailed:
		in.failed.Inc()
		if !task.exhausted {
			in.attemptsFailed.Inc()
		}
	}
}
