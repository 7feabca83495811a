package soak

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/bench/internal/result"
)

// Sample is what there was at one moment.
type Sample struct {
	Second float64 // since the beginning

	Rate   float64 // handlers started a second, since the sample before
	Pickup float64 // p99 in ms, since the sample before

	HotBytes, HotIndexBytes float64 // of the partition with what is pending and running
	DeadTuples              float64 // in it
	Pending                 float64
	TagBytes, WorkerBytes   float64
	// What is kept on purpose, by what it is kept for.
	HistoryBytesPerTask, ErrorBytesPerError, TickBytesPerTick float64

	Resident   float64 // bytes of the process that enqueues and works
	Goroutines float64
	Heap       float64 // bytes in use
}

const readSizes = `select
  pg_table_size('anchor_tasks_hot')::float8, pg_indexes_size('anchor_tasks_hot')::float8,
  coalesce((select n_dead_tup from pg_stat_user_tables where relname = 'anchor_tasks_hot'), 0)::float8,
  (select count(*) from anchor_tasks_hot where status = 'pending')::float8,
  pg_total_relation_size('anchor_unique_tags')::float8, (pg_total_relation_size('anchor_workers') + pg_total_relation_size('anchor_claims'))::float8,
  (select sum(pg_total_relation_size(c.oid)) from pg_class c where c.relkind = 'r' and c.relname like 'anchor\_tasks\_done\_%')::float8,
  pg_total_relation_size('anchor_task_errors')::float8, pg_total_relation_size('anchor_cron_runs')::float8`

// sampler takes samples of one run.
type sampler struct {
	mix   *mix
	pool  *pgxpool.Pool
	began time.Time

	last        time.Time
	lastHandled int64
}

func newSampler(m *mix, pool *pgxpool.Pool) *sampler {
	now := time.Now()
	return &sampler{mix: m, pool: pool, began: now, last: now}
}

func (s *sampler) take(ctx context.Context) (Sample, error) {
	now, handled, pickups := time.Now(), s.mix.handled.Load()+s.mix.ticks.Load(), s.mix.takePickups()
	slices.Sort(pickups)
	sample := Sample{
		Second: now.Sub(s.began).Seconds(),
		Rate:   float64(handled-s.lastHandled) / now.Sub(s.last).Seconds(),
		Pickup: result.Percentile(pickups, 99),
	}
	s.last, s.lastHandled = now, handled
	var history, failures, ticks float64
	err := s.pool.QueryRow(ctx, readSizes).Scan(&sample.HotBytes, &sample.HotIndexBytes, &sample.DeadTuples, &sample.Pending,
		&sample.TagBytes, &sample.WorkerBytes, &history, &failures, &ticks)
	sample.HistoryBytesPerTask = history / float64(max(handled, 1))
	sample.ErrorBytesPerError = failures / float64(max(s.mix.attemptsFailed.Load(), 1))
	sample.TickBytesPerTick = ticks / float64(max(s.mix.ticks.Load(), 1))
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	sample.Resident, sample.Heap, sample.Goroutines = resident(), float64(memory.HeapInuse), float64(runtime.NumGoroutine())
	return sample, err
}

// resident is this process's memory in bytes, 0 where /proc is missing.
func resident() float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize())
}
