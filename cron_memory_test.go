package anchor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// cronBubble is a store with workers in virtual time, which begins at midnight of 1 January 2000, a Saturday.
type cronBubble struct {
	t      *testing.T
	store  *MemoryStore
	client *Client
	task   *Task[workParams]

	mu    sync.Mutex
	ticks []string // of the instances that have run, in their order
	late  time.Duration
}

func inCronBubble(t *testing.T, test func(t *testing.T, b *cronBubble), declare ...func(task *Task[workParams])) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &cronBubble{t: t, store: NewMemoryStore()}
		b.task = Define("Report", func(ctx context.Context, _ pgx.Tx, p *workParams) error {
			info, _ := TaskFromContext(ctx)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ticks = append(b.ticks, fmt.Sprintf("%d@%s", p.N, info.ScheduledFor.Format("02 15:04:05 -07")))
			b.late = max(b.late, time.Since(info.ScheduledFor))
			return nil
		})
		for _, declare := range declare {
			declare(b.task)
		}
		b.client = b.newClient(b.task)
		test(t, b)
	})
}

func (b *cronBubble) newClient(tasks ...AnyTask) *Client {
	b.t.Helper()
	client, err := New(b.store, WithTasks(tasks...), WithLogger(slog.New(slog.DiscardHandler)))
	must(b.t, err)
	return client
}

// ran are the instances since the last call.
func (b *cronBubble) ran() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	ran := b.ticks
	b.ticks = nil
	return ran
}

// work runs a worker for a while.
func (b *cronBubble) work(d time.Duration) {
	b.t.Helper()
	stop := b.start(b.client)
	time.Sleep(d)
	stop()
}

func (b *cronBubble) start(client *Client) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- client.Work(ctx, WithConcurrency(1), WithPollInterval(time.Minute)) }()
	return func() {
		synctest.Wait()
		cancel()
		must(b.t, <-ended)
	}
}

func (b *cronBubble) schedule(name, expression string, n int, opts ...CronOption) {
	b.t.Helper()
	must(b.t, b.task.Schedule(b.t.Context(), b.client, name, expression, &workParams{N: n}, opts...))
}

// wantTicks compares the instances since the last call.
func (b *cronBubble) wantTicks(want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.ran(), equateEmpty); diff != "" {
		b.t.Errorf("instances (-want +got):\n%s", diff)
	}
}

func (b *cronBubble) info(name string) *CronInfo {
	b.t.Helper()
	infos, err := b.client.Crons(b.t.Context())
	must(b.t, err)
	for _, info := range infos {
		if info.Name == name {
			return info
		}
	}
	b.t.Fatalf("there is no schedule %q", name)
	return nil
}

func TestScheduleInVirtualTime(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("berlin", "0 3 * * *", 1, WithTimeZone("Europe/Berlin"))
		b.schedule("hours", "0 1-3 * * *", 2)
		b.work(4 * time.Hour)
		b.wantTicks("2@01 01:00:00 +00", "1@01 03:00:00 +01", "2@01 02:00:00 +00", "2@01 03:00:00 +00")
		if b.late != 0 {
			t.Errorf("an instance began %v after its tick, want at once", b.late)
		}
		info := b.info("berlin")
		if got := info.NextRun.Format(time.RFC3339); got != "2000-01-02T03:00:00+01:00" {
			t.Errorf("next run %s", got)
		}
		instance, err := b.client.Task(t.Context(), info.TaskID)
		must(t, err)
		if !instance.ScheduledFor.Equal(info.LastTick) || instance.Status != StatusCompleted || string(instance.Params) != `{"n":1}` {
			t.Errorf("the newest instance is %+v, want that of %v", instance, info.LastTick)
		}
	})
}

func TestEverySecondIsMadeOnceByManyWorkers(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("often", "* * * * * *", 1)
		var stops []func()
		for range 5 {
			stops = append(stops, b.start(b.client))
		}
		time.Sleep(time.Minute)
		for _, stop := range stops {
			stop()
		}
		if ticks := b.ran(); len(ticks) != 60 || ticks[0] != "1@01 00:00:01 +00" || ticks[59] != "1@01 00:01:00 +00" {
			t.Errorf("%d instances: %v", len(ticks), ticks)
		}
	})
}

func TestCatchUpAfterAllWorkersWereDown(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("one", "0 * * * *", 1, WithCatchUp(CatchUpOne))
		b.schedule("all", "30 * * * *", 2, WithCatchUp(CatchUpAll))
		b.schedule("none", "45 * * * *", 3, WithCatchUp(CatchUpNone))
		b.work(time.Hour)
		b.wantTicks("2@01 00:30:00 +00", "3@01 00:45:00 +00", "1@01 01:00:00 +00")
		time.Sleep(3*time.Hour + 10*time.Minute)
		b.work(time.Hour)
		b.wantTicks("2@01 01:30:00 +00", "2@01 02:30:00 +00", "2@01 03:30:00 +00", "1@01 04:00:00 +00",
			"2@01 04:30:00 +00", "3@01 04:45:00 +00", "1@01 05:00:00 +00")
		got := map[string]int64{}
		for _, name := range []string{"one", "all", "none"} {
			got[name] = b.info(name).Skipped
		}
		if diff := cmp.Diff(map[string]int64{"one": 2, "all": 0, "none": 3}, got); diff != "" {
			t.Errorf("skipped (-want +got):\n%s", diff)
		}
	})
}

func TestCatchUpAllStopsAtAThousand(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("all", "* * * * *", 1, WithCatchUp(CatchUpAll))
		time.Sleep(1500*time.Minute + 30*time.Second)
		b.work(time.Second)
		if ticks := b.ran(); len(ticks) != 1000 || ticks[0] != "1@01 08:21:00 +00" || ticks[999] != "1@02 01:00:00 +00" {
			t.Errorf("%d instances: %v", len(ticks), ticks)
		}
		if skipped := b.info("all").Skipped; skipped != 500 {
			t.Errorf("%d skipped, want 500", skipped)
		}
	})
}

func TestPausedScheduleDoesNotCatchUp(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("hourly", "@hourly", 1, WithCatchUp(CatchUpAll))
		stop := b.start(b.client)
		defer func() { stop() }()
		time.Sleep(90 * time.Minute)
		must(t, b.client.PauseCron(t.Context(), "hourly"))
		must(t, b.client.PauseCron(t.Context(), "hourly")) // nothing more
		if info := b.info("hourly"); info.Enabled || !info.NextRun.IsZero() {
			t.Errorf("a paused schedule: %+v", info)
		}
		b.schedule("hourly", "@hourly", 2, WithCatchUp(CatchUpAll)) // a pause stays
		time.Sleep(5 * time.Hour)
		b.wantTicks("1@01 01:00:00 +00")
		must(t, b.client.ResumeCron(t.Context(), "hourly"))
		must(t, b.client.ResumeCron(t.Context(), "hourly"))
		time.Sleep(time.Hour)
		b.wantTicks("2@01 07:00:00 +00")
		b.schedule("hourly", "@hourly", 3, WithEnabled(false))
		time.Sleep(time.Hour)
		b.schedule("hourly", "@hourly", 3, WithEnabled(true))
		time.Sleep(time.Hour)
		b.wantTicks("3@01 09:00:00 +00")
	})
}

func TestChangedScheduleTicksFromNowOn(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("report", "0 12 * * *", 1)
		time.Sleep(13 * time.Hour) // the tick at noon is missed
		must(t, b.client.UpdateCron(t.Context(), "report", "0 14,16 * * *"))
		b.work(4 * time.Hour)
		b.wantTicks("1@01 14:00:00 +00", "1@01 16:00:00 +00")
		b.schedule("report", "0 14,16 * * *", 2, WithTimeZone("America/New_York"))
		b.work(3 * time.Hour)
		b.wantTicks("2@01 14:00:00 -05")
	})
}

// A program that calls Schedule at each start must not lose what was due meanwhile.
func TestSchedulingAgainLosesNoTick(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("report", "0 12 * * *", 1)
		time.Sleep(13 * time.Hour)
		b.schedule("report", "0 12 * * *", 2)
		b.work(time.Hour)
		b.wantTicks("2@01 12:00:00 +00")
	})
}

func TestSteppedClockNeitherDoublesNorLosesATick(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		step := func(d time.Duration) {
			b.store.mu.Lock()
			defer b.store.mu.Unlock()
			b.store.schedules.step += d
		}
		b.schedule("all", "*/10 * * * *", 1, WithCatchUp(CatchUpAll))
		stop := b.start(b.client)
		defer func() { stop() }()
		time.Sleep(25 * time.Minute)
		b.wantTicks("1@01 00:10:00 +00", "1@01 00:20:00 +00")
		step(-15 * time.Minute) // 00:10
		time.Sleep(15 * time.Minute)
		b.wantTicks() // they have been
		time.Sleep(10 * time.Minute)
		b.wantTicks("1@01 00:30:00 +00") // 00:35
		step(25 * time.Minute)           // 01:00
		time.Sleep(5 * time.Minute)
		b.wantTicks("1@01 00:40:00 +00", "1@01 00:50:00 +00", "1@01 01:00:00 +00")
		// An operator who resumes while the clock is behind does not make them again.
		step(-35 * time.Minute) // 00:30
		must(t, b.client.PauseCron(t.Context(), "all"))
		must(t, b.client.ResumeCron(t.Context(), "all"))
		time.Sleep(41 * time.Minute)
		b.wantTicks("1@01 01:10:00 +00")
	})
}

func TestUniqueTagOfInstances(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("tagged", "* * * * *", 1, WithRunOptions(WithUniqueTag("report", UniqueWhileLive)))
		holder, err := b.task.Run(t.Context(), b.client, &workParams{N: 7}, WithUniqueTag("report"), WithDelay(150*time.Second))
		must(t, err)
		stop := b.start(b.client)
		defer func() { stop() }()
		time.Sleep(130 * time.Second)
		b.wantTicks()
		if info := b.info("tagged"); info.Skipped != 2 || info.TaskID != 0 || info.LastTick.IsZero() {
			t.Errorf("two ticks whose tag was held: %+v", info)
		}
		if _, err := b.client.RunCronNow(t.Context(), "tagged"); err == nil {
			t.Error("RunCronNow did not find the tag held")
		} else {
			wantExists(t, err, "report", holder)
		}
		must(t, b.client.ReleaseTag(t.Context(), "report"))
		time.Sleep(time.Minute)
		b.wantTicks("7@01 00:00:00 +00", "1@01 00:03:00 +00")
	})
}

func TestTagOfAnOpenTransactionHoldsUpItsScheduleOnly(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("tagged", "* * * * *", 1, WithRunOptions(WithUniqueTag("report")))
		b.schedule("other", "* * * * *", 2)
		tx, err := b.store.Begin(t.Context())
		must(t, err)
		_, err = b.task.RunWithTx(t.Context(), b.client, tx, &workParams{}, WithUniqueTag("report"))
		must(t, err)
		stop := b.start(b.client)
		defer func() { stop() }()
		time.Sleep(61 * time.Second)
		b.wantTicks("2@01 00:01:00 +00")
		must(t, tx.Rollback(t.Context()))
		time.Sleep(5 * time.Second)
		b.wantTicks("1@01 00:01:00 +00")
	})
}

func TestRunCronNowIsBesideTheTicks(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.schedule("hourly", "@hourly", 1, WithTimeZone("Europe/Berlin"), WithRunOptions(WithQueue("slow"), WithPriority(-5)))
		stop := b.start(b.client)
		defer func() { stop() }()
		time.Sleep(10 * time.Minute)
		must(t, b.client.PauseCron(t.Context(), "hourly"))
		id, err := b.client.RunCronNow(t.Context(), "hourly")
		must(t, err)
		b.wantTicks("1@01 01:10:00 +01")
		instance, err := b.client.Task(t.Context(), id)
		must(t, err)
		if instance.Queue != "slow" || instance.Priority != -5 || b.info("hourly").TaskID != id {
			t.Errorf("the instance: %+v", instance)
		}
		must(t, b.client.ResumeCron(t.Context(), "hourly"))
		time.Sleep(time.Hour)
		b.wantTicks("1@01 02:00:00 +01")
	})
}

func TestDeclaredScheduleAndItsOrphan(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.work(time.Hour + time.Minute)
		b.wantTicks("4@01 01:00:00 +00")
		if info := b.info("Report"); !info.Declared || info.Orphaned {
			t.Errorf("declared by the worker that was the last: %+v", info)
		}

		// The next version has the task, but not its schedule.
		later := b.newClient(Define("Report", b.task.definition().handler(t)))
		stop := b.start(later)
		time.Sleep(2 * time.Hour)
		if info := b.info("Report"); !info.Orphaned || !info.NextRun.IsZero() {
			t.Errorf("declared by no worker: %+v", info)
		}
		b.wantTicks()
		stopOld := b.start(b.client) // it declares it again
		time.Sleep(time.Hour)
		b.wantTicks("4@01 03:00:00 +00", "4@01 04:00:00 +00")
		if info := b.info("Report"); info.Orphaned {
			t.Errorf("declared by one worker of two: %+v", info)
		}
		stopOld()
		stop()
	}, func(task *Task[workParams]) { task.Cron("@hourly", &workParams{N: 4}) })
}

// handler is the task's, for another declaration of it.
func (d *taskDefinition) handler(t *testing.T) Handler[workParams] {
	t.Helper()
	return func(ctx context.Context, tx pgx.Tx, p *workParams) error { return d.run(ctx, tx, p) }
}

func TestScheduleTakesOverADeclaredSchedule(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		stopOld := b.start(b.client)
		time.Sleep(time.Minute)
		task := Define("Report", b.task.definition().handler(t))
		client := b.newClient(task)
		must(t, task.Schedule(t.Context(), client, "Report", "30 * * * *", &workParams{N: 5}))
		time.Sleep(time.Hour) // the old worker leaves it alone
		stopOld()
		stop := b.start(client)
		time.Sleep(time.Hour)
		stop()
		b.wantTicks("5@01 00:30:00 +00", "5@01 01:30:00 +00")
		if info := b.info("Report"); info.Declared || info.Orphaned {
			t.Errorf("taken over: %+v", info)
		}
	}, func(task *Task[workParams]) { task.Cron("@hourly", &workParams{N: 4}) })
}

func TestDeletedDeclarationStaysDeleted(t *testing.T) {
	inCronBubble(t, func(t *testing.T, b *cronBubble) {
		b.work(time.Minute)
		must(t, b.client.DeleteCron(t.Context(), "Report"))
		wantError(t, b.client.PauseCron(t.Context(), "Report"), ErrCronNotFound)
		b.work(3 * time.Hour)
		b.wantTicks()
		b.schedule("Report", "@hourly", 5) // an operator wants it again
		b.work(time.Hour)
		b.wantTicks("5@01 04:00:00 +00")
	}, func(task *Task[workParams]) { task.Cron("@hourly", &workParams{N: 4}) })
}
