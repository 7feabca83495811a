//go:build unix

package chaos

import (
	"strings"
	"testing"
)

const mutantTries = 4

func TestEveryMutantIsCaught(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	for _, m := range Mutants {
		if m.Slow() {
			continue
		}
		t.Run(strings.ReplaceAll(m.Name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			// A mistake shows when a worker is woken at the right moment, which a busy machine may miss.
			for try := 1; ; try++ {
				caught, err := s.Try(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				if caught[m.Check] > 0 {
					t.Logf("caught by %v", caught)
					return
				}
				if try == mutantTries {
					t.Fatalf("%s was to catch it, violations by check of the last of %d tries: %v", m.Check, try, caught)
				}
			}
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
