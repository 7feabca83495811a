package anchor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// depthSample is how deep the queues were at one time.
type depthSample struct {
	source string // which database or in-memory store it is of
	at     time.Time
	queues []queueDepth
	// oldestTransaction is the age of the oldest open transaction that keeps the store from cleaning up.
	oldestTransaction time.Duration
}

type queueDepth struct {
	queue                     string
	ready, scheduled, running int64
	oldest                    time.Duration // how long the oldest ready task has been due
}

var (
	slotsDesc = prometheus.NewDesc("anchor_worker_slots", "Handlers that the workers of this process may run at once.", nil, nil)
	busyDesc  = prometheus.NewDesc("anchor_worker_slots_busy", "Slots of this process's workers that run a handler.", nil, nil)
	stuckDesc = prometheus.NewDesc("anchor_worker_slots_stuck", "Handlers of this process that ignore the end of their context: their tasks were taken away from them, they still run.", nil, nil)
	depthDesc = prometheus.NewDesc("anchor_queue_depth",
		"Tasks of the whole database by state: ready (due), scheduled (due later), running. Sampled by one worker every few seconds, the same in every process; exact up to 2,000 tasks of a queue and priority, estimated above.",
		[]string{"queue", "state"}, nil)
	oldestReadyDesc = prometheus.NewDesc("anchor_queue_oldest_ready_seconds", "How long the oldest ready task of the queue has been due, 0 when there is none. Sampled with the depth.",
		[]string{"queue"}, nil)
	oldestTransactionDesc = prometheus.NewDesc("anchor_oldest_transaction_seconds",
		"Age of the oldest transaction in the database server that keeps dead rows from being cleaned up, and the queue slow. Other roles' are seen with pg_read_all_stats only. Sampled with the depth.", nil, nil)
)

var _ prometheus.Collector = (*metrics)(nil)

func (m *metrics) recorded() []prometheus.Collector {
	return []prometheus.Collector{m.enqueued, m.completed, m.failed, m.attemptsFailed, m.duration, m.pickup, m.takenBack, m.claimsLost, m.dbErrors}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.recorded() {
		c.Describe(out)
	}
	for _, desc := range []*prometheus.Desc{slotsDesc, busyDesc, stuckDesc, depthDesc, oldestReadyDesc, oldestTransactionDesc} {
		out <- desc
	}
}

// Collect implements [prometheus.Collector]. What workers are doing is read here, so that it costs tasks nothing.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.recorded() {
		c.Collect(out)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	slots, busy, stuck := 0, 0, 0
	newest := map[string]*depthSample{}
	for _, w := range m.working() {
		slots += w.options.concurrency
		busy += w.intake.busy()
		stuck += int(w.stuck.Load())
		if s := w.depth.Load(); s != nil && (newest[s.source] == nil || newest[s.source].at.Before(s.at)) {
			newest[s.source] = s
		}
	}
	gauge(slotsDesc, float64(slots))
	gauge(busyDesc, float64(busy))
	gauge(stuckDesc, float64(stuck))
	if len(newest) == 0 {
		return
	}
	byLabel := map[string]*queueDepth{}
	m.queues.Range(func(queue, _ any) bool { byLabel[queue.(string)] = &queueDepth{}; return true })
	var oldestTransaction time.Duration
	for _, s := range newest {
		oldestTransaction = max(oldestTransaction, s.oldestTransaction)
		for _, q := range s.queues {
			label := m.queueLabel(q.queue)
			sum := byLabel[label]
			if sum == nil {
				sum = &queueDepth{}
				byLabel[label] = sum
			}
			sum.ready += q.ready
			sum.scheduled += q.scheduled
			sum.running += q.running
			sum.oldest = max(sum.oldest, q.oldest)
		}
	}
	for label, q := range byLabel {
		gauge(depthDesc, float64(q.ready), label, "ready")
		gauge(depthDesc, float64(q.scheduled), label, "scheduled")
		gauge(depthDesc, float64(q.running), label, "running")
		gauge(oldestReadyDesc, q.oldest.Seconds(), label)
	}
	gauge(oldestTransactionDesc, oldestTransaction.Seconds())
}

// workBegins and workEnds bound the time in which a worker is shown.
func (m *metrics) workBegins(w *worker) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workers[w] = struct{}{}
}

func (m *metrics) workEnds(w *worker) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.workers, w)
}

func (m *metrics) working() []*worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	workers := make([]*worker, 0, len(m.workers))
	for w := range m.workers {
		workers = append(workers, w)
	}
	return workers
}
