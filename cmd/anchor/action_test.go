package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testprogram"
)

type letter struct {
	To string `json:"to"`
}

// client is what a program has.
func client(t *testing.T, r *rig, tasks ...anchor.AnyTask) *anchor.Client {
	t.Helper()
	c, err := anchor.New(anchor.NewPGStore(r.pool), anchor.WithTasks(tasks...), anchor.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// work works until the test is done.
func work(t *testing.T, c *anchor.Client) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Work(ctx, anchor.WithShutdownTimeout(time.Second), anchor.WithConcurrency(7)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Work: %v", err)
		}
	})
}

func enqueue(t *testing.T, c *anchor.Client, task *anchor.Task[letter], opts ...anchor.RunOption) int64 {
	t.Helper()
	id, err := task.Run(t.Context(), c, &letter{To: "somebody"}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// ends waits for the end of a task.
func ends(t *testing.T, c *anchor.Client, id int64, want anchor.Status) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testprogram.Limit)
	defer cancel()
	task, err := c.Wait(ctx, id)
	if err != nil || task.Status != want {
		t.Fatalf("task %d: %+v, error %v, want %s", id, task, err, want)
	}
}

func wantOutput(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func TestMigrateAndSQL(t *testing.T) {
	t.Parallel()
	r := newEmptyRig(t)
	wantOutput(t, r.run("migrate"), "{\n  \"schema\": \"public\",\n  \"changed\": true\n}\n")
	wantOutput(t, r.run("migrate"), "{\n  \"schema\": \"public\",\n  \"changed\": false\n}\n")
	if got := r.run("migrate", "--table", "--schema", "jobs"); !regexp.MustCompile(`^schema "jobs" of database "anchor_testmigrateandsql_\w+" on \S+ is migrated\n$`).MatchString(got) {
		t.Errorf("output %q", got)
	}
	if got := r.run("migrate", "--table", "--schema", "jobs"); !strings.HasSuffix(got, "was up to date already\n") {
		t.Errorf("output %q", got)
	}
	r.run("workers", "--schema", "jobs")

	o := start(t, "", "sql", "--schema", "by_hand")
	if o.Code != 0 || o.Stderr != "" {
		t.Fatalf("exit code %d, stderr %q", o.Code, o.Stderr)
	}
	r.exec("begin;" + o.Stdout + ";commit")
	wantOutput(t, r.run("migrate", "--schema", "by_hand"), "{\n  \"schema\": \"by_hand\",\n  \"changed\": false\n}\n")
}

func TestRetryCancelAndExplain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	broken := make(chan struct{})
	started, release := make(chan struct{}, 1), make(chan struct{})
	fails := anchor.Define("Fails", func(context.Context, pgx.Tx, *letter) error {
		select {
		case <-broken:
			return nil
		default:
			return anchor.Fatal(errors.New("not yet"))
		}
	})
	hangs := anchor.Define("Hangs", func(ctx context.Context, _ pgx.Tx, _ *letter) error {
		started <- struct{}{}
		<-ctx.Done()
		<-release
		return context.Cause(ctx)
	})
	c := client(t, r, fails, hangs)
	later := enqueue(t, c, fails, anchor.WithDelay(time.Hour))
	work(t, c)

	failed := enqueue(t, c, fails) // 2
	ends(t, c, failed, anchor.StatusFailed)
	close(broken)
	if got := r.run("tasks", "retry", "2"); !regexp.MustCompile(`^\[\n  \{\n    "id": 2,\n    "status": "(pending|running|completed)"\n  \}\n\]\n$`).MatchString(got) {
		t.Errorf("retry writes %q", got)
	}
	ends(t, c, failed, anchor.StatusCompleted)

	hanging := enqueue(t, c, hangs) // 3
	select {
	case <-started:
	case <-time.After(testprogram.Limit):
		t.Fatal("the handler did not start")
	}
	var e anchor.Explanation
	if err := json.Unmarshal([]byte(r.run("tasks", "explain", "3")), &e); err != nil {
		t.Fatal(err)
	}
	if e.Reason != anchor.ReasonRunning || e.Worker == nil || e.Worker.Slots != 7 || e.Task.ID != hanging || e.Task.Params != nil {
		t.Errorf("explained as %+v", e)
	}
	wantOutput(t, r.run("tasks", "cancel", "3", "--table"), "task 3 is running, and was asked to end\n")
	close(release)
	ends(t, c, hanging, anchor.StatusCancelled)

	wantOutput(t, r.run("tasks", "cancel", "1", "--table"), "task 1 is cancelled\n")
	ends(t, c, later, anchor.StatusCancelled)
}

func TestPauseAndResumeQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	task := anchor.Define("Mail", func(context.Context, pgx.Tx, *letter) error { return nil }, anchor.WithQueue("mail"))
	c := client(t, r, task)
	enqueue(t, c, task, anchor.WithDelay(time.Hour))
	if got := r.run("queues", "pause", "mail", "--table"); !regexp.MustCompile(`^queue "mail" is paused since 20\d\d-\S+ \S+ CES?T: 0 ready, 1 scheduled, 0 running\n$`).MatchString(got) {
		t.Errorf("output %q", got)
	}
	work(t, c)
	held := enqueue(t, c, task)
	var e anchor.Explanation
	if err := json.Unmarshal([]byte(r.run("tasks", "explain", "2")), &e); err != nil || e.Reason != anchor.ReasonQueuePaused {
		t.Errorf("explained as %+v, error %v", e, err)
	}
	if got := r.run("queues", "resume", "mail", "--table"); !strings.HasPrefix(got, `queue "mail" is not paused: `) {
		t.Errorf("output %q", got)
	}
	ends(t, c, held, anchor.StatusCompleted)

	// A slip of the pen is told, as it may be a queue that is still to come.
	o := start(t, r.url, "queues", "pause", "mial")
	if o.Code != 0 || o.Stderr != "anchor: note: queue \"mial\" holds no task now; is that its name?\n" || !strings.Contains(o.Stdout, `"paused": true`) {
		t.Errorf("%+v", o)
	}
	if o := start(t, r.url, "queues", "pause", ""); o.Code == 0 {
		t.Errorf("a queue without a name is paused: %+v", o)
	}
}

func TestPauseResumeAndRunCron(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	task := anchor.Define("Night", func(context.Context, pgx.Tx, *letter) error { return nil })
	c := client(t, r, task)
	if err := task.Schedule(t.Context(), c, "nightly", "0 3 1 1 *", &letter{To: "secret"}, anchor.WithTimeZone("America/New_York")); err != nil {
		t.Fatal(err)
	}
	wantOutput(t, r.run("crons", "pause", "nightly", "--table"), "schedule \"nightly\" is paused\n")
	if got := r.run("crons", "resume", "nightly", "--table"); !regexp.MustCompile(`^schedule "nightly" is ticking, its next tick is 20\d\d-01-01 09:00:00 CET\n$`).MatchString(got) {
		t.Errorf("output %q", got)
	}
	if got := r.run("crons", "pause", "nightly"); strings.Contains(got, "secret") || !strings.Contains(got, `"enabled": false`) {
		t.Errorf("output %q", got)
	}
	wantOutput(t, r.run("crons", "run", "nightly"), "{\n  \"id\": 1,\n  \"status\": \"pending\"\n}\n")
	work(t, c)
	ends(t, c, 1, anchor.StatusCompleted)
}

func TestStatsWithoutWorkers(t *testing.T) {
	t.Parallel()
	if got := newRig(t).run("stats", "--table"); !strings.HasSuffix(got, "\nno workers\n") {
		t.Errorf("output %q", got)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	for command, want := range map[string]string{
		"__complete queues pause :":        "default\nempty\nmail\nslow\n",
		"__complete queues pause mail :":   "",
		"__complete crons run :":           "every-night\npaused\nwrong\n",
		"__complete tasks list --status :": "pending\nrunning\ncompleted\nfailed\ncancelled\n",
		"__complete tasks list --queue :":  "default\nempty\nmail\nslow\n",
	} {
		args := strings.Fields(command)
		args[len(args)-1] = ""
		o := start(t, r.url, args...)
		got, _, _ := strings.Cut(o.Stdout, ":")
		if o.Code != 0 || got != want {
			t.Errorf("%s: exit code %d, offers %q, want %q", command, o.Code, got, want)
		}
	}
	if o := start(t, "postgres://nobody@127.0.0.1:1/nothing", "__complete", "queues", "pause", ""); o.Code != 0 || !strings.HasPrefix(o.Stdout, ":") {
		t.Errorf("without a database: %+v", o)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := start(t, "", "completion", shell); o.Code != 0 || !strings.Contains(o.Stdout, "anchor") {
			t.Errorf("completion %s: exit code %d", shell, o.Code)
		}
	}
}
