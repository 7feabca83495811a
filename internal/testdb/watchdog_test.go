//go:build unix

package testdb

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestClusterEndsWithAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	child, output := startChild(t, openFolder(t))
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("read the child's output: %v", err)
	}
	cluster := &Cluster{folder: filepath.Dir(strings.TrimSpace(line)), port: 5432}
	if got := queryText(t, cluster.URL(), "select 'up'"); got != "up" {
		t.Errorf("got %q, want up", got)
	}
	processes := processesOf(t, cluster)
	segment := sharedMemory(t, cluster)

	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	eventually(t, "removal of "+cluster.folder, func() bool { return !exists(cluster.folder) })
	eventuallyGone(t, processes)
	if segmentExists(t, segment) {
		t.Errorf("shared memory segment %s is still there", segment)
	}
}

func TestNothingIsLeftOfAStartThatIsKilled(t *testing.T) {
	t.Parallel()
	for _, file := range []string{".", "data", "data/base/1/PG_VERSION", "data/global/pg_control", "data/postmaster.pid"} {
		t.Run(strings.ReplaceAll(file, "/", "_"), func(t *testing.T) {
			t.Parallel()
			temporary := openFolder(t)
			child, _ := startChild(t, temporary)
			var found []string
			eventually(t, "the child's "+file, func() bool {
				found, _ = filepath.Glob(filepath.Join(temporary, "anchor-testdb-*", file))
				return len(found) > 0
			})
			segment, hasSegment := segmentOf(strings.TrimSuffix(found[0], file))
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			child.Wait()
			eventually(t, "removal of the cluster below "+temporary, func() bool {
				entries, err := os.ReadDir(temporary)
				return err == nil && len(entries) == 0
			})
			if hasSegment && segmentExists(t, segment) {
				t.Errorf("shared memory segment %s is still there", segment)
			}
		})
	}
}

func startChild(t *testing.T, temporary string) (*exec.Cmd, *os.File) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { output.Close() })
	child := exec.Command(program)
	child.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+temporary)
	child.Stdout, child.Stderr = stdout, os.Stderr
	err = child.Start()
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Process.Kill()
		child.Wait()
	})
	return child, output
}

// openFolder is a temporary folder that user postgres can get to.
func openFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "testdb-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return folder
}

// processesOf returns the ids of the postmaster and of two of its children.
func processesOf(t *testing.T, c *Cluster) []int {
	t.Helper()
	pids := []int{postmaster(t, c)}
	for _, kind := range []string{"checkpointer", "walwriter"} {
		pid, err := strconv.Atoi(queryText(t, c.URL(), "select pid::text from pg_stat_activity where backend_type = '"+kind+"'"))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func postmaster(t *testing.T, c *Cluster) int {
	t.Helper()
	line, _ := pidFileLine(c.folder, 1)
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("postmaster.pid: %v", err)
	}
	return pid
}

// segmentOf returns the id of the System V segment of a server, or of what
// initdb is running.
func segmentOf(folder string) (string, bool) {
	line, ok := pidFileLine(folder, 7)
	fields := strings.Fields(line)
	return strings.Join(fields[min(len(fields), 1):], ""), ok && len(fields) == 2
}

func sharedMemory(t *testing.T, c *Cluster) string {
	t.Helper()
	id, ok := segmentOf(c.folder)
	if !ok {
		t.Fatal("postmaster.pid does not tell the shared memory segment")
	}
	return id
}

func pidFileLine(folder string, number int) (string, bool) {
	text, err := os.ReadFile(filepath.Join(folder, "data", "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < number {
		return "", false
	}
	return lines[number-1], true
}

func segmentExists(t *testing.T, id string) bool {
	t.Helper()
	out, err := exec.Command("ipcs", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > 1 && fields[1] == id
	})
}

// eventuallyGone allows for the moment between a process's closing of its files
// and its end. One that its parent, an init that does not care, has not asked
// about has ended too.
func eventuallyGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("end of process %d", pid), func() bool {
			if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				return true
			}
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err == nil && strings.Contains(string(stat), ") Z ")
		})
	}
}
