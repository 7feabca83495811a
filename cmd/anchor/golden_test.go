package main_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/anchor-go/anchor/internal/golden"
)

// seed is a database at which everything has an answer that does not change, but for what is counted from now.
const seed = `
insert into anchor_workers (id, host, pid, slots, names, queues, started_at, lease_until) values
  ('11111111-1111-4111-8111-111111111111', 'app-1', 101, 100, '{SendMail,Resize}', null, '2024-01-02 08:00Z', '2099-01-01 00:00Z'),
  ('22222222-2222-4222-8222-222222222222', 'app-2', 202, 10, '{Report,Report1,Report2,Report3,Report4,Report5,Report6,Report7,Report8}', '{slow,slower}', '2024-01-02 08:00:01Z', '2099-01-01 00:00Z'),
  ('33333333-3333-4333-8333-333333333333', 'app-3', 303, 10, '{Report}', null, '2024-01-02 07:00Z', '2024-01-02 09:30Z');
insert into anchor_tasks (id, slot, name, queue, status, attempts, max_attempts, priority, created_at, next_run, started_at, finished_at, worker_id, unique_tag, spec, attributes) values
  (1, 1, 'SendMail', 'mail', 'completed', 1, 10, 0, '2024-01-02 09:00Z', '2024-01-02 09:00Z', '2024-01-02 09:00:01Z', '2024-01-02 09:00:02Z', '11111111-1111-4111-8111-111111111111', null, '{"to": "secret@example.org"}', null),
  (2, -1, 'Resize', 'default', 'failed', 2, 2, -10, '2024-01-02 09:01Z', '2024-01-02 09:02Z', '2024-01-02 09:02:01Z', '2024-01-02 09:02:02Z', '11111111-1111-4111-8111-111111111111', 'image/7', '{"image": 7, "html": "<b>", "width": 640}', '{"scheduledFor": "2024-01-02T10:01:00+01:00"}'),
  (3, -1, 'SendMail', 'mail', 'cancelled', 0, 10, 0, '2024-01-02 09:03Z', '2024-01-02 09:03Z', null, '2024-01-02 09:04Z', null, null, '{}', null),
  (4, 0, 'Report', 'slow', 'pending', 0, 10, 0, '2024-01-02 09:05Z', '2024-01-02 09:05Z', null, null, null, null, '{}', null),
  (5, 0, 'Report', 'slow', 'pending', 1, -1, 0, '2024-01-02 09:06Z', '2099-01-01 00:00Z', '2024-01-02 09:06Z', null, null, null, '{}', null),
  (6, 0, 'Import', 'default', 'pending', 0, 10, 0, '2024-01-02 09:07Z', '2024-01-02 09:07Z', null, null, null, null, '{"token": "secret"}', null),
  (7, 0, 'SendMail', 'mail', 'pending', 0, 10, 0, '2024-01-02 09:08Z', '2024-07-02 09:08Z', null, null, null, null, '{}', null),
  (8, 0, 'SendMail', 'default', 'running', 1, 10, 0, '2024-01-02 09:09Z', '2024-01-02 09:09Z', '2024-01-02 09:09:01Z', null, '11111111-1111-4111-8111-111111111111', null, '{}', null),
  (9, 0, 'Report', 'slow', 'running', 2, 10, 0, '2024-01-02 09:10Z', '2024-01-02 09:10Z', '2024-01-02 09:10:01Z', null, '33333333-3333-4333-8333-333333333333', null, '{}', null),
  (10, 0, 'Report', 'slow', 'pending', 0, 10, 5, '2024-01-02 09:11Z', '2024-01-02 09:11Z', null, null, null, null, '{}', null),
  (11, 0, 'Report8', 'default', 'pending', 0, 10, 0, '2024-01-02 09:12Z', '2024-01-02 09:12Z', null, null, null, null, '{}', null);
update anchor_tasks_hot set claim_token = id where status = 'running';
insert into anchor_claims (worker_id, token, part, ids) select worker_id, claim_token, 1, array[id] from anchor_tasks_hot where status = 'running';
insert into anchor_task_errors (task_id, attempt, at, message) values
  (2, 1, '2024-01-02 09:01:02Z', 'no such image'),
  (2, 2, '2024-01-02 09:02:02Z', E'panic: \x1b[31mred\x1b[0m\n\tgoroutine 7'),
  (5, 1, '2024-01-02 09:06:30Z', 'try later');
insert into anchor_queues (name, paused, updated_at) values ('mail', true, '2024-01-02 10:00Z'), ('empty', true, '2024-01-02 11:00Z'), ('resumed', false, '2024-01-02 12:00Z');
insert into anchor_cron_jobs (name, task_name, cron_expression, time_zone, catch_up, params, queue, priority, max_attempts, enabled, next_run, last_tick, task_id, problem, created_at, updated_at) values
  ('every-night', 'Report', '0 3 * * *', 'America/New_York', 'one', '{"token": "secret"}', 'slow', 0, 10, true, '2099-01-01 08:00Z', '2024-01-02 08:00Z', 4, null, '2024-01-01 00:00Z', '2024-01-01 00:00Z'),
  ('paused', 'SendMail', '@hourly', 'UTC', 'none', '{}', 'mail', 0, 10, false, '2099-01-01 00:00Z', null, null, null, '2024-01-01 00:00Z', '2024-01-01 00:00Z'),
  ('wrong', 'SendMail', '61 * * * *', 'UTC', 'all', '{}', 'mail', 0, 10, true, '2099-01-01 00:00Z', null, null, 'the minute 61 is above 59', '2024-01-01 00:00Z', '2024-01-01 00:00Z');
alter sequence anchor_tasks_id_seq restart with 12;
`

// looks are the commands that change nothing, by the name of their golden files.
var looks = map[string][]string{
	"tasks-list":            {"tasks", "list"},
	"tasks-list-page":       {"tasks", "list", "--limit", "2", "--before", "4"},
	"tasks-list-filtered":   {"tasks", "list", "--status", "failed,cancelled", "--status", "running", "--queue", "default", "--params"},
	"tasks-list-nothing":    {"tasks", "list", "--name", "Nothing"},
	"tasks-show":            {"tasks", "show", "2"},
	"tasks-show-pending":    {"tasks", "show", "6", "--utc"},
	"explain-completed":     {"tasks", "explain", "1"},
	"explain-failed":        {"tasks", "explain", "2"},
	"explain-cancelled":     {"tasks", "explain", "3"},
	"explain-waiting":       {"tasks", "explain", "10"},
	"explain-not-due":       {"tasks", "explain", "5"},
	"explain-no-worker":     {"tasks", "explain", "6"},
	"explain-no-queue":      {"tasks", "explain", "11"},
	"explain-paused":        {"tasks", "explain", "7"},
	"explain-running":       {"tasks", "explain", "8"},
	"explain-worker-lost":   {"tasks", "explain", "9"},
	"queues-list":           {"queues", "list"},
	"crons-list":            {"crons", "list"},
	"crons-list-parameters": {"crons", "list", "--params"},
	"workers":               {"workers"},
	"stats":                 {"stats"},
}

// counted is what depends on when the test runs.
var counted = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\d+d\d+h +`), "<age>  "}, // with what pads it in a table
	{regexp.MustCompile(`\d+d\d+h`), "<age>"},
	{regexp.MustCompile(`("at": |"oldestReadySeconds": )("20(2[5-9]|[3-9]\d)-[^"]*Z"|[1-9][0-9.]*)`), `$1"<now>"`},
}

func steady(text string) string {
	for _, c := range counted {
		text = c.pattern.ReplaceAllString(text, c.instead)
	}
	return text
}

func newSeededRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.exec(seed)
	return r
}

func TestLooksWithoutATerminal(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	for name, args := range looks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rig{t: t, url: r.url}
			got := r.run(args...)
			if !json.Valid([]byte(got)) {
				t.Errorf("no JSON: %s", got)
			}
			golden.Check(t, name+".json", steady(got))
			shows := strings.HasPrefix(name, "tasks-show") || strings.HasPrefix(name, "crons-list-p") || strings.HasPrefix(name, "tasks-list-f")
			if !shows && (strings.Contains(got, "secret") || strings.Contains(got, `"params"`)) {
				t.Error("parameters are shown")
			}
			if table := r.run(append(args, "--table")...); json.Valid([]byte(table)) {
				t.Errorf("no table with --table: %s", table)
			}
		})
	}
}

func TestLooksAtAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for command, want := range map[string][2]string{
		"tasks list":  {"{\n  \"tasks\": []\n}\n", "no tasks\n"},
		"queues list": {"[]\n", "no queue holds a task or is paused\n"},
		"crons list":  {"[]\n", "no schedules\n"},
		"workers":     {"[]\n", "no workers\n"},
	} {
		args := strings.Fields(command)
		if got := r.run(args...); got != want[0] {
			t.Errorf("%s writes %q, want %q", command, got, want[0])
		}
		if got := r.run(append(args, "--table")...); got != want[1] {
			t.Errorf("%s --table writes %q, want %q", command, got, want[1])
		}
	}
}

func TestPagesOfTasksFollowEachOther(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	var ids []int64
	args := []string{"tasks", "list", "--limit", "4"}
	for pages := 0; ; pages++ {
		var page struct {
			Tasks []struct{ ID int64 }
			Next  json.Number
		}
		if err := json.Unmarshal([]byte(r.run(args...)), &page); err != nil || len(page.Tasks) > 4 || pages > 3 {
			t.Fatalf("page %d of %d tasks, error %v", pages, len(page.Tasks), err)
		}
		for _, task := range page.Tasks {
			ids = append(ids, task.ID)
		}
		if page.Next == "" {
			break
		}
		args = []string{"tasks", "list", "--limit", "4", "--before", page.Next.String()}
	}
	for i, id := range ids {
		if id != int64(11-i) {
			t.Fatalf("ids %v, want 11 to 1", ids)
		}
	}
	if len(ids) != 11 {
		t.Errorf("%d tasks, want 11", len(ids))
	}
	// A last page that is full has no next one.
	if got := r.run("tasks", "list", "--limit", "11"); strings.Contains(got, `"next"`) {
		t.Error("a next page although there is none")
	}
}
