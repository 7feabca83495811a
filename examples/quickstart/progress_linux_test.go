package main_test

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/anchor-go/anchor/internal/testprogram"
)

// TestProgressBarOnTerminal runs the program under the pseudo-terminal of script (util-linux).
func TestProgressBarOnTerminal(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "script", "-q", "-e", "-c", testprogram.Path+" -n 2000", "/dev/null").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stdout := string(out)
	checkLife(t, stdout)
	if !regexp.MustCompile(`\r  \[#{40}\] 100% 2000 of 2000 tasks, \d+ tasks/s\x1b\[K\r\n`).MatchString(stdout) {
		t.Errorf("no full bar in:\n%q", stdout)
	}
}
