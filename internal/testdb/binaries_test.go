//go:build unix

package testdb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program writes a program for a test.
func program(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func initdb(t *testing.T, folder, version string) {
	t.Helper()
	program(t, filepath.Join(folder, "initdb"), fmt.Sprintf("echo 'initdb (PostgreSQL) %s (Debian)'\n", version))
}

func TestBinaries(t *testing.T) {
	for name, test := range map[string]struct {
		path string   // version of the initdb on PATH
		root []string // versions in the folder of Debian
		want string
	}{
		"on PATH":               {path: "16.2", root: []string{"17.1"}, want: "path"},
		"the newest by number":  {root: []string{"9.6", "15.18", "14.1"}, want: "root/15.18/bin"},
		"a development version": {root: []string{"19devel"}, want: "root/19devel/bin"},
		"too old on PATH":       {path: "13.3", root: []string{"14.1"}, want: "root/14.1/bin"},
		"three digits, if ever": {root: []string{"99.1", "100.1"}, want: "root/100.1/bin"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			t.Setenv("PATH", filepath.Join(folder, "path"))
			if test.path != "" {
				initdb(t, filepath.Join(folder, "path"), test.path)
			}
			for _, version := range test.root {
				initdb(t, filepath.Join(folder, "root", version, "bin"), version)
			}
			got, err := binaries(t.Context(), filepath.Join(folder, "root"))
			if want := filepath.Join(folder, test.want); err != nil || got != want {
				t.Errorf("binaries are in %s (%v), want %s", got, err, want)
			}
		})
	}
}

func TestBinariesFollowsALinkOnPath(t *testing.T) {
	folder := t.TempDir()
	initdb(t, filepath.Join(folder, "real"), "15.1")
	if err := os.Mkdir(filepath.Join(folder, "path"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(folder, "real", "initdb"), filepath.Join(folder, "path", "initdb")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(folder, "path"))
	got, err := binaries(t.Context(), filepath.Join(folder, "root"))
	if want := filepath.Join(folder, "real"); err != nil || got != want {
		t.Errorf("binaries are in %s (%v), want %s", got, err, want)
	}
}

func TestWithoutPostgreSQL(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	_, err := binaries(t.Context(), filepath.Join(folder, "root"))
	if err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") || !strings.Contains(err.Error(), URLVariable) {
		t.Errorf("error is %v, want one that tells what to install and %s", err, URLVariable)
	}
}

func TestRootInstallsPostgreSQL(t *testing.T) {
	folder := t.TempDir()
	root := filepath.Join(folder, "root")
	t.Setenv("PATH", folder)
	program(t, filepath.Join(folder, "sh"), `exec /bin/sh "$@"`)
	program(t, filepath.Join(folder, "flock"), `shift; exec "$@"`)
	program(t, filepath.Join(folder, "apt-get"), fmt.Sprintf(`
[ "$1" = update ] || [ "$*" = "install -y postgresql" ] || exit 1
PATH=/bin:/usr/bin
mkdir -p %[1]s/17/bin
echo 'echo "initdb (PostgreSQL) 17.1"' > %[1]s/17/bin/initdb
sed -i '1i #!/bin/sh' %[1]s/17/bin/initdb
chmod +x %[1]s/17/bin/initdb
`, root))
	got, err := binaries(t.Context(), root)
	if os.Geteuid() != 0 {
		if err == nil || exists(root) {
			t.Errorf("binaries are in %q, want an error and no attempt to install", got)
		}
		return
	}
	if want := filepath.Join(root, "17", "bin"); err != nil || got != want {
		t.Errorf("binaries are in %s (%v), want %s", got, err, want)
	}
}

func TestAvailableInstallsNothing(t *testing.T) {
	folder := t.TempDir()
	root := filepath.Join(folder, "root")
	t.Setenv("PATH", folder)
	program(t, filepath.Join(folder, "apt-get"), "echo installed > "+filepath.Join(folder, "installed"))
	if err := availableIn(t.Context(), root); err == nil || !strings.Contains(err.Error(), URLVariable) {
		t.Errorf("error is %v, want one that names %s", err, URLVariable)
	}
	if exists(filepath.Join(folder, "installed")) {
		t.Error("it tried to install PostgreSQL")
	}
	initdb(t, filepath.Join(root, "15", "bin"), "15.1")
	if err := availableIn(t.Context(), root); err != nil {
		t.Errorf("with PostgreSQL: %v", err)
	}
}
