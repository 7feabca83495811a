package testdb

import (
	"fmt"
	"strings"
	"testing"
)

// failing is a test that fails, as far as New can see.
type failing struct {
	testing.TB
	cleanups []func()
	log      []string
}

func (f *failing) Failed() bool            { return true }
func (f *failing) Cleanup(cleanup func())  { f.cleanups = append(f.cleanups, cleanup) }
func (f *failing) Logf(s string, a ...any) { f.log = append(f.log, fmt.Sprintf(s, a...)) }

func TestDatabaseOfAFailedTest(t *testing.T) {
	server, err := sharedURL()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ url, keep, want string }{
		"private cluster":          {url: "", keep: "1", want: "0"},
		"given server":             {url: server, keep: "", want: "0"},
		"given server, to be kept": {url: server, keep: "1", want: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(URLVariable, test.url)
			t.Setenv("ANCHOR_TEST_KEEP", test.keep)
			f := &failing{TB: t}
			database := queryText(t, NewOn(f, server), "select current_database()::text")
			for _, cleanup := range f.cleanups {
				cleanup()
			}
			if got := queryText(t, server, "select count(*)::text from pg_database where datname = '"+database+"'"); got != test.want {
				t.Errorf("%s databases %s are left, want %s", got, database, test.want)
			}
			if log := strings.Join(f.log, "\n"); !strings.Contains(log, database) {
				t.Errorf("log is %q, want the name %s in it", log, database)
			}
			if err := Drop(t.Context(), server, database); err != nil {
				t.Error(err)
			}
		})
	}
}
