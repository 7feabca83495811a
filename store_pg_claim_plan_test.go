package anchor

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// explainClaims are a superuser's settings that send the plan of every statement inside a function as a notice.
var explainClaims = []string{
	"load 'auto_explain'", "set auto_explain.log_min_duration = 0", "set auto_explain.log_nested_statements = on",
	"set auto_explain.log_analyze = off", "set client_min_messages = log",
}

// planRig explains claims. Its worker's lease does not end.
type planRig struct {
	*pgRig
	conn    *pgx.Conn
	notices []string
}

const planWorker = "00000000-0000-4000-8000-000000000001"

func newPlanRig(t *testing.T) *planRig {
	t.Helper()
	rig := &planRig{pgRig: newPG(t)}
	rig.exec("alter table anchor_tasks_hot set (autovacuum_enabled = off)")
	rig.exec(`insert into anchor_workers (id, host, pid, slots, names, lease_until) values ($1, 'h', 1, 1, '{a}', now() + interval '1 day')`, planWorker)
	config, err := pgx.ParseConfig(rig.url)
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { rig.notices = append(rig.notices, n.Message) }
	if rig.conn, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rig.conn.Close(context.Background()) })
	for _, setting := range explainClaims {
		if _, err := rig.conn.Exec(t.Context(), setting); err != nil {
			t.Fatal(err)
		}
	}
	return rig
}

// fill adds pending tasks in two queues of two priorities each.
func (r *planRig) fill(count int) {
	r.t.Helper()
	r.exec(`insert into anchor_tasks (name, queue, priority, max_attempts, spec)
		select 'a', 'q' || i % 2, i / 2 % 2, 5, '{}' from generate_series(1, $1::int) i`, count)
}

// fillAtRandom adds rows in no order: reading the table and sorting it looks cheaper than following the index.
func (r *planRig) fillAtRandom() {
	r.t.Helper()
	r.exec(`insert into anchor_tasks (name, queue, max_attempts, spec, next_run)
		select 'a', 'q0', 5, '{}', now() - random() * interval '1 day' from generate_series(1, 20000)`)
}

// These are claims of all queues from the beginning, of two from where the last one ended, and of all up to there and on.
const (
	planOfSweep  = `select count(*) from anchor_claim($1, 7, '{a}', $2, $2, 1000000, 20000, null, '', 0, '-infinity', 0, null, null, null, null, null)`
	planOfFloors = `select count(*) from anchor_claim($1, 7, '{a}', $2, $2, 1000000, 20000, '{q0,q1}', '', 0, '-infinity', 0,
		'{1,2,3}', '{0,0}', '{2020-01-01,2020-01-01}', '{0,0}', '{f,f}', p_floor_behind => '{f,f}')`
	planOfHeads = `select count(*) from anchor_claim($1, 7, '{a}', $2, $2, 1000000, 20000, null, '', 0, '-infinity', 0,
		'{1,2,3}', '{0,0}', array[now() - interval '1 ms', now() - interval '1 ms'], '{0,0}', '{f,f}', null, '{q0,q1}', true)`
)

// claimPlans claims up to limit tasks and returns the plans of the statements that read the hot tasks.
func (r *planRig) claimPlans(limit int, statement string) []string {
	r.t.Helper()
	tx, err := r.conn.Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	r.notices = nil
	if _, err := tx.Exec(r.t.Context(), statement, planWorker, limit); err != nil {
		r.t.Fatal(err)
	}
	var plans []string
	for _, notice := range r.notices {
		if strings.Contains(notice, "plan:") && strings.Contains(notice, "Scan using anchor_tasks_ready") ||
			strings.Contains(notice, " on anchor_tasks_hot") {
			plans = append(plans, notice)
		}
	}
	return plans
}

var anotherWay = regexp.MustCompile(`Seq Scan on anchor_tasks|Bitmap|Sort|Hash|Merge Join|using anchor_tasks_hot_pkey|using anchor_tasks_running`)

// timeFiltered is a scan of the ready index that reads on where the time is over.
var timeFiltered = regexp.MustCompile(`using anchor_tasks_ready[^\n]*\n\s+Index Cond[^\n]*\n\s+Filter:[^\n]*next_run[^\n]*`)

// planFault says what is wrong with the plans of a claim, "" when it is the ordered scan of the ready index.
func planFault(plans []string) string {
	if len(plans) == 0 {
		return "no plan was sent"
	}
	updates := 0
	for _, plan := range plans {
		_, nodes, _ := strings.Cut(plan, "\n")
		nodes = nodes[strings.LastIndex(nodes, "\nLimit")+1:] // behind the statement's own text
		if i := strings.Index(plan, "Update on anchor_tasks_hot"); i >= 0 {
			nodes = plan[i:]
			updates++
			if !strings.Contains(nodes, "TID Cond: (ctid = ANY (") {
				return "the tasks are not updated by one scan of their places in the plan\n" + plan
			}
			// Read with locks or without, only one of which is done.
			if strings.Contains(nodes, "Append") && (strings.Count(nodes, "LockRows") != 1 || strings.Count(nodes, "One-Time Filter") != 2) {
				return "the tasks are not read in one of two ways in the plan\n" + plan
			}
		}
		if found := anotherWay.FindString(nodes); found != "" {
			return fmt.Sprintf("%q in the plan\n%s", found, plan)
		}
		if found := timeFiltered.FindString(nodes); found != "" {
			return fmt.Sprintf("the scan has no end, it is %q that tells, in the plan\n%s", found, plan)
		}
		// What was read in the order of the index is claimed by its place.
		if !strings.Contains(nodes, "using anchor_tasks_ready on anchor_tasks_hot") && !strings.Contains(nodes, "Tid Scan on anchor_tasks_hot") {
			return "the ready index is not used in the plan\n" + plan
		}
	}
	if updates == 0 {
		return "no plan is that of an update"
	}
	return ""
}

func (r *planRig) checkPlans(t *testing.T, what string) {
	t.Helper()
	for _, statement := range []string{planOfSweep, planOfFloors, planOfHeads} {
		for _, limit := range []int{1, 1000, 5000} {
			if fault := planFault(r.claimPlans(limit, statement)); fault != "" {
				t.Errorf("%s, limit %d, %s: %s", what, limit, statement, fault)
			}
		}
	}
}

func TestClaimIsAnOrderedScanOfTheReadyIndexWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	rig := newPlanRig(t)
	// A sweep of an empty table finds no queue to update.
	if fault := planFault(rig.claimPlans(1000, planOfFloors)); fault != "" {
		t.Errorf("empty: %s", fault)
	}
	rig.fill(1)
	rig.checkPlans(t, "one task")
	rig.fill(20_000)
	rig.checkPlans(t, "filled, never analysed")

	// A snapshot that is held keeps what was claimed and completed in the index.
	holder := rig.connect()
	if _, err := holder.Exec(t.Context(), "begin isolation level repeatable read; select 1"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		rig.exec("update anchor_tasks_hot set attempts = attempts + 1, next_run = next_run + interval '1 ms'")
	}
	rig.exec("delete from anchor_tasks_hot where id % 10 <> 0")
	rig.checkPlans(t, "bloated")
	rig.exec("analyze anchor_tasks_hot")
	rig.checkPlans(t, "bloated and analysed")
	if _, err := holder.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	rig.exec("delete from anchor_tasks_hot")
	rig.exec("analyze anchor_tasks_hot")
	rig.fill(20_000)
	rig.checkPlans(t, "analysed when it was empty")
	rig.fillAtRandom()
	rig.exec("analyze anchor_tasks_hot")
	rig.checkPlans(t, "in no order, analysed")
}

// The check above must be able to fail: without its settings, the claim goes another way.
func TestPlanOfAClaimDependsOnStatisticsWithoutItsSettings(t *testing.T) {
	t.Parallel()
	rig := newPlanRig(t)
	var signature string
	if err := rig.conn.QueryRow(t.Context(), "select oid::regprocedure::text from pg_proc where proname = 'anchor_claim'").Scan(&signature); err != nil {
		t.Fatal(err)
	}
	rig.exec("alter function " + signature + " reset all")
	rig.fillAtRandom()
	rig.exec("analyze anchor_tasks_hot")
	if fault := planFault(rig.claimPlans(5000, planOfSweep)) + planFault(rig.claimPlans(5000, planOfFloors)); fault == "" {
		t.Error("the plan is an ordered index scan even without the planner settings: the check shows nothing")
	}
}
