//go:build unix

package chaos

import (
	"os/exec"
	"strings"
	"testing"
)

func TestNormalBuildHoldsNothingOfTheFaultTests(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": false, "chaos": true} {
		list := exec.Command("go", "list", "-tags", tags, "-deps", "github.com/anchor-go/anchor")
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(out), "anchor/internal/chaos"); got != want {
			t.Errorf("with tags %q, the library depends on the fault tests: %v, want %v", tags, got, want)
		}
	}
}
