package anchor

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var explainStates = map[string]string{
	"never analysed": `insert into anchor_tasks (id, name, priority, spec) select i, 'a', i % 3, '{}' from generate_series(1, 20000) i`,
	"analysed empty": `analyze; insert into anchor_tasks (id, name, priority, spec) select i, 'a', i % 3, '{}' from generate_series(1, 20000) i`,
	"analysed small": `insert into anchor_tasks (id, name, spec) select i, 'a', '{}' from generate_series(1, 3) i; analyze`,
	"all of one worker": `insert into anchor_tasks (id, name, priority, spec) select i, 'a', i % 3, '{}' from generate_series(1, 20000) i;
		insert into anchor_workers (id, host, pid, slots, names, lease_until) values ('00000000-0000-4000-8000-000000000001', 'h', 1, 1, '{a}', now() + interval '1 day');
		update anchor_tasks_hot set status = 'running', worker_id = '00000000-0000-4000-8000-000000000001', claim_token = id / 1000 + 1 where id > 10;
		insert into anchor_claims (worker_id, token, part, ids) select worker_id, claim_token, 1, array_agg(id) from anchor_tasks_hot where id > 10 group by 1, 2; analyze`,
}

var explainReads = []string{
	`select {schema}.anchor_explain(3, 1000)`,
	`select {schema}.anchor_list_workers()`,
}

var readsMore = regexp.MustCompile(`(Seq Scan|Bitmap Heap Scan) on anchor_tasks|Sort`) // the few workers are sorted

// explainFault says what is wrong with the plans of what an explanation reads, "" where only index entries are.
func (r *pgRig) explainFault() string {
	r.t.Helper()
	read := false
	for _, statement := range explainReads {
		for _, plan := range r.plansOf(r.store.sql(statement)) {
			if strings.Contains(plan, "on anchor_tasks_hot") {
				read = true
			}
			if found := readsMore.FindString(plan); found != "" && (found != "Sort" || !strings.Contains(plan, "on anchor_workers")) {
				return plan
			}
		}
	}
	if !read {
		return "no plan was sent"
	}
	return ""
}

func TestExplainReadsIndexEntriesWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	for state, setUp := range explainStates {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			rig := newPG(t)
			rig.exec(setUp, pgx.QueryExecModeSimpleProtocol)
			if fault := rig.explainFault(); fault != "" {
				t.Errorf("more than index entries is read:\n%s", fault)
			}
		})
	}
}

// The check above must be able to fail: without its settings, an explanation reads the table.
func TestPlanOfAnExplanationDependsOnStatisticsWithoutItsSettings(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	for _, signature := range readAll[string](rig, "select oid::regprocedure::text from pg_proc where proname in ('anchor_explain', 'anchor_list_workers')") {
		rig.exec("alter function " + signature + " reset all")
	}
	rig.exec(explainStates["all of one worker"], pgx.QueryExecModeSimpleProtocol)
	if rig.explainFault() == "" {
		t.Error("only index entries are read even without the planner settings: the check shows nothing")
	}
}

// BenchmarkExplain explains, at 1,000,000 pending tasks, the one that has the most before it.
func BenchmarkExplain(b *testing.B) {
	rig := newPG(b)
	rig.fill(1_000_000, "a", "default", "-1 hour")
	for name, analyse := range map[string]string{"never analysed": "select 1", "analysed": "vacuum analyze anchor_tasks_hot"} {
		rig.exec(analyse)
		last := readOne[int64](rig, "select id from anchor_tasks_hot order by priority desc, next_run desc, id desc limit 1")
		client := rig.newClient()
		b.Run(name, func(b *testing.B) {
			var slowest time.Duration
			for b.Loop() {
				began := time.Now()
				if e, err := client.Explain(b.Context(), last); err != nil || !e.AheadMore {
					b.Fatalf("%+v, error %v", e, err)
				}
				slowest = max(slowest, time.Since(began))
			}
			b.ReportMetric(float64(slowest.Microseconds())/1000, "ms-slowest")
		})
	}
}
