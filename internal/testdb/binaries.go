//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

const (
	oldestVersion = 14
	debianRoot    = "/usr/lib/postgresql"
)

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// binaries returns the folder of the server's programs: that of the initdb on
// PATH, else the newest under root, which is where Debian has them. As root on
// a Debian-like machine without PostgreSQL it installs the package.
func binaries(ctx context.Context, root string) (string, error) {
	if folder, ok := findBinaries(ctx, root); ok {
		return folder, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", errNone(root)
	}
	fmt.Fprintln(os.Stderr, "testdb: no PostgreSQL found, installing it: apt-get install -y postgresql")
	if err := install(ctx, "postgresql"); err != nil {
		return "", err
	}
	if folder, ok := findBinaries(ctx, root); ok {
		return folder, nil
	}
	return "", fmt.Errorf("no PostgreSQL %d or newer in %s after apt-get install postgresql", oldestVersion, root)
}

func errNone(root string) error {
	return fmt.Errorf("no PostgreSQL %d or newer found on PATH or in %s: "+
		"install it (Debian, Ubuntu: sudo apt-get install postgresql; macOS: brew install postgresql), or set %s to the URL of a server",
		oldestVersion, root, URLVariable)
}

// Available is an error where [Start] would have to install PostgreSQL.
func Available(ctx context.Context) error { return availableIn(ctx, debianRoot) }

func availableIn(ctx context.Context, root string) error {
	if _, ok := findBinaries(ctx, root); !ok {
		return errNone(root)
	}
	return nil
}

func findBinaries(ctx context.Context, root string) (string, bool) {
	if path, err := exec.LookPath("initdb"); err == nil {
		// The other programs need not be on PATH, they are beside the real file.
		if path, err = filepath.EvalSymlinks(path); err == nil && version(ctx, path) >= oldestVersion {
			return filepath.Dir(path), true
		}
	}
	paths, _ := filepath.Glob(filepath.Join(root, "*", "bin", "initdb")) // the only error is of the pattern
	newest := slices.MaxFunc(append(paths, ""), func(a, b string) int { return version(ctx, a) - version(ctx, b) })
	return filepath.Dir(newest), version(ctx, newest) >= oldestVersion
}

// version is the major version that an initdb states, 0 when it does not.
func version(ctx context.Context, initdb string) int {
	if initdb == "" {
		return 0
	}
	out, err := exec.CommandContext(ctx, initdb, "--version").Output()
	match := versionPattern.FindSubmatch(out)
	if err != nil || match == nil {
		return 0
	}
	major, _ := strconv.Atoi(string(match[1]))
	return major
}

// install holds a lock meanwhile, as the packages under test run in several
// processes at once.
func install(ctx context.Context, name string) error {
	cmd := exec.CommandContext(ctx, "flock", "/var/lib/dpkg", "sh", "-c",
		"apt-get update && apt-get install -y "+name)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("apt-get install -y %s failed: install it by hand", name), err)
	}
	return nil
}
