package anchor

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// Of a day without a worker, a thousand ticks are made up for, and the others are told of.
func TestCatchUpAllOnPostgresStopsAtAThousandAndReportsTheRest(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	must(t, task.Schedule(t.Context(), client, "minutes", "* * * * *", &workParams{}, WithCatchUp(CatchUpAll)))
	rig.exec("update anchor_cron_jobs set next_run = date_trunc('minute', now()) - interval '1499 minutes'")
	due := readOne[time.Time](rig, "select next_run from anchor_cron_jobs")
	rig.startWork(client, WithConcurrency(1))

	first := due.Add(500 * time.Minute)
	if now := readOne[time.Time](rig, "select date_trunc('minute', now())"); !now.Equal(due.Add(1499 * time.Minute)) {
		first = first.Add(time.Minute) // the minute was over before the worker looked
	}
	ticks := make([]time.Time, maxCaughtUp)
	for i := range ticks {
		ticks[i] = receive(t, "an instance", log.ran).ScheduledFor
	}
	slices.SortFunc(ticks, time.Time.Compare) // a busy worker gives some back, which run later
	for i, tick := range ticks {
		if want := first.Add(time.Duration(i) * time.Minute); !tick.Equal(want) {
			t.Fatalf("instance %d is that of %v, want %v", i, tick, want)
		}
	}
	infos, err := client.Crons(t.Context())
	must(t, err)
	skipped := int64(first.Sub(due) / time.Minute)
	if infos[0].Skipped != skipped || infos[0].LastTick.Before(first.Add(999*time.Minute)) || !infos[0].NextRun.After(infos[0].LastTick) {
		t.Errorf("the schedule is %+v, want %d ticks skipped", infos[0], skipped)
	}
	if want := fmt.Sprintf("schedule=minutes rule=all instances=1000 skipped=%d", skipped); !strings.Contains(rig.logs.String(), want) {
		t.Errorf("the log has no %q", want)
	}
}

func TestCatchUpOneAndNoneOnPostgres(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	for _, rule := range []CatchUp{CatchUpOne, CatchUpNone} {
		must(t, task.Schedule(t.Context(), client, string(rule), "0 0 1 1 *", &workParams{}, WithCatchUp(rule)))
	}
	rig.exec("update anchor_cron_jobs set next_run = '2020-01-01 00:00+00'")
	rig.startWork(client)
	eventually(t, "both have moved on", func() bool {
		return readOne[int](rig, "select count(*) from anchor_cron_jobs where next_run > now()") == 2
	})
	infos, err := client.Crons(t.Context())
	must(t, err)
	years := int64(infos[0].NextRun.Year() - 2020)
	if none, one := infos[0], infos[1]; none.Skipped != years || none.TaskID != 0 || one.Skipped != years-1 || one.TaskID == 0 {
		t.Errorf("of %d ticks none: %+v, one: %+v", years, none, one)
	}
	if tick := receive(t, "the instance", log.ran).ScheduledFor; !tick.Equal(infos[1].LastTick) || tick.Year() != infos[1].NextRun.Year()-1 {
		t.Errorf("the instance is that of %v, want the newest tick, of %v", tick, infos[1].LastTick)
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks"); n != 1 {
		t.Errorf("%d instances, want one", n)
	}
}

// What fell due in the pause is not made up for, whatever the rule.
func TestPausedScheduleDoesNotCatchUpOnPostgres(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	log := newTickLog()
	task := Define("Tick", log.handle)
	client := rig.newClient(task)
	must(t, task.Schedule(t.Context(), client, "seconds", "* * * * * *", &workParams{}, WithCatchUp(CatchUpAll)))
	rig.startWork(client)
	log.wantInARow(t, 2)
	must(t, client.PauseCron(t.Context(), "seconds"))
	paused := readOne[time.Time](rig, "select last_tick from anchor_cron_jobs")
	eventually(t, "three seconds of pause", func() bool {
		return readOne[time.Duration](rig, "select clock_timestamp() - $1", paused) > 3*time.Second
	})
	must(t, client.ResumeCron(t.Context(), "seconds"))
	resumed := readOne[time.Time](rig, "select updated_at from anchor_cron_jobs")
	eventually(t, "it goes on", func() bool {
		return readOne[time.Time](rig, "select last_tick from anchor_cron_jobs").After(resumed)
	})
	const between = `select count(*) from anchor_cron_runs where tick > $1 and tick < $2::timestamptz - interval '1 second'`
	if n := readOne[int](rig, between, paused, resumed); n != 0 {
		t.Errorf("%d ticks of the pause were made up for", n)
	}
	if skipped := readOne[int](rig, "select skipped from anchor_cron_jobs"); skipped != 0 {
		t.Errorf("%d ticks of the pause are counted as skipped", skipped)
	}
}

// Schedules that have missed much must not keep the others waiting until all their ticks are counted.
func TestOneLookWalksThroughALimitedNumberOfTicks(t *testing.T) {
	t.Parallel()
	r := &cronRig{t: t, store: NewMemoryStore(), task: Define[workParams]("Report", nil)}
	var err error
	r.client, err = New(r.store, WithTasks(r.task), WithLogger(slog.New(slog.DiscardHandler)))
	must(t, err)
	const schedules, missed = 10, walkedTicks * 2 / 5
	for i := range schedules {
		r.schedule(fmt.Sprintf("s%d", i), "* * * * * *")
		r.due(fmt.Sprintf("s%d", i), time.Now().Add(-missed*time.Second).Truncate(time.Second))
	}
	look := newTicker(&worker{client: r.client, session: r.open(), logger: r.client.logger, options: workOptions{pollInterval: time.Minute}}, nil)
	for _, want := range []int{3, 6, 9, 10} {
		wait, err := look.round(t.Context())
		must(t, err)
		ticked := 0
		for _, info := range r.infos() {
			if info.Skipped > 0 {
				ticked++
			}
		}
		if ticked != want || (wait == 0) != (want < schedules) {
			t.Errorf("%d schedules have been dealt with, and the next look is in %v; want %d, and to look on at once until all are", ticked, wait, want)
		}
	}
}
