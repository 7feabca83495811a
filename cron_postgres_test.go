package anchor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tickLog keeps the instances that ran.
type tickLog struct{ ran chan *TaskInfo }

func newTickLog() *tickLog { return &tickLog{ran: make(chan *TaskInfo, 10_000)} }

func (l *tickLog) handle(ctx context.Context, _ pgx.Tx, _ *workParams) error {
	info, _ := TaskFromContext(ctx)
	l.ran <- info
	return nil
}

// wantInARow receives n instances, whose ticks follow each other by the second.
func (l *tickLog) wantInARow(t *testing.T, n int) {
	t.Helper()
	var last time.Time
	for range n {
		info := receive(t, "an instance", l.ran)
		if !last.IsZero() && !info.ScheduledFor.Equal(last.Add(time.Second)) {
			t.Errorf("tick %v after %v", info.ScheduledFor, last)
		}
		if info.StartedAt.Before(info.ScheduledFor) {
			t.Errorf("tick %v started at %v", info.ScheduledFor, info.StartedAt)
		}
		last = info.ScheduledFor
	}
}

func TestScheduleTicksOnPostgres(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]PGOption{"listening": nil, "polling only": {WithPollingOnly()}, "in a schema": {WithSchema("jobs")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newPG(t, opts...)
			log := newTickLog()
			task := Define("Tick", log.handle)
			client := rig.newClient(task)
			rig.startWork(client)
			must(t, task.Schedule(t.Context(), client, "every-second", "* * * * * *", &workParams{N: 3}, WithTimeZone("Europe/Berlin")))
			log.wantInARow(t, 3)
		})
	}
}

// What PgBouncer in transaction mode allows.
func TestScheduleTicksWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheDescribe} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			rig := newPG(t)
			config := rig.pool.Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			must(t, err)
			t.Cleanup(pool.Close)
			log := newTickLog()
			task := Define("Tick", log.handle).Cron("* * * * * *", &workParams{N: 1}, WithRunOptions(WithTimeout("5s")))
			client := rig.clientOf(NewPGStore(pool, WithPollingOnly()), task)
			rig.startWork(client)
			log.wantInARow(t, 2)
			must(t, task.Schedule(t.Context(), client, "tagged", "* * * * * *", &workParams{}, WithRunOptions(WithUniqueTag("t", UniqueFor(time.Millisecond)))))
			must(t, client.UpdateCron(t.Context(), "Tick", "* * * * *"))
			log.wantInARow(t, 1)
			if _, err := client.RunCronNow(t.Context(), "Tick"); err != nil {
				t.Error(err)
			}
			if infos, err := client.Crons(t.Context()); err != nil || len(infos) != 2 || infos[0].Orphaned {
				t.Errorf("schedules %v, error %v", infos, err)
			}
		})
	}
}

// The step of the server's clock is a step of the next tick the other way.
func TestSteppedServerClockNeitherDoublesNorLosesATick(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	rig.startWork(client)
	must(t, task.Schedule(t.Context(), client, "s", "* * * * * *", &workParams{}))
	log.wantInARow(t, 2)
	rig.exec("update anchor_cron_jobs set next_run = next_run - interval '2 seconds'")
	log.wantInARow(t, 2)
	rig.exec("update anchor_cron_jobs set next_run = now() - interval '0.3 seconds'") // no tick
	log.wantInARow(t, 2)
	if n := readOne[int](rig, "select count(*) - count(distinct attributes ->> 'scheduledFor') from anchor_tasks"); n != 0 {
		t.Errorf("%d instances too many", n)
	}
	if n := readOne[int](rig, "select extract(epoch from max(tick) - min(tick))::int + 1 - count(*) from anchor_cron_runs"); n != 0 {
		t.Errorf("%d ticks were lost", n)
	}
}

func TestBadRowsStopTheirScheduleOnly(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	for _, name := range []string{"expression", "zone", "constraint", "good"} {
		must(t, task.Schedule(t.Context(), client, name, "* * * * * *", &workParams{}))
	}
	rig.exec("update anchor_cron_jobs set cron_expression = 'TZ=' where name = 'expression'")
	rig.exec("update anchor_cron_jobs set time_zone = 'Mars/Base' where name = 'zone'")
	rig.exec("update anchor_cron_jobs set queue = 'refused' where name = 'constraint'")
	rig.exec("alter table anchor_tasks add constraint refuse check (queue <> 'refused')")
	rig.startWork(client)
	for range 3 {
		receive(t, "an instance", log.ran)
	}
	eventually(t, "two schedules stopped", func() bool {
		return readOne[int](rig, "select count(problem) from anchor_cron_jobs") == 2
	})
	problems := map[string]string{}
	infos, err := client.Crons(t.Context())
	must(t, err)
	for _, info := range infos {
		problems[info.Name] = info.Problem
		if (info.Problem != "") != info.NextRun.IsZero() {
			t.Errorf("problem %q, next run %v", info.Problem, info.NextRun)
		}
	}
	for name, want := range map[string]string{"expression": "must not name a time zone", "constraint": "cannot be stored", "zone": "", "good": ""} {
		if got := problems[name]; !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("schedule %q has the problem %q, want %q", name, got, want)
		}
	}
	if lines := strings.Count(rig.logs.String(), "this worker cannot tick"); lines != 1 {
		t.Errorf("the unknown zone was logged %d times, want once a minute", lines)
	}
	if err := client.ResumeCron(t.Context(), "expression"); err == nil {
		t.Error("resumed with an expression that is none")
	}
	must(t, client.UpdateCron(t.Context(), "expression", "* * * * * *"))
	eventually(t, "an instance of the mended schedule", func() bool {
		return readOne[int](rig, "select count(*) from anchor_cron_jobs where name = 'expression' and problem is null and task_id is not null") == 1
	})
}

func TestScheduleStoppedByHandDoesNotTick(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define[workParams]("Report", nil)
	r := &cronRig{t: t, store: rig.store, task: task, client: rig.newClient(task)}
	s := r.open()
	past := time.Now().Add(-time.Hour).Truncate(time.Hour)
	for _, change := range []string{"enabled = false", "problem = 'stopped'", "deleted_at = now()"} {
		r.schedule("report", "@hourly", WithEnabled(true))
		r.due("report", past)
		read := r.read(s, past.Add(time.Minute), past)
		rig.exec("update anchor_cron_jobs set " + change)
		if ticked := r.tick(s, read); len(ticked) != 0 {
			t.Errorf("%s meanwhile: ticked %+v", change, ticked)
		}
		if due, err := s.dueCrons(t.Context(), nil, 10); err != nil || len(due.jobs) != 0 {
			t.Errorf("%s: %d are due, error %v", change, len(due.jobs), err)
		}
	}
	r.wantInstances()
}

func TestAThousandSchedulesInOneSecond(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	const count = 1000
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	must(t, task.Schedule(t.Context(), client, "template", "0 0 1 1 *", &workParams{}, WithTimeZone("America/New_York")))
	rig.exec(`insert into anchor_cron_jobs (name, task_name, cron_expression, time_zone, catch_up, params, queue, priority, max_attempts, enabled, next_run)
		select 's' || g, task_name, cron_expression, time_zone, catch_up, params, queue, priority, max_attempts, true, '2020-01-01 05:00+00'
		from anchor_cron_jobs, generate_series(1, $1) g`, count)
	rig.startWork(client)
	rig.startWork(rig.newClient(task))
	ran := map[int64]bool{}
	for range count {
		info := receive(t, "an instance", log.ran)
		if ran[info.ID] || info.ScheduledFor.Format("15:04 -0700") != "00:00 -0500" {
			t.Errorf("instance %d of %v", info.ID, info.ScheduledFor)
		}
		ran[info.ID] = true
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks"); n != count {
		t.Errorf("%d instances, want %d", n, count)
	}
	if n := readOne[int](rig, "select count(*) from anchor_cron_jobs j join anchor_tasks t on t.id = j.task_id where j.next_run > now() and j.skipped > 0"); n != count {
		t.Errorf("%d schedules have moved on, want %d", n, count)
	}
}

func TestTagOfAnOpenTransactionHoldsUpItsScheduleOnlyOnPostgres(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	tx, err := rig.pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = task.RunWithTx(t.Context(), client, tx, &workParams{}, WithUniqueTag("report"))
	must(t, err)
	must(t, task.Schedule(t.Context(), client, "tagged", "* * * * * *", &workParams{}, WithRunOptions(WithUniqueTag("report", UniqueWhileLive), WithQueue("tagged"))))
	must(t, task.Schedule(t.Context(), client, "other", "* * * * * *", &workParams{}))
	rig.startWork(client)
	for range 3 {
		if info := receive(t, "an instance", log.ran); info.Queue == "tagged" {
			t.Errorf("an instance whose tag is not free: %+v", info)
		}
	}
	must(t, tx.Rollback(t.Context()))
	for tagged := false; !tagged; {
		tagged = receive(t, "an instance", log.ran).Queue == "tagged"
	}
}

// version is a program of which one task is declared with a schedule.
func (r *pgRig) version(expression string, opts ...CronOption) *Client {
	r.t.Helper()
	task := Define("Report", newTickLog().handle)
	if expression != "" {
		task.Cron(expression, &workParams{}, opts...)
	}
	return r.newClient(task)
}

func (r *pgRig) wantCron(c *Client, what string, expression string, orphaned bool) {
	r.t.Helper()
	var got string
	eventually(r.t, fmt.Sprintf("%s: %q, orphaned %t", what, expression, orphaned), func() bool {
		infos, err := c.Crons(r.t.Context())
		must(r.t, err)
		if len(infos) != 1 {
			return false
		}
		got = infos[0].Expression
		return got == expression && infos[0].Orphaned == orphaned && infos[0].Declared
	})
}

func TestVersionsSideBySideDoNotFight(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	short := WithLease(3 * time.Second) // it declares every third of it; what is over on a busy machine counts for nothing
	older, newer, without := rig.version("0 3 * * *"), rig.version("0 4 * * *"), rig.version("")

	stopOlder := rig.startWork(older, short)
	rig.wantCron(older, "the first version", "0 3 * * *", false)
	stopNewer := rig.startWork(newer, short)
	rig.wantCron(older, "a new version beside it", "0 4 * * *", false)
	version := readOne[int](rig, "select version from anchor_cron_jobs")
	rig.startWork(older, short)()
	beats := readOne[time.Time](rig, "select max(lease_until) from anchor_workers")
	eventually(t, "both have declared again", func() bool {
		return readOne[int](rig, "select count(*) from anchor_workers where lease_until > $1::timestamptz + interval '2 seconds'", beats) >= 2
	})
	if now := readOne[int](rig, "select version from anchor_cron_jobs"); now != version {
		t.Errorf("the schedule was changed %d times while two versions lived", now-version)
	}
	rig.wantCron(older, "both live", "0 4 * * *", false)

	stopNewer()
	rig.wantCron(older, "rolled back", "0 3 * * *", false)
	must(t, newer.UpdateCron(t.Context(), "Report", "0 5 * * *"))
	stopOlder()
	stopOlder = rig.startWork(older, short)
	rig.wantCron(older, "an operator's change", "0 5 * * *", false)
	rig.startWork(without, short)
	stopOlder()
	rig.wantCron(without, "left the code", "0 5 * * *", true)
	rig.startWork(rig.version("0 3 * * *", WithCatchUp(CatchUpAll)), short)
	rig.wantCron(without, "the code has changed", "0 3 * * *", false)
}

func TestRunsOfSchedulesAreKeptForADay(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define[workParams]("Report", nil)
	client := rig.newClient(task)
	must(t, task.Schedule(t.Context(), client, "s", "@hourly", &workParams{}))
	rig.exec(`insert into anchor_cron_runs (cron_id, tick, at)
		select j.id, now() - h * interval '1 hour', now() - h * interval '1 hour' from anchor_cron_jobs j, unnest(array[1, 23, 25, 100]) h`)
	opened, err := rig.store.openSession(t.Context(), workerRecord{id: newWorkerID(), lease: testLease, crons: map[string]string{}, names: []string{"Report"}})
	must(t, err)
	defer func() { _ = opened.close(context.Background()) }()
	must(t, opened.prune(t.Context()))
	kept := readAll[int](rig, "select round(extract(epoch from now() - tick) / 3600)::int from anchor_cron_runs order by 1")
	if diff := cmp.Diff([]int{1, 23}, kept); diff != "" {
		t.Errorf("hours of the runs that are kept (-want +got):\n%s", diff)
	}
	must(t, client.DeleteCron(t.Context(), "s"))
	if n := readOne[int](rig, "select (select count(*) from anchor_cron_runs) + (select count(*) from anchor_cron_jobs)"); n != 0 {
		t.Errorf("%d rows of a deleted schedule are left", n)
	}
}
