//go:build unix

package testdb

import (
	"testing"
)

func TestStandbyFollowsAndIsPromoted(t *testing.T) {
	t.Parallel()
	primary := startCluster(t, WithTCP(), WithSettings("shared_buffers=32MB"))
	standby, err := primary.Standby(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	execute(t, primary.URL(), "create table told (what text)")
	execute(t, primary.URL(), "insert into told values ('news')")
	if got := queryText(t, primary.URL(), "select application_name from pg_stat_replication"); got != "second" {
		t.Errorf("%q follows, want second", got)
	}
	eventually(t, "the news", func() bool {
		return queryText(t, standby.URL(), "select (to_regclass('told') is not null)::text") == "true" &&
			queryText(t, standby.URL(), "select max(what) from told") == "news"
	})
	if got := queryText(t, standby.URL(), "select pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("in recovery: %s, want true", got)
	}
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, standby.URL(), "insert into told values ('more')")
}
