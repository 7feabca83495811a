package anchor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/golden"
)

func TestTaskFileOverridesTheDeclarationAndIsOverriddenByRun(t *testing.T) {
	t.Parallel()

	task := Define[welcomeParams]("SendWelcomeEmail", nil, WithQueue("code"), WithPriority(1), WithRetryPolicy("1m", 2), WithTimeout("1m"), WithDescription("in code"))
	path := writeTaskFile(t, `
tasks:
  - name: SendWelcomeEmail
    description: in the file
    queue: file
    priority: -3
    retryPolicy: {interval: "5m,10m", maxAttempts: 4}
    timeout: 30s
    cronjob: {cronExpression: "0 0 2 * * *", timeZone: Europe/Berlin}
`)
	client := newClientOf(t, []AnyTask{task}, WithTaskFile(path))
	r := client.tasks["SendWelcomeEmail"]
	got := []any{r.policy.queue, r.policy.priority, r.policy.retry.text, r.policy.maxAttempts, r.policy.timeout, r.description, r.cron.expression, r.cron.timeZone}
	want := []any{"file", -3, "5m,10m", 4, 30 * time.Second, "in the file", "0 0 2 * * *", "Europe/Berlin"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file's (-want +got):\n%s", diff)
	}
	if text := export(t, client); !strings.Contains(text, "cronExpression: 0 0 2 * * *\n      timeZone: Europe/Berlin\n") {
		t.Errorf("the export lacks the schedule:\n%s", text)
	}

	id, err := task.Run(t.Context(), client, &welcomeParams{})
	if err != nil {
		t.Fatal(err)
	}
	overridden, err := task.Run(t.Context(), client, &welcomeParams{}, WithQueue("run"), WithPriority(9), WithRetryPolicy("1s", 1))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int64][]any{id: {"file", -3, 4}, overridden: {"run", 9, 1}} {
		info, err := client.Task(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, []any{info.Queue, info.Priority, info.MaxAttempts}); diff != "" {
			t.Errorf("task %d (-want +got):\n%s", id, diff)
		}
	}

	other := newClientOf(t, []AnyTask{task})
	if other.tasks["SendWelcomeEmail"].policy.queue != "code" {
		t.Error("the file of one client has changed another")
	}
}

func TestTaskFileLeavesAloneWhatItDoesNotName(t *testing.T) {
	t.Parallel()

	tasks := policyTasks()
	before := export(t, newClientOf(t, tasks))
	path := writeTaskFile(t, "tasks:\n  - name: SendWelcomeEmail\n  - name: Everything\n    retryPolicy: {}\n")
	if diff := cmp.Diff(before, export(t, newClientOf(t, tasks, WithTaskFile(path)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	empty := writeTaskFile(t, "tasks:\n")
	if diff := cmp.Diff(before, export(t, newClientOf(t, tasks, WithTaskFile(empty)))); diff != "" {
		t.Errorf("a file without tasks (-want +got):\n%s", diff)
	}
	half := writeTaskFile(t, "tasks:\n  - name: SendWelcomeEmail\n    retryPolicy: {maxAttempts: 0x10}\n")
	policy := newClientOf(t, tasks, WithTaskFile(half)).tasks["SendWelcomeEmail"].policy
	if policy.retry.text != "5m" || policy.maxAttempts != 16 {
		t.Errorf("retry policy %q, %d, want \"5m\" of the code and 16 of the file", policy.retry.text, policy.maxAttempts)
	}
}

// A value that is the default need not be what Go declares: the export must say it then.
func TestExportKeepsDefaultsThatTheFileSetsAgainstTheDeclaration(t *testing.T) {
	t.Parallel()

	task := Define[noParams]("Task", nil, WithQueue("code"), WithPriority(5), WithDescription("in code")).
		Cron("@daily", &noParams{}, WithTimeZone("Europe/Berlin"))
	path := writeTaskFile(t, `
tasks:
  - name: Task
    description: ""
    queue: default
    priority: 0
    cronjob: {cronExpression: "@hourly", timeZone: UTC}
`)
	first := export(t, newClientOf(t, []AnyTask{task}, WithTaskFile(path)))
	for _, want := range []string{"description: \"\"\n", "queue: default\n", "priority: 0\n", "timeZone: UTC\n"} {
		if !strings.Contains(strings.ReplaceAll(first, "''", "\"\""), want) {
			t.Errorf("the export lacks %q:\n%s", want, first)
		}
	}
	second := export(t, newClientOf(t, []AnyTask{task}, WithTaskFile(writeTaskFile(t, first))))
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
}

func TestTaskFileInTheFormatThatUsersKnow(t *testing.T) {
	t.Parallel()

	failed := func(context.Context, pgx.Tx, Failure, *welcomeParams) error { return nil }
	task := Define[welcomeParams]("SendWelcomeEmail", nil).OnFailed(failed)
	path := writeTaskFile(t, `
tasks:
  - name: SendWelcomeEmail
    description: Send a welcome email to a new user
    parameters: {type: object, required: [userId, templateId], properties: {userId: {type: integer, format: int32}, templateId: {type: string}}}
    retryPolicy: {interval: 5m, maxAttempts: 3}
    timeout: 30s
    cronjob: {cronExpression: "0 0 2 * * *"}
    events: [onFailed]
`)
	client := newClientOf(t, []AnyTask{task}, WithTaskFile(path))
	golden.Check(t, "taskfile/known_format.yaml", export(t, client))
}

// What a Run asked for must reach the task whatever file the worker has.
func TestRunOptionsThatEqualTheFileAreStillStored(t *testing.T) {
	t.Parallel()

	task := Define[welcomeParams]("SendWelcomeEmail", nil, WithTimeout("1h"))
	path := writeTaskFile(t, "tasks:\n  - name: SendWelcomeEmail\n    timeout: 30s\n    retryPolicy: {interval: 5m}\n")
	client := newClientOf(t, []AnyTask{task}, WithTaskFile(path))
	options, err := resolveRunOptions(client.tasks["SendWelcomeEmail"].policy, []RunOption{WithTimeout("30s"), WithRetryPolicy("5m", 3)})
	if err != nil {
		t.Fatal(err)
	}
	written, err := client.tasks["SendWelcomeEmail"].newTask(&welcomeParams{}, &options)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(written.attributes), `{"retry":"5m","timeout":"30s"}`; got != want {
		t.Errorf("attributes %s, want %s", got, want)
	}
}

func TestWorkerFollowsTheTaskFile(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := Define("Slow", func(ctx context.Context, _ pgx.Tx, _ *noParams) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}, WithTimeout("1h"), WithRetryPolicy("1h", 10))
	path := writeTaskFile(t, "tasks:\n  - name: Slow\n    timeout: 5ms\n    retryPolicy: {interval: 1ms, maxAttempts: 2}\n")
	client, err := New(rig.store, WithTasks(task), WithTaskFile(path))
	if err != nil {
		t.Fatal(err)
	}
	rig.startWork(client, WithPollInterval(10*time.Millisecond))
	info := rig.ended(client, enqueue(rig, client, task, &noParams{}))
	if info.Status != StatusFailed || info.Attempts != 2 || !strings.Contains(info.Errors[1].Message, ErrTimeout.Error()) {
		t.Errorf("status %s after %d attempts, errors %v, want failed after 2 by the timeout", info.Status, info.Attempts, info.Errors)
	}
}

type failingWriter struct{}

var errWriter = errors.New("no space left")

func (failingWriter) Write([]byte) (int, error) { return 0, errWriter }

func TestExportReportsTheWritersError(t *testing.T) {
	t.Parallel()

	if err := newClientOf(t, nil).ExportYAML(failingWriter{}); !errors.Is(err, errWriter) {
		t.Errorf("error %v, want %v", err, errWriter)
	}
}
