package anchor

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/golden"
)

// kindTasks are tasks with parameters of every kind.
func kindTasks() []AnyTask {
	return []AnyTask{
		Define[kindTimes]("Times", nil), Define[kindNumbers]("Numbers", nil), Define[kindTags]("Tags", nil),
		Define[kindNulls]("Nulls", nil), Define[kindTexts]("Texts", nil), Define[kindMaps]("Maps", nil),
		Define[kindEmbedded]("Embedded", nil), Define[kindRecursive]("Recursive", nil), Define[kindGeneric]("Generic", nil),
		Define[kindSameName]("SameName", nil), Define[kindProvided]("Provided", nil), Define[struct{}]("Nothing", nil),
	}
}

type welcomeParams struct {
	UserID     int32  `json:"userId"`
	TemplateID string `json:"templateId"`
}

// policyTasks are tasks that differ in what is not their parameters.
func policyTasks() []AnyTask {
	failed := func(context.Context, pgx.Tx, Failure, *welcomeParams) error { return nil }
	return []AnyTask{
		Define[welcomeParams]("SendWelcomeEmail", nil, WithDescription("Send a welcome email to a new user"),
			WithRetryPolicy("5m", 3), WithTimeout("30s")).OnFailed(failed),
		Define[struct{}]("Defaults", nil),
		Define[struct{}]("Everything", nil, WithQueue("bulk: #1"), WithPriority(-7), WithTimeout("1h30m"), WithRetryPolicy("1m, 2m", -1),
			WithDescription("Two lines,\nand \"quotes\": \u0085 yes\t\U0001F600")),
		Define[noParams]("Scheduled", nil).Cron("0 0 2 * * *", &noParams{}, WithTimeZone("Europe/Berlin")),
		Define[noParams]("ScheduledInUTC", nil).Cron("@daily", &noParams{}),
		Define[struct{}]("true", nil, WithTimeout("1500ms"), WithDescription("null")),
	}
}

func newClientOf(t *testing.T, tasks []AnyTask, opts ...ClientOption) *Client {
	t.Helper()
	client, err := New(NewMemoryStore(), append(opts, WithTasks(tasks...))...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func export(t *testing.T, client *Client) string {
	t.Helper()
	var b bytes.Buffer
	if err := client.ExportYAML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExportYAML(t *testing.T) {
	t.Parallel()

	for name, tasks := range map[string][]AnyTask{"kinds": kindTasks(), "policies": policyTasks(), "none": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			golden.Check(t, "taskfile/export_"+name+".yaml", export(t, newClientOf(t, tasks)))
		})
	}
}

func TestExportThenLoadThenExportGivesTheSameBytes(t *testing.T) {
	t.Parallel()

	tasks := append(kindTasks(), policyTasks()...)
	first := export(t, newClientOf(t, tasks))
	path := filepath.Join(t.TempDir(), "tasks.yaml")
	if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	second := export(t, newClientOf(t, append(kindTasks(), policyTasks()...), WithTaskFile(path)))
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
}

func TestExportDoesNotDependOnTheOrderOfTasks(t *testing.T) {
	t.Parallel()

	tasks := kindTasks()
	want := export(t, newClientOf(t, tasks))
	for i := range tasks {
		turned := append(append([]AnyTask{}, tasks[i:]...), tasks[:i]...)
		if diff := cmp.Diff(want, export(t, newClientOf(t, turned))); diff != "" {
			t.Fatalf("turned by %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestTaskFileSchema(t *testing.T) {
	t.Parallel()

	golden.Check(t, "taskfile/schema.json", string(TaskFileSchema()))
}
