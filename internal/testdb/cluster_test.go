//go:build unix

package testdb

import (
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStartGivesACarefulServer(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, WithSettings("max_connections=77", "cluster_name=it's"))
	got := map[string]string{}
	for _, name := range []string{
		"fsync", "full_page_writes", "listen_addresses", "max_connections", "shared_buffers",
		"TimeZone", "server_encoding", "lc_messages", "cluster_name",
	} {
		got[name] = queryText(t, cluster.URL(), "select current_setting('"+name+"')")
	}
	got["lc_collate"] = queryText(t, cluster.URL(), "select datcollate from pg_database where datname = current_database()")
	got["user"] = queryText(t, cluster.URL(), "select current_user::text")
	want := map[string]string{
		"fsync": "on", "full_page_writes": "on", "listen_addresses": "", "max_connections": "77",
		"shared_buffers": "256MB", "TimeZone": "UTC", "server_encoding": "UTF8", "lc_messages": "C.UTF-8",
		"cluster_name": "it's", "lc_collate": "C.UTF-8", "user": "postgres",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	processes := processesOf(t, cluster)
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if exists(cluster.folder) {
		t.Errorf("%s is still there", cluster.folder)
	}
	eventuallyGone(t, processes)
	if err := cluster.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestClusterThatNobodyHoldsLives(t *testing.T) {
	t.Parallel()
	url := func() string {
		cluster, err := Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return cluster.URL()
	}()
	// Files are closed by what runs after a collection; two make that happen.
	runtime.GC()
	runtime.GC()
	if got := queryText(t, url, "select 'up'"); got != "up" {
		t.Errorf("got %q, want up", got)
	}
}

func TestTCPListensOnLoopback(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, WithTCP())
	if u, err := url.Parse(cluster.URL()); err != nil || u.Hostname() != "127.0.0.1" {
		t.Errorf("URL is %s (%v), want one with host 127.0.0.1", cluster.URL(), err)
	}
	if got := queryText(t, cluster.URL(), "select host(inet_server_addr())"); got != "127.0.0.1" {
		t.Errorf("server's address is %s, want 127.0.0.1", got)
	}
}

func TestRestartKeepsCommittedData(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]Mode{"fast": Fast, "immediate": Immediate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t)
			execute(t, cluster.URL(), "create table kept as select 'here' as word")
			before := queryText(t, cluster.URL(), "select pg_postmaster_start_time()::text")
			if err := cluster.Restart(t.Context(), mode); err != nil {
				t.Fatal(err)
			}
			if got := queryText(t, cluster.URL(), "select word from kept"); got != "here" {
				t.Errorf("after the restart the table holds %q, want %q", got, "here")
			}
			if after := queryText(t, cluster.URL(), "select pg_postmaster_start_time()::text"); after == before {
				t.Error("the server has not restarted")
			}
		})
	}
}

func TestKillEndsTheServerUntilRestart(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	execute(t, cluster.URL(), "create table kept as select 'here' as word")
	processes := processesOf(t, cluster)
	if err := cluster.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventuallyGone(t, processes)
	if err := cluster.Restart(t.Context(), Immediate); err != nil {
		t.Fatal(err)
	}
	if got := queryText(t, cluster.URL(), "select word from kept"); got != "here" {
		t.Errorf("after the restart the table holds %q, want %q", got, "here")
	}
	log, err := os.ReadFile(cluster.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "database system was not properly shut down") {
		t.Errorf("no crash recovery in the log:\n%s", log)
	}
}

func TestStopAfterKillLeavesNothing(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	segment := sharedMemory(t, cluster)
	if err := cluster.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if exists(cluster.folder) {
		t.Errorf("%s is still there", cluster.folder)
	}
	if segmentExists(t, segment) {
		t.Errorf("shared memory segment %s is still there", segment)
	}
}

func TestStartReportsWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ setting, want string }{
		"unknown setting": {"no_such_setting=1", `unrecognized configuration parameter "no_such_setting"`},
		"bad value":       {"max_connections=none", `invalid value for parameter "max_connections"`},
		"no value":        {"fsync", "not of the form name=value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := Start(t.Context(), WithSettings(test.setting))
			if err == nil {
				cluster.Stop()
				t.Fatal("Start succeeded")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is\n%v\nwant one with %q", err, test.want)
			}
		})
	}
}

func TestLongTemporaryFolderDoesNotBreakTheSocket(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(long, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	cluster := startCluster(t)
	if got := queryText(t, cluster.URL(), "select 'up'"); got != "up" {
		t.Errorf("got %q, want up", got)
	}
}
