//go:build unix

package anchor

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestFiveProcessesAndOneInstanceForEveryTick takes a minute, beside other tests. Three of the workers are killed and
// started again on the way.
func TestFiveProcessesAndOneInstanceForEveryTick(t *testing.T) {
	t.Parallel()
	const seconds = 60
	rig := newPG(t)
	rig.exec(createProcessTables)
	setting := workerSetting{URL: rig.url, Lease: processLease, Concurrency: 4, Cron: "* * * * * *"}
	var processes []*workerProcess
	for range 5 {
		processes = append(processes, rig.startProcessWith(setting))
	}
	ticked := func() int {
		return readOne[int](rig, "select coalesce(extract(epoch from max(tick) - min(tick)), -1)::int + 1 from anchor_cron_runs")
	}
	for kill := range 3 {
		after := (kill + 1) * seconds / 4
		eventually(t, fmt.Sprintf("%d ticks", after), func() bool { return ticked() >= after }) // 15 s each
		processes[kill].signal(syscall.SIGKILL)
		processes[kill].exited()
		processes = append(processes, rig.startProcessWith(setting))
	}
	eventually(t, fmt.Sprintf("%d ticks", seconds), func() bool { return ticked() >= seconds })
	for _, p := range processes[3:] {
		p.signal(syscall.SIGTERM)
		p.exited()
	}

	const tasks = "(select (attributes ->> 'scheduledFor')::timestamptz as tick, status from anchor_tasks)"
	for what, query := range map[string]string{
		"ticks without an instance": `select count(*) from generate_series((select min(tick) from ` + tasks + ` t), (select max(tick) from ` + tasks + ` t), interval '1 second') g
			where g not in (select tick from ` + tasks + ` t)`,
		"instances too many":           "select count(*) - count(distinct tick) from " + tasks + " t",
		"instances off the second":     "select count(*) from " + tasks + " t where tick <> date_trunc('second', tick)",
		"ticks counted as skipped":     "select skipped from anchor_cron_jobs",
		"instances without a run":      "select count(*) from anchor_tasks t where not exists (select from anchor_cron_runs r where r.task_id = t.id)",
		"effects of no or two handles": "select count(*) from (select task_id from effects group by task_id having count(*) <> 1) e",
	} {
		if n := readOne[int](rig, query); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	first := readOne[time.Time](rig, "select min(tick) from anchor_cron_runs")
	t.Logf("%d instances from %v on", readOne[int](rig, "select count(*) from anchor_tasks"), first)
	if n := readOne[int](rig, "select count(*) from anchor_tasks"); n < seconds {
		t.Errorf("%d instances in %d seconds", n, seconds)
	}
}
