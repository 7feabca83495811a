//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// server is one run of the postgres program. No goroutine watches it, so that
// a cluster shared by a process does not look like a leak to goleak.
type server struct {
	cmd *exec.Cmd
	// gone is the read end of the pipe that is stdout of the postmaster and of
	// all its children, who do not write to it: it ends with the last of them.
	gone *os.File
}

func (s *server) goneWithin(d time.Duration) bool {
	if err := s.gone.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false
	}
	_, err := s.gone.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

// reap must only be called when the server is gone. How it ended is no news:
// a signal of ours, or an error that its log tells better.
func (s *server) reap() {
	s.cmd.Wait()
	s.gone.Close()
}

const pollInterval = 20 * time.Millisecond

// launch returns when the server accepts connections, or is gone again.
func (c *Cluster) launch(ctx context.Context) error {
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	gone, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := c.command(log, "postgres", "-D", "data")
	cmd.Stdout = stdout
	cmd.SysProcAttr.Pgid = c.watchdog.group()
	err = cmd.Start()
	stdout.Close() // ours: what is left are those of the server's processes
	if err != nil {
		gone.Close()
		return err
	}
	c.server = &server{cmd: cmd, gone: gone}

	for {
		conn, err := pgx.Connect(ctx, c.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		if c.server.goneWithin(pollInterval) {
			c.server.reap()
			c.server = nil
			return fmt.Errorf("the server has ended%s", c.logTail())
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the server is not ready in time: %w%s", err, c.logTail())
		}
	}
}

// end sends a signal to the postmaster and waits until the server is gone.
func (c *Cluster) end(ctx context.Context, signal syscall.Signal) error {
	if err := c.server.cmd.Process.Signal(signal); err != nil {
		return err
	}
	for !c.server.goneWithin(pollInterval) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the server is not gone in time: %w", err)
		}
	}
	c.server.reap()
	c.server = nil
	return nil
}

// logTail is the end of the log, to be put after an error.
func (c *Cluster) logTail() string {
	const lines = 15
	text, err := os.ReadFile(c.LogFile())
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "; its log ends with:\n" + strings.Join(all[max(0, len(all)-lines):], "\n")
}
