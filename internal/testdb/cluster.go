//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Cluster is a private PostgreSQL server in a temporary folder. Its superuser
// is postgres, without a password. Only URL and LogFile may be called at the
// same time as another method.
type Cluster struct {
	folder   string
	port     int
	tcp      bool
	programs string
	user     *syscall.Credential // nil: ours
	watchdog *watchdog
	server   *server   // nil: down
	bouncer  *exec.Cmd // nil: none
}

// Mode is a way to stop a server.
type Mode syscall.Signal

// Smart waits for all sessions to end, Fast ends them, Immediate makes the next
// start go through crash recovery.
const (
	Smart     = Mode(syscall.SIGTERM)
	Fast      = Mode(syscall.SIGINT)
	Immediate = Mode(syscall.SIGQUIT)
)

// Start makes a cluster of PostgreSQL 14 or newer and returns when it accepts
// connections. In a process of root the server runs as user postgres. ctx
// bounds the start only. The caller ends the cluster with Stop; without, it
// ends with the process.
func Start(ctx context.Context, opts ...Option) (*Cluster, error) {
	var conf config
	for _, opt := range opts {
		opt.apply(&conf)
	}
	c, err := newCluster(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := c.initialise(ctx, conf); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", errors.Join(err, c.Stop()))
	}
	return c, nil
}

// newCluster is the name of a folder and its watchdog.
func newCluster(ctx context.Context, conf config) (*Cluster, error) {
	programs, err := binaries(ctx, debianRoot)
	if err != nil {
		return nil, err
	}
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	port := 5432
	if conf.tcp {
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	folder := newFolderName(user)
	watchdog, err := startWatchdog(folder)
	if err != nil {
		return nil, err
	}
	return &Cluster{folder: folder, port: port, tcp: conf.tcp, programs: programs, user: user, watchdog: watchdog}, nil
}

func (c *Cluster) initialise(ctx context.Context, conf config) error {
	text, err := configuration(c.folder, c.port, conf)
	if err != nil {
		return err
	}
	if err := makeFolder(c.folder, c.user); err != nil {
		return err
	}
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	// --no-sync: a folder that is not to survive the machine need not be synced
	// before the server, which does sync, is up. It takes a second, so that ctx
	// need not end it.
	initdb := c.command(log, "initdb", "--pgdata=data", "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	if err := errors.Join(initdb.Run(), ctx.Err()); err != nil {
		return fmt.Errorf("initdb: %w%s", err, c.logTail())
	}
	file, err := os.OpenFile(filepath.Join(c.folder, "data", "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return c.launch(ctx)
}

// command is a program of PostgreSQL, to be run as [Cluster.run] says.
func (c *Cluster) command(log *os.File, program string, args ...string) *exec.Cmd {
	return c.run(log, filepath.Join(c.programs, program), args...)
}

// run is a program to be run as the server's user in the cluster's folder, in a
// process group of its own lest it gets the signals of a terminal. Its output
// goes to log.
func (c *Cluster) run(log *os.File, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = c.folder
	cmd.Stdout, cmd.Stderr = log, log
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") && !strings.HasPrefix(variable, "LANG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user, Setpgid: true}
	c.watchdog.adopt(cmd)
	return cmd
}

func (c *Cluster) openLog() (*os.File, error) {
	return os.OpenFile(c.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// URL is the address of database postgres, for pgx and for libpq.
func (c *Cluster) URL() string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres"}
	query := url.Values{"sslmode": {"disable"}}
	if c.tcp {
		u.Host = "127.0.0.1:" + strconv.Itoa(c.port)
	} else {
		query.Set("host", c.folder)
		query.Set("port", strconv.Itoa(c.port))
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// LogFile is the path of the server's log. Every line of it has the SQLSTATE
// as its fifth word.
func (c *Cluster) LogFile() string { return filepath.Join(c.folder, "postgres.log") }

// Stop ends the server at once and removes the folder. A second call does
// nothing.
func (c *Cluster) Stop() error {
	if c.watchdog == nil {
		return nil
	}
	err := c.watchdog.release()
	c.watchdog = nil
	if c.server != nil {
		c.server.reap()
		c.server = nil
	}
	c.reapBouncer()
	if err != nil {
		return fmt.Errorf("stop PostgreSQL in %s: %w", c.folder, err)
	}
	return nil
}

// Restart stops the server in the way of mode, unless Kill has ended it before,
// and starts it with the same URL. It returns when the server accepts
// connections.
func (c *Cluster) Restart(ctx context.Context, mode Mode) error {
	if c.server != nil {
		if err := c.end(ctx, syscall.Signal(mode)); err != nil {
			return fmt.Errorf("restart PostgreSQL: %w", err)
		}
	}
	if err := c.launch(ctx); err != nil {
		return fmt.Errorf("restart PostgreSQL: %w", err)
	}
	return nil
}

// Kill ends the server with SIGKILL and returns when all its processes are
// gone: a backend that computes goes on until its statement is done. The folder
// stays, for Restart.
func (c *Cluster) Kill(ctx context.Context) error {
	if c.server == nil {
		return nil
	}
	if err := c.end(ctx, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}
