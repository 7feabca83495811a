package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchor-go/anchor/internal/testdb"
)

// runLimit is for a machine that does much else.
const runLimit = 2 * time.Minute

var program string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(folder, "quickstart")
	code := 1
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// start runs the program to its end.
func start(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func wantRun(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := start(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr:\n%s\nstdout:\n%s", code, stderr, stdout)
	}
	return stdout
}

// life is what every run tells, in this order within a task; lines of different tasks mix.
var life = [][]string{
	{
		`task \d+ SendWelcomeEmail: enqueued in one transaction with its user, ada@example.com`,
		`task \d+ SendWelcomeEmail: attempt 1 of at most 5 runs`,
		`task \d+ SendWelcomeEmail: completed`,
	},
	{
		`task \d+ SendWelcomeEmail: attempt 1 failed: the mail server is busy`,
		`log: WARN anchor: an attempt failed id=\d+ task=SendWelcomeEmail attempt=1`,
		`task \d+ SendWelcomeEmail: attempt 2 of at most 5 runs`,
		`task \d+ SendWelcomeEmail: completed`,
	},
	{
		`task \d+ ChargeCard: enqueued`,
		`task \d+ ChargeCard: attempt 1 failed: the bank declined the card`,
		`log: ERROR anchor: a task failed for good id=\d+ task=ChargeCard attempt=1`,
		`task \d+ ChargeCard: the hook runs, because the bank declined the card: it suspends the user`,
		`task \d+ ChargeCard: failed`,
	},
	{
		`rolled back a sign-up: there is neither its user nor its task`,
		`task \d+ SendFollowUp: enqueued, due in a second, with a unique tag`,
		`refused a second follow-up: task \d+ has its tag`,
		`  1\.\d+s  task \d+ SendFollowUp: attempt 1|  [2-9]\.\d+s  task \d+ SendFollowUp: attempt 1`,
		`task \d+ SendFollowUp: completed`,
	},
}

const summary = `Summary.
  7 tasks: 6 completed, 1 failed for good, in 8 attempts
  user ada@example.com: welcomed true, suspended false
  user grace@example.com: welcomed true, suspended false
  user mallory@example.com: welcomed true, suspended true
`

func checkLife(t *testing.T, stdout string) {
	t.Helper()
	for _, lines := range life {
		rest := stdout
		for _, line := range lines {
			at := regexp.MustCompile(`(?m)` + line).FindStringIndex(rest)
			if at == nil {
				t.Errorf("no line %q after those before it in:\n%s", line, stdout)
				break
			}
			rest = rest[at[1]:]
		}
	}
	if !strings.HasSuffix(strings.ReplaceAll(stdout, "\r\n", "\n"), summary) {
		t.Errorf("the summary is not\n%s\nin:\n%s", summary, stdout)
	}
	if n := strings.Count(stdout, "the hook runs"); n != 1 {
		t.Errorf("the hook ran %d times", n)
	}
}

func TestInMemory(t *testing.T) {
	t.Parallel()
	checkLife(t, wantRun(t))
}

func TestOnPostgreSQLAgainAndTogether(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	checkLife(t, wantRun(t, "-database-url", url))

	// Two at a time share their workers, so what each tells is not known; that both end well is.
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			stdout, stderr, code := start(t, "-database-url", url, "-n", "500")
			if code != 0 || !strings.HasSuffix(stdout, summary) {
				t.Errorf("exit code %d, stderr:\n%s\nstdout:\n%s", code, stderr, stdout)
			}
		})
	}
	both.Wait()
}

func TestManyTasksInPlainLines(t *testing.T) {
	t.Parallel()
	for _, store := range []struct {
		name string
		args func(t *testing.T) []string
	}{
		{"memory", func(*testing.T) []string { return nil }},
		{"postgresql", func(t *testing.T) []string { return []string{"-database-url", testdb.New(t)} }},
	} {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			stdout := wantRun(t, append(store.args(t), "-n", "2000")...)
			checkLife(t, stdout)
			if !regexp.MustCompile(`(?m)^2000 tasks more\.\n(  \d+ of 2000 tasks, \d+ tasks/s\n)*  2000 of 2000 tasks, \d+ tasks/s\nSummary`).MatchString(stdout) {
				t.Errorf("no plain progress in:\n%s", stdout)
			}
			if strings.ContainsAny(stdout, "\r\x1b") {
				t.Errorf("a terminal's codes in:\n%q", stdout)
			}
		})
	}
}

// TestMoreThanTheMemoryStoreKeeps: the summary asked for tasks that the store had dropped for newer ones.
func TestMoreThanTheMemoryStoreKeeps(t *testing.T) {
	t.Parallel()
	checkLife(t, wantRun(t, "-n", "120000"))
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-x"}, 2, `flag provided but not defined: -x`},
		{[]string{"-n", "many"}, 2, `invalid value "many" for flag -n: parse error`},
		{[]string{"-n", "-1"}, 2, `-n -1 is not between 0 and 10000000`},
		{[]string{"more"}, 2, `unexpected argument "more"`},
		{[]string{"-database-url", "postgres://user:secret@::bad"}, 1, `-database-url: cannot parse .*invalid port`},
		{[]string{"-database-url", "postgres://user:secret@127.0.0.1:1/none"}, 1, `-database-url: .*127\.0\.0\.1:1.*refused`},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := start(t, test.args...)
			if code != test.code || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q", code, test.code, stdout)
			}
			if !regexp.MustCompile(`^quickstart: ` + test.want + `[^\n]*\n$`).MatchString(stderr) {
				t.Errorf("stderr %q, want the one line %q", stderr, test.want)
			}
			if strings.Contains(stderr, "secret") {
				t.Errorf("stderr tells the password: %q", stderr)
			}
		})
	}
}
