package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// cronRig is a client of either store, whose task Report it only enqueues.
type cronRig struct {
	t      *testing.T
	store  Store
	client *Client
	task   *Task[workParams]
}

func onBothStores(t *testing.T, test func(t *testing.T, r *cronRig)) {
	t.Helper()
	for name, open := range map[string]func(t *testing.T) Store{
		"memory":   func(*testing.T) Store { return NewMemoryStore() },
		"postgres": func(t *testing.T) Store { return newPG(t).store },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &cronRig{t: t, store: open(t), task: Define[workParams]("Report", nil)}
			var err error
			r.client, err = New(r.store, WithTasks(r.task), WithLogger(slog.New(slog.DiscardHandler)))
			must(t, err)
			test(t, r)
		})
	}
}

func (r *cronRig) schedule(name, expression string, opts ...CronOption) {
	r.t.Helper()
	must(r.t, r.task.Schedule(r.t.Context(), r.client, name, expression, &workParams{N: 1}, opts...))
}

func (r *cronRig) infos() []*CronInfo {
	r.t.Helper()
	infos, err := r.client.Crons(r.t.Context())
	must(r.t, err)
	return infos
}

// due moves the next tick of a schedule into the past.
func (r *cronRig) due(name string, at time.Time) {
	r.t.Helper()
	must(r.t, r.store.changeCron(r.t.Context(), name, func(job *cronJob) (bool, error) {
		job.nextRun = at
		return true, nil
	}))
}

func (r *cronRig) open() session {
	r.t.Helper()
	opened, err := r.store.openSession(r.t.Context(), workerRecord{
		id: newWorkerID(), host: "host", pid: 42, lease: testLease, names: []string{"Other"}, slots: 1, crons: map[string]string{},
	})
	must(r.t, err)
	r.t.Cleanup(func() { _ = opened.close(context.Background()) })
	return opened
}

// read finds the only schedule that is due, and makes an instance of each of ticks of it.
func (r *cronRig) read(s session, next time.Time, ticks ...time.Time) []cronTick {
	r.t.Helper()
	due, err := s.dueCrons(r.t.Context(), nil, 10)
	must(r.t, err)
	if len(due.jobs) != 1 {
		r.t.Fatalf("%d schedules are due, want 1", len(due.jobs))
	}
	return []cronTick{{job: due.jobs[0], ticks: ticks, next: next}}
}

func (r *cronRig) job(name string) *cronJob {
	r.t.Helper()
	jobs, err := r.store.crons(r.t.Context(), []string{name})
	must(r.t, err)
	return jobs[0]
}

func (r *cronRig) tick(s session, ticks []cronTick) []cronTicked {
	r.t.Helper()
	ticked, err := s.tick(r.t.Context(), ticks)
	must(r.t, err)
	return ticked
}

// instances are the ticks of all instances, oldest first.
func (r *cronRig) instances() []time.Time {
	r.t.Helper()
	tasks, err := r.client.Tasks(r.t.Context(), TaskQuery{Limit: maxPageSize})
	must(r.t, err)
	var ticks []time.Time
	for i := range tasks {
		ticks = append(ticks, tasks[len(tasks)-1-i].ScheduledFor)
	}
	return ticks
}

func (r *cronRig) wantInstances(want ...time.Time) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.instances(), cmpopts.EquateEmpty(), cmp.Comparer(time.Time.Equal)); diff != "" {
		r.t.Errorf("ticks of the instances (-want +got):\n%s", diff)
	}
}

func TestCronsShowsWhatWasScheduled(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		r.schedule("b", "0 9 * * 1-5", WithTimeZone("Europe/Berlin"), WithCatchUp(CatchUpNone), WithRunOptions(WithQueue("slow")))
		r.schedule("a", "@every 90s", WithEnabled(false))
		infos := r.infos()
		want := []*CronInfo{
			{Name: "a", TaskName: "Report", Expression: "@every 90s", TimeZone: "UTC", Params: []byte(`{"n":1}`), Queue: "default", CatchUp: CatchUpOne},
			{Name: "b", TaskName: "Report", Expression: "0 9 * * 1-5", TimeZone: "Europe/Berlin", Params: []byte(`{"n":1}`), Queue: "slow", Enabled: true, CatchUp: CatchUpNone},
		}
		for _, info := range infos {
			info.Params = bytes.ReplaceAll(info.Params, []byte(" "), nil) // jsonb has its own spacing
		}
		if diff := cmp.Diff(want, infos, cmpopts.IgnoreFields(CronInfo{}, "NextRun", "CreatedAt", "UpdatedAt")); diff != "" {
			t.Errorf("schedules (-want +got):\n%s", diff)
		}
		if next := infos[1].NextRun; next.Format("15:04:05 MST") != "09:00:00 CET" && next.Format("15:04:05 MST") != "09:00:00 CEST" || !next.After(time.Now()) {
			t.Errorf("next run %v, want nine o'clock in Berlin", next)
		}
		if !infos[0].NextRun.IsZero() || infos[0].CreatedAt.IsZero() {
			t.Errorf("a paused schedule: %+v", infos[0])
		}
	})
}

func TestScheduleRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	other := Define[workParams]("Other", nil)
	onBothStores(t, func(t *testing.T, r *cronRig) {
		for what, test := range map[string]struct {
			name, expression string
			opts             []CronOption
			want             string
		}{
			"no name":         {"", "@daily", nil, "name is empty"},
			"a name of two":   {"my report", "@daily", nil, "space"},
			"long name":       {strings.Repeat("n", 201), "@daily", nil, "201 bytes"},
			"no expression":   {"x", "", nil, "empty"},
			"seven fields":    {"x", "* * * * * * *", nil, "7 fields"},
			"impossible date": {"x", "0 0 30 2 *", nil, "never matches"},
			"TZ= alone":       {"x", "TZ=", nil, "WithTimeZone"},
			"a zone inside":   {"x", "CRON_TZ=UTC 0 0 * * *", nil, "WithTimeZone"},
			"every nothing":   {"x", "@every 0s", nil, "less than a second"},
			"unknown zone":    {"x", "@daily", []CronOption{WithTimeZone("Mars/Base")}, "Mars/Base"},
			"a delay":         {"x", "@daily", []CronOption{WithRunOptions(WithDelay(time.Hour))}, "WithDelay"},
			"bad run option":  {"x", "@daily", []CronOption{WithRunOptions(WithPriority(500))}, "WithPriority(500)"},
			"nil option":      {"x", "@daily", []CronOption{nil}, "option 1 is nil"},
		} {
			err := r.task.Schedule(t.Context(), r.client, test.name, test.expression, &workParams{}, test.opts...)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "anchor: ") || strings.Count(err.Error(), "anchor: ") != 1 {
				t.Errorf("%s: error %v, want one with %q", what, err, test.want)
			}
		}
		wantError(t, r.task.Schedule(t.Context(), r.client, "x", "@daily", nil), ErrInvalidParams)
		wantError(t, other.Schedule(t.Context(), r.client, "x", "@daily", &workParams{}), ErrTaskNotRegistered)
		if infos := r.infos(); len(infos) != 0 {
			t.Errorf("%d schedules were made", len(infos))
		}
	})
}

func TestUnknownScheduleIsErrCronNotFound(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		ctx := t.Context()
		r.schedule("gone", "@daily")
		must(t, r.client.DeleteCron(ctx, "gone"))
		for _, name := range []string{"gone", "never", ""} {
			wantError(t, r.client.PauseCron(ctx, name), ErrCronNotFound)
			wantError(t, r.client.ResumeCron(ctx, name), ErrCronNotFound)
			wantError(t, r.client.UpdateCron(ctx, name, "@hourly"), ErrCronNotFound)
			wantError(t, r.client.DeleteCron(ctx, name), ErrCronNotFound)
			_, err := r.client.RunCronNow(ctx, name)
			wantError(t, err, ErrCronNotFound)
			if want := fmt.Sprintf("anchor: no such schedule: %q", name); err.Error() != want {
				t.Errorf("error %q, want %q", err, want)
			}
		}
		r.wantInstances()
	})
}

func TestUpdateCronRefusesABadExpression(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		r.schedule("report", "@daily")
		before := r.infos()[0]
		if err := r.client.UpdateCron(t.Context(), "report", "TZ="); err == nil || !strings.Contains(err.Error(), `schedule "report"`) {
			t.Errorf("error %v, want one that names the schedule", err)
		}
		if diff := cmp.Diff(before, r.infos()[0]); diff != "" {
			t.Errorf("the schedule has changed (-before +after):\n%s", diff)
		}
		must(t, r.client.UpdateCron(t.Context(), "report", "@hourly"))
		if info := r.infos()[0]; info.Expression != "@hourly" || time.Until(info.NextRun) > time.Hour {
			t.Errorf("updated: %+v", info)
		}
	})
}

func TestChangesOfOneScheduleAtOnce(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		var all sync.WaitGroup
		errs := make(chan error, 100)
		for i := range 8 {
			all.Go(func() {
				ctx := context.Background()
				errs <- r.task.Schedule(ctx, r.client, "report", fmt.Sprintf("%d * * * *", i), &workParams{N: i})
				for _, change := range []func() error{
					func() error { return r.client.PauseCron(ctx, "report") },
					func() error { return r.client.UpdateCron(ctx, "report", "@weekly") },
					func() error { return r.client.ResumeCron(ctx, "report") },
				} {
					errs <- change()
				}
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			must(t, err)
		}
		if infos := r.infos(); len(infos) != 1 || !infos[0].Enabled {
			t.Errorf("%d schedules, want one that is enabled", len(infos))
		}
	})
}

// A tick is read and dealt with in two steps; what happens between them decides.
func TestTickOfAScheduleThatIsNotAsItWasRead(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		ctx := t.Context()
		s := r.open()
		past := time.Now().Add(-time.Hour).Truncate(time.Second)
		next := time.Now().Add(time.Hour).Truncate(time.Second)
		for what, between := range map[string]func() error{
			"paused":  func() error { return r.client.PauseCron(ctx, "report") },
			"updated": func() error { return r.client.UpdateCron(ctx, "report", "@weekly") },
			"deleted": func() error { return r.client.DeleteCron(ctx, "report") },
			"made anew": func() error {
				return errors.Join(r.client.DeleteCron(ctx, "report"), r.task.Schedule(ctx, r.client, "report", "@hourly", &workParams{}))
			},
			"moved": func() error { r.due("report", past.Add(time.Minute)); return nil },
			"given another rule": func() error {
				return r.task.Schedule(ctx, r.client, "report", "@hourly", &workParams{}, WithCatchUp(CatchUpAll))
			},
			"ticked by another worker": func() error {
				r.tick(r.open(), []cronTick{{job: r.job("report"), next: past.Add(time.Minute)}})
				return nil
			},
			"moved into the future": func() error { r.due("report", next); return nil },
		} {
			r.schedule("report", "@hourly", WithEnabled(true))
			r.due("report", past)
			read := r.read(s, next, past)
			must(t, between())
			if ticked := r.tick(s, read); len(ticked) != 0 {
				t.Errorf("%s meanwhile: ticked %+v", what, ticked)
			}
		}
		r.wantInstances()
	})
}

func TestTickIsNotDueBeforeTheStoreSaysSo(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		s := r.open()
		r.schedule("report", "@yearly")
		due, err := s.dueCrons(t.Context(), nil, 10)
		must(t, err)
		if len(due.jobs) != 0 || !due.next.Equal(r.infos()[0].NextRun) {
			t.Errorf("%d due, next %v", len(due.jobs), due.next)
		}
		if ticked := r.tick(s, []cronTick{{job: r.job("report"), ticks: []time.Time{due.next}, next: due.next.Add(1)}}); len(ticked) != 0 {
			t.Errorf("ticked %+v", ticked)
		}
		r.wantInstances()
	})
}

func TestTickHasOneInstanceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		s := r.open()
		r.schedule("report", "* * * * *", WithTimeZone("Asia/Tokyo"))
		first := time.Now().Add(-time.Hour).Truncate(time.Minute)
		second := first.Add(time.Minute)
		next := first.Add(24 * time.Hour)
		r.due("report", first)
		read := r.read(s, next, first)
		if ticked := r.tick(s, read); len(ticked) != 1 || ticked[0].instances != 1 {
			t.Fatalf("ticked %+v", ticked)
		}
		if ticked := r.tick(s, read); len(ticked) != 0 {
			t.Errorf("the same once more: ticked %+v", ticked)
		}
		r.due("report", first) // a clock that was put back
		if ticked := r.tick(s, r.read(s, next, first, second)); len(ticked) != 1 || ticked[0].instances != 1 {
			t.Errorf("the same with a second tick: ticked %+v", ticked)
		}
		r.wantInstances(first, second)
		if info := r.infos()[0]; !info.LastTick.Equal(second) || !info.NextRun.Equal(next) || info.TaskID == 0 {
			t.Errorf("the schedule: %+v", info)
		}
	})
}

func TestManyWorkersTickAtOnce(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, r *cronRig) {
		const schedules, workers = 200, 5
		past := time.Now().Add(-time.Hour).Truncate(time.Hour)
		var want []time.Time
		for i := range schedules {
			name := fmt.Sprintf("s%d", i)
			r.schedule(name, "@hourly")
			r.due(name, past)
			want = append(want, past)
		}
		sessions := make([]session, workers)
		for i := range sessions {
			sessions[i] = r.open()
		}
		var all sync.WaitGroup
		ticked := make(chan int, workers)
		for _, s := range sessions {
			all.Go(func() {
				due, err := s.dueCrons(context.Background(), nil, 1000)
				if err != nil {
					t.Error(err)
				}
				var ticks []cronTick
				for _, job := range due.jobs {
					ticks = append(ticks, cronTick{job: job, ticks: []time.Time{past}, next: past.Add(24 * time.Hour)})
				}
				done, err := s.tick(context.Background(), ticks)
				if err != nil {
					t.Error(err)
				}
				ticked <- len(done)
			})
		}
		all.Wait()
		close(ticked)
		sum := 0
		for n := range ticked {
			sum += n
		}
		if sum != schedules {
			t.Errorf("%d schedules were ticked, want each of %d once", sum, schedules)
		}
		r.wantInstances(want...)
	})
}
