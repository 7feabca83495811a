package main_test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testprogram"
)

const password = "pa55/w%rd@x"

func TestUsage(t *testing.T) {
	t.Parallel()
	const nowhere = "postgres://nobody@127.0.0.1:1/nothing" // is not asked
	for command, want := range map[string]string{
		"taks":                                `there is no command "taks" in "anchor", did you mean stats or tasks?; see "anchor --help"`,
		"tasks lst":                           `there is no command "lst" in "anchor tasks"`,
		"tasks list --colour":                 "unknown flag: --colour",
		"tasks list all":                      `"all"`,
		"tasks list --status done":            `"done" is none of pending`,
		"tasks list --limit 0":                "--limit: 0 is not between 1 and 5000",
		"tasks list --limit 5001":             "--limit: 5001",
		"tasks list --before 0":               "--before: 0",
		"tasks list --before -1":              "--before: -1",
		"tasks show":                          "accepts 1 arg(s), received 0",
		"tasks show 1 2":                      "accepts 1 arg(s), received 2",
		"tasks show x1":                       `"x1" is no task's id`,
		"tasks show 0":                        `"0" is no task's id`,
		"tasks explain 99999999999999999999":  "is no task's id",
		"tasks retry":                         "requires at least 1 arg",
		"tasks cancel 1 two":                  `"two" is no task's id`,
		"queues pause":                        "accepts 1 arg(s)",
		"stats --interval 1ms --watch":        "--interval: 1ms is less than 100ms",
		"stats --interval 5s":                 "--watch",
		"workers --json --table":              "--json and --table exclude each other",
		"workers --timeout -1s":               "--timeout is negative",
		"workers --schema Jobs":               `--schema "Jobs": the name is not made of`,
		"sql --schema a-b":                    `--schema "a-b": the name is not made of`,
		"postgres://u:secret@host/database":   "not as an argument",
		"tasks postgres://u:secret@host/data": "not as an argument",
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			o := start(t, nowhere, strings.Fields(command)...)
			wantFailure(t, o, 2, want)
			if strings.Contains(o.Stderr, "secret") {
				t.Errorf("a password is shown: %s", o.Stderr)
			}
		})
	}
}

func TestNoDatabaseIsGiven(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"workers"}, {"migrate"}, {"tasks", "retry", "1"}} {
		wantFailure(t, start(t, "", args...), 2, "no database is given: set DATABASE_URL, for example to postgres://user:password@host:5432/database")
	}
}

// What cannot be parsed may have its password anywhere.
func TestWrongDatabaseURLShowsNoPassword(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"postgres://user:" + password + "@host/database":                             "percent-encoded",
		"postgres://user:" + url.QueryEscape(password) + "@host:port/database":       "percent-encoded",
		"postgres://user:" + url.QueryEscape(password) + "@host/database?sslmode=no": "sslmode",
		"host=host password=" + password + " sslmode=no":                             "should look like",
		"host=host port=x PassWord = '" + password + "'":                             "should look like",
		"mysql://user:" + url.QueryEscape(password) + "@host/database":               "postgres://user:password@host",
		password: "should look like",
	} {
		for _, o := range []testprogram.Outcome{start(t, given, "workers"), start(t, "", "workers", "--database-url", given)} {
			wantFailure(t, o, 2, " is not understood: ", want)
			for _, secret := range []string{password, "pa55", "w%rd", "rd@x"} {
				if strings.Contains(o.Stderr, secret) {
					t.Errorf("%q is shown for %q: %s", secret, given, o.Stderr)
				}
			}
		}
	}
}

func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"workers"}, {"migrate"}, {"tasks", "retry", "1", "2"}, {"stats", "--watch"}} {
		o := start(t, "postgres://user:"+url.QueryEscape(password)+"@"+address+"/database", args...)
		wantFailure(t, o, 3, "cannot connect to the database: ", address)
		if strings.Contains(o.Stderr, "pa55") {
			t.Errorf("the password is shown: %s", o.Stderr)
		}
	}

	// A server that accepts and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	wantFailure(t, start(t, "postgres://user@"+silent.Addr().String()+"/database?sslmode=disable", "workers", "--timeout", "200ms"), 3, "cannot connect to the database: no answer within 200ms")
}

func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config, err := pgx.ParseConfig(r.url)
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, start(t, strings.Replace(r.url, "/"+config.Database, "/no_such_database", 1), "workers"), 3, "no_such_database")
}

func TestNotMigrated(t *testing.T) {
	t.Parallel()
	r := newEmptyRig(t)
	for _, command := range []string{
		"tasks list", "tasks show 1", "tasks explain 1", "tasks retry 1", "tasks cancel 1 2", "queues list", "queues pause mail",
		"crons list", "crons run nightly", "workers", "stats", "stats --watch",
	} {
		wantFailure(t, start(t, r.url, strings.Fields(command)...), 4, `the schema "public" is at version 0`, `run "anchor migrate"`)
	}
	wantFailure(t, start(t, r.url, "workers", "--schema", "elsewhere"), 4, `the schema "elsewhere" is at version 0`)
	r.run("migrate")
	r.run("workers")
	r.exec("insert into anchor_migrations (version, name) values (1000, 'of the future')")
	for _, command := range []string{"workers", "tasks retry 1"} {
		wantFailure(t, start(t, r.url, strings.Fields(command)...), 4, "version 1000", "upgrade the library")
	}
	wantFailure(t, start(t, r.url, "migrate"), 1, "version 1000", "upgrade the library")
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for command, want := range map[string]string{
		"tasks show 7":      "task 7: no such task",
		"tasks explain 7":   "task 7: no such task",
		"tasks retry 7":     "task 7: no such task",
		"tasks cancel 7":    "task 7: no such task",
		"crons pause night": `schedule "night": no such schedule (`,
		"crons resume x":    `schedule "x": no such schedule`,
		"crons run x":       `schedule "x": no such schedule`,
	} {
		wantFailure(t, start(t, r.url, strings.Fields(command)...), 5, want)
	}
}

func TestStateThatDoesNotAllowIt(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	for command, want := range map[string]string{
		"tasks retry 1":  "task 1: only a failed or cancelled task can be retried",
		"tasks retry 8":  "task 8: only a failed or cancelled task can be retried",
		"tasks cancel 1": "task 1: only a pending or running task can be cancelled",
	} {
		wantFailure(t, start(t, r.url, strings.Fields(command)...), 6, want)
	}
	r.exec("insert into anchor_unique_tags (tag, task_id) values ('image/7', 10)")
	wantFailure(t, start(t, r.url, "tasks", "retry", "2"), 6, `task 2: unique tag "image/7" is held by task 10`)

	// What fails does not keep the others from being done.
	o := start(t, r.url, "tasks", "cancel", "1", "6", "99", "4")
	if o.Code != 6 || o.Stdout != "[\n  {\n    \"id\": 6,\n    \"status\": \"cancelled\"\n  },\n  {\n    \"id\": 4,\n    \"status\": \"cancelled\"\n  }\n]\n" {
		t.Errorf("exit code %d, stdout %q", o.Code, o.Stdout)
	}
	if want := "anchor: task 1: only a pending or running task can be cancelled\nanchor: task 99: no such task "; !strings.HasPrefix(o.Stderr, want) || strings.Count(o.Stderr, "\n") != 2 {
		t.Errorf("stderr %q, want %q", o.Stderr, want)
	}
}

// Predefined roles stand for one that may do nothing, and one that may only read.
func TestForbidden(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	wantFailure(t, start(t, withParameter(r.url, "role=pg_monitor"), "workers"), 1, "permission denied", "42501")
	reader := withParameter(r.url, "role=pg_read_all_data")
	for _, args := range looks {
		if o := start(t, reader, args...); o.Code != 0 || o.Stderr != "" {
			t.Errorf("a role that may read: %v: %+v", args, o)
		}
	}
	for _, command := range []string{"tasks retry 2", "tasks cancel 6", "queues pause mail2", "queues resume mail", "crons run paused", "crons resume paused"} {
		wantFailure(t, start(t, reader, strings.Fields(command)...), 1, "permission denied", "42501")
	}
}

func withParameter(address, parameter string) string {
	if strings.Contains(address, "?") {
		return address + "&" + parameter
	}
	return address + "?" + parameter
}

func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	r := newSeededRig(t)
	tx, err := r.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "select 1 from anchor_tasks where id = 6 for update"); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, start(t, r.url, "tasks", "cancel", "6", "--timeout", "2s"), 1, "the database did not answer within 2s (--timeout)")
	task, err := client(t, r).Task(t.Context(), 6)
	if err != nil || task.Status != anchor.StatusPending {
		t.Errorf("the task is %+v, error %v", task, err)
	}
}
