package anchor

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The plan of a finish is made when a worker starts, most often on an empty queue, and stays for the life of its
// connection: it must suit a full one.
func TestFinishingIsNotQuadraticAfterAStartOnAnEmptyQueue(t *testing.T) {
	t.Parallel()
	finishes := map[string]string{
		"complete": `select {schema}.anchor_complete('{1,2}', '{1,2}')`,
		"settle":   `select {schema}.anchor_settle('{1,2}', '{1,2}', '{retried,released}', '{1,1}', '{lost,null}')`,
	}
	states := map[string]string{
		"never analysed": `select`,
		"analysed empty": `analyze`,
		"analysed small": `insert into anchor_tasks (name, queue, max_attempts, spec) select 'a', 'default', 1, '{}' from generate_series(1, 20); analyze`,
		"analysed large": `insert into anchor_tasks (name, queue, max_attempts, spec) select 'a', 'default', 1, '{}' from generate_series(1, 20000);
			update anchor_tasks set status = 'running', claim_token = 1, worker_id = gen_random_uuid() where id % 2 = 0; analyze`,
	}
	for state, setUp := range states {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			rig := newPG(t)
			rig.exec(setUp, pgx.QueryExecModeSimpleProtocol)
			for name, finish := range finishes {
				plans := rig.plansOf(rig.store.sql(finish))
				update := planOf(plans, "Update on anchor_tasks")
				if update == "" || strings.Contains(update, "Nested Loop") ||
					!strings.Contains(update, "Index Scan using anchor_tasks_hot_pkey") || !strings.Contains(update, "Index Cond: ((id = ANY") {
					t.Errorf("%s: no hash join with a look-up of the ids:\n%s", name, strings.Join(plans, "\n"))
				}
			}
		})
	}
}

// A heartbeat must not read what its worker has ever held, which a transaction held open somewhere keeps in the index.
func TestHeartbeatReadsOnlyWhatIsToBeCancelled(t *testing.T) {
	t.Parallel()
	const worker = `'00000000-0000-4000-8000-000000000001'`
	for state, setUp := range map[string]string{
		"empty": `select`,
		"never analysed": `insert into anchor_tasks (name, queue, max_attempts, spec) select 'a', 'default', 1, '{}' from generate_series(1, 20000);
			update anchor_tasks set status = 'running', claim_token = 1, worker_id = ` + worker + ` where id % 2 = 0`,
		"analysed": `insert into anchor_tasks (name, queue, max_attempts, spec) select 'a', 'default', 1, '{}' from generate_series(1, 20000);
			update anchor_tasks set status = 'running', claim_token = 1, worker_id = ` + worker + ` where id % 2 = 0; analyze`,
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			rig := newPG(t)
			rig.exec(setUp, pgx.QueryExecModeSimpleProtocol)
			plans := rig.plansOf(`select anchor_heartbeat(` + worker + `, 1000000)`)
			if planOf(plans, "Index Scan using anchor_tasks_cancelling on anchor_tasks_hot") == "" {
				t.Errorf("another way:\n%s", strings.Join(plans, "\n"))
			}
		})
	}
}

// plansOf runs a statement and answers the plans of all statements within it.
func (r *pgRig) plansOf(statement string) []string {
	r.t.Helper()
	config, err := pgx.ParseConfig(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	var plans []string
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { plans = append(plans, notice.Message) }
	conn, err := pgx.ConnectConfig(r.t.Context(), config)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(r.t.Context())
	for _, sql := range []string{
		"load 'auto_explain'", "set auto_explain.log_min_duration = 0", "set auto_explain.log_nested_statements = on",
		"set auto_explain.log_level = notice", statement,
	} {
		if _, err := conn.Exec(r.t.Context(), sql); err != nil {
			r.t.Fatalf("%s: %v", sql, err)
		}
	}
	return plans
}

// planOf is the plan that has a node, "" where none does.
func planOf(plans []string, node string) string {
	for _, plan := range plans {
		if strings.Contains(plan, node) {
			return plan
		}
	}
	return ""
}
