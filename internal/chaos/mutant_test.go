//go:build unix

package chaos

import (
	"strings"
	"testing"
)

func TestEveryMutantIsCaught(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	for _, m := range Mutants {
		if m.Slow() {
			continue
		}
		t.Run(strings.ReplaceAll(m.Name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			caught, err := s.Try(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if caught[m.Check] == 0 {
				t.Errorf("%s was to catch it, violations by check: %v", m.Check, caught)
			}
			t.Logf("caught by %v", caught)
		})
	}
}

func TestEveryMutantAppliesToTheSource(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	for _, m := range Mutants {
		if _, err := s.overlay(t.TempDir(), m.edits); err != nil {
			t.Errorf("mutant %q: %v", m.Name, err)
		}
	}
}
