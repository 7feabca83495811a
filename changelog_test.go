package anchor_test

import (
	"strings"
	"testing"
)

// TestChangelogGivesEachDependencysReason: a direct dependency of go.mod needs a line "- path (licence): reason".
func TestChangelogGivesEachDependencysReason(t *testing.T) {
	t.Parallel()
	_, reasons, found := strings.Cut(readText(t, "CHANGELOG.md"), "### Dependencies\n")
	if !found {
		t.Fatal("CHANGELOG.md has no section Dependencies")
	}
	direct := 0
	for line := range strings.Lines(readText(t, "go.mod")) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) != 2 || !strings.HasPrefix(fields[1], "v") {
			continue // no requirement, or an indirect one
		}
		direct++
		if !strings.Contains(reasons, "\n- "+fields[0]+" (") {
			t.Errorf("go.mod requires %s, for which CHANGELOG.md gives no reason", fields[0])
		}
	}
	if direct == 0 {
		t.Error("found no dependency in go.mod")
	}
}
