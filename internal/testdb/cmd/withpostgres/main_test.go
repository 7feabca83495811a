//go:build unix

package main

import (
	"bufio"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/testdb"
)

// asCommand makes this test binary the command under test.
const asCommand = "WITHPOSTGRES_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Unsetenv(asCommand)
		main()
	}
	os.Exit(m.Run())
}

// withpostgres returns a command that has no server given to it.
func withpostgres(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, testdb.URLVariable+"=")
	})
	cmd.Env = append(cmd.Env, asCommand+"=1")
	cmd.Stderr = os.Stderr
	return cmd
}

// running is a withpostgres whose command has written its server's URL.
type running struct {
	cmd       *exec.Cmd
	stdin     io.WriteCloser
	serverURL string
}

func start(t *testing.T, script string) running {
	t.Helper()
	cmd := withpostgres(t, "--", "sh", "-c", script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("read the command's output: %v", err)
	}
	return running{cmd: cmd, stdin: stdin, serverURL: strings.TrimSpace(line)}
}

func checkEnd(t *testing.T, r running, wantCode int) {
	t.Helper()
	r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != wantCode {
		t.Errorf("exit code is %d, want %d", got, wantCode)
	}
	u, err := url.Parse(r.serverURL)
	if err != nil {
		t.Fatal(err)
	}
	folder := u.Query().Get("host")
	if _, err := os.Lstat(folder); folder == "" || !os.IsNotExist(err) {
		t.Errorf("cluster's folder %q is still there (%v)", folder, err)
	}
}

func TestCommandHasAServer(t *testing.T) {
	t.Parallel()
	r := start(t, `echo "$ANCHOR_TEST_DATABASE_URL"; read -r line; exit 7`)
	conn, err := pgx.Connect(t.Context(), r.serverURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	r.stdin.Close()
	checkEnd(t, r, 7)
}

func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	r := start(t, `trap 'exit 42' TERM; echo "$ANCHOR_TEST_DATABASE_URL"; read -r line; exit 1`)
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	checkEnd(t, r, 42)
}

func TestCommandThatIsKilled(t *testing.T) {
	t.Parallel()
	r := start(t, `echo "$ANCHOR_TEST_DATABASE_URL"; kill -9 $$`)
	checkEnd(t, r, 128+9)
}

func TestGivenServerIsPassedOn(t *testing.T) {
	t.Parallel()
	const given = "postgres://db.example/given"
	cmd := withpostgres(t, "sh", "-c", `echo "$ANCHOR_TEST_DATABASE_URL"`)
	cmd.Env = append(cmd.Env, testdb.URLVariable+"="+given)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != given {
		t.Errorf("the command's server is %q, want %q", got, given)
	}
}

func TestExitCodesOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want int
	}{
		"no command":      {nil, 2},
		"unknown command": {[]string{"/no/such/command"}, 127},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := withpostgres(t, test.args...)
			cmd.Stderr = nil
			cmd.Env = append(cmd.Env, testdb.URLVariable+"=postgres://db.example/given")
			cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != test.want {
				t.Errorf("exit code is %d, want %d", got, test.want)
			}
		})
	}
}
