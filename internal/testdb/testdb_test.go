package testdb

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

func TestDatabasesAreEmptyAndApart(t *testing.T) {
	t.Parallel()
	one, two := New(t), New(t)
	execute(t, one, "create table mine ()")
	for url, want := range map[string]string{one: "1", two: "0"} {
		got := queryText(t, url, "select count(*)::text from pg_tables where schemaname = 'public'")
		if got != want {
			t.Errorf("%s has %s tables, want %s", url, got, want)
		}
	}
}

func TestDatabaseIsDroppedUnderItsSessions(t *testing.T) {
	t.Parallel()
	var session *pgx.Conn
	var name string
	t.Run("user", func(t *testing.T) {
		url := New(t)
		name = queryText(t, url, "select current_database()::text")
		var err error
		if session, err = pgx.Connect(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	})
	if err := session.Ping(t.Context()); err == nil {
		t.Error("the session is still alive")
	}
	url, err := sharedURL()
	if err != nil {
		t.Fatal(err)
	}
	if got := queryText(t, url, "select count(*)::text from pg_database where datname = '"+name+"'"); got != "0" {
		t.Errorf("database %s is still there", name)
	}
}

func TestManyDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	var names sync.Map
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			// Fatalf must not be called here: what New does, step by step.
			url, err := sharedURL()
			if err != nil {
				t.Error(err)
				return
			}
			name := databaseName(t.Name())
			if _, taken := names.LoadOrStore(name, true); taken {
				t.Errorf("name %s came twice", name)
			}
			if _, err := Create(t.Context(), url, name); err != nil {
				t.Error(err)
			}
			if err := Drop(t.Context(), url, name); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestDatabaseNamesAreValid(t *testing.T) {
	t.Parallel()
	valid := regexp.MustCompile(`^[a-z][a-z0-9_]{0,61}$`)
	for _, test := range []string{"", "TestX", "TestÜber/ß=1\x00'\"", "Test" + strings.Repeat("ü/", 100)} {
		if name := databaseName(test); !valid.MatchString(name) {
			t.Errorf("databaseName(%q) = %q, want a match of %s", test, name, valid)
		}
	}
}

func TestWithDatabaseKeepsTheRest(t *testing.T) {
	t.Parallel()
	for _, original := range []string{
		"postgres://joe:pa%40ss@db.example:5433/other?sslmode=disable&application_name=a",
		"postgresql://joe:pa%40ss@db.example:5433?dbname=other&sslmode=disable&application_name=a",
		"host=db.example port=5433 user=joe password=pa@ss dbname=other sslmode=disable application_name=a",
	} {
		url, err := withDatabase(original, "anchor_x")
		if err != nil {
			t.Errorf("%s: %v", original, err)
			continue
		}
		config, err := pgx.ParseConfig(url)
		if err != nil {
			t.Errorf("%s became %s: %v", original, url, err)
			continue
		}
		got := fmt.Sprintf("%s:%s@%s:%d/%s %s", config.User, config.Password, config.Host, config.Port,
			config.Database, config.RuntimeParams["application_name"])
		if diff := cmp.Diff("joe:pa@ss@db.example:5433/anchor_x a", got); diff != "" {
			t.Errorf("%s became %s (-want +got):\n%s", original, url, diff)
		}
	}
}

func TestPasswordIsNotInMessages(t *testing.T) {
	t.Parallel()
	const url = "postgres://joe:secret@db.example:5433/anchor_x?sslmode=disable"
	if got, want := describe(url), "anchor_x on db.example port 5433"; got != want {
		t.Errorf("describe = %q, want %q", got, want)
	}
	if _, err := withDatabase("postgres://joe:secret@db.example:port", "x"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error is %v, want one without the password", err)
	}
}
