//go:build unix

package testdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// watchdog is a shell that removes a cluster when the process that started it
// lets go of it, or is gone. It is the only way in which a cluster ends, so
// that the way that matters after SIGKILL is the one taken every day.
//
// The server is started in the watchdog's process group, which is how it is
// found without trusting a pid that may have been given to another process. All
// processes of a cluster, down to the last backend, inherit the write end of a
// pipe, which is how the watchdog knows that all of them are gone. For initdb,
// which leaves shared memory behind when it is ended, it just waits.
type watchdog struct {
	cmd     *exec.Cmd
	leash   *os.File // while it is open, the cluster may live
	members *os.File // fd 3 of every process of the cluster
}

// Nothing is ever written to stdin or to fd 3: both only end. A server that
// was killed leaves its postmaster.pid, whose seventh line tells the System V
// segment that it has left too.
const watchdogScript = `
trap '' HUP INT QUIT TERM
cd /
read -r nothing
kill -s QUIT 0
kill -s CONT 0
cat <&3 >/dev/null
if [ -f "$1/data/postmaster.pid" ]; then
	sed -n 7p "$1/data/postmaster.pid" | { read -r key id && ipcrm -m "$id"; }
fi
rm -rf -- "$1"
`

// leashes keeps them from the garbage collector, which closes files: a cluster
// whose Cluster nobody holds any more lives as long as the process does.
var leashes sync.Map

// startWatchdog comes before the folder is made, lest a process that is killed
// in between leave it behind.
func startWatchdog(folder string) (*watchdog, error) {
	leashRead, leash, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	defer leashRead.Close()
	membersRead, members, err := os.Pipe()
	if err != nil {
		leash.Close()
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	defer membersRead.Close()

	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "anchor-testdb-watchdog", folder)
	cmd.Stdin = leashRead
	cmd.ExtraFiles = []*os.File{membersRead}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		leash.Close()
		members.Close()
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	leashes.Store(leash, nil)
	return &watchdog{cmd: cmd, leash: leash, members: members}, nil
}

// adopt makes the watchdog wait for the end of a command yet to be started.
func (w *watchdog) adopt(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{w.members} }

// group is the process group of what the watchdog ends.
func (w *watchdog) group() int { return w.cmd.Process.Pid }

// release ends the cluster and waits until nothing is left of it.
func (w *watchdog) release() error {
	leashes.Delete(w.leash)
	if err := errors.Join(w.leash.Close(), w.members.Close(), w.cmd.Wait()); err != nil {
		return fmt.Errorf("end the watchdog: %w", err)
	}
	return nil
}
