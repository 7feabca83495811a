//go:build unix

package testdb

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// serverUser is who runs the server: PostgreSQL refuses root.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres: %w", err)
	}
	uid, errUID := strconv.ParseUint(account.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(account.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, fmt.Errorf("ids of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// newFolderName names the folder of a cluster, below TMPDIR where that is
// possible, else below /tmp.
func newFolderName(owner *syscall.Credential) string {
	parent := os.TempDir()
	if !suits(parent, owner) {
		parent = "/tmp"
	}
	return filepath.Join(parent, "anchor-testdb-"+strings.ToLower(rand.Text()[:12]))
}

func makeFolder(folder string, owner *syscall.Credential) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if owner == nil {
		return nil
	}
	return os.Chown(folder, int(owner.Uid), int(owner.Gid))
}

// suits tells whether a folder's name is short enough for a unix socket in a
// folder below (107 bytes on Linux, 103 on macOS), and whether another user
// could get there.
func suits(parent string, other *syscall.Credential) bool {
	const longest = 103 - len("/anchor-testdb-123456789012/.s.PGSQL.65535")
	if len(parent) > longest || !filepath.IsAbs(parent) {
		return false
	}
	for path := parent; other != nil; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if path == filepath.Dir(path) {
			break
		}
	}
	return true
}

// freePort stays below the ports that the kernel gives to outgoing connections,
// lest one of them takes the server's port while it restarts.
func freePort() (int, error) {
	var err error
	for range 20 {
		port := 20000 + mathrand.IntN(10000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
