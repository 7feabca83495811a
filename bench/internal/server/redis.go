package server

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Redis is a private server with Redis's own defaults: it saves a snapshot every few minutes, so that a crash
// loses what came since.
type Redis struct {
	cmd    *exec.Cmd
	folder string
}

// ErrNoRedis says that there is no redis-server on PATH.
var ErrNoRedis = errors.New("redis-server is not on PATH")

// StartRedis starts one on a unix socket in a temporary folder.
func StartRedis(ctx context.Context) (*Redis, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoRedis
	}
	folder, err := os.MkdirTemp("", "anchor-bench-redis-")
	if err != nil {
		return nil, err
	}
	r := &Redis{folder: folder}
	r.cmd = exec.Command(program, "--port", "0", "--unixsocket", r.Address(), "--dir", folder)
	if err := r.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	for {
		conn, err := net.Dial("unix", r.Address())
		if err == nil {
			return r, conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), r.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Address is the server's unix socket.
func (r *Redis) Address() string { return filepath.Join(r.folder, "redis.sock") }

// Stop ends the server and removes its folder.
func (r *Redis) Stop() error {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	return os.RemoveAll(r.folder)
}

// PID is the server's process.
func (r *Redis) PID() int { return r.cmd.Process.Pid }
