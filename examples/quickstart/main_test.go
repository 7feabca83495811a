package main_test

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/anchor-go/anchor/internal/testdb"
	"github.com/anchor-go/anchor/internal/testprogram"
)

func TestMain(m *testing.M) { os.Exit(testprogram.Main(m, "quickstart")) }

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
	checkLife(t, testprogram.Succeed(t))
}

func TestOnPostgreSQLAgainAndTogether(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	checkLife(t, testprogram.Succeed(t, "-database-url", url))

	// Two at a time share their workers, so what each tells is not known, nor whether a task of the other's begins behind its
	// summary; that both end well is.
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			o := testprogram.Start(t, "-database-url", url, "-n", "500")
			if o.Code != 0 || !strings.Contains(o.Stdout, summary) {
				t.Errorf("exit code %d, stderr:\n%s\nstdout:\n%s", o.Code, o.Stderr, o.Stdout)
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
			stdout := testprogram.Succeed(t, append(store.args(t), "-n", "2000")...)
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
	checkLife(t, testprogram.Succeed(t, "-n", "120000"))
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
			o := testprogram.Start(t, test.args...)
			if o.Code != test.code || o.Stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q", o.Code, test.code, o.Stdout)
			}
			if !regexp.MustCompile(`^quickstart: ` + test.want + `[^\n]*\n$`).MatchString(o.Stderr) {
				t.Errorf("stderr %q, want the one line %q", o.Stderr, test.want)
			}
			if strings.Contains(o.Stderr, "secret") {
				t.Errorf("stderr tells the password: %q", o.Stderr)
			}
		})
	}
}
