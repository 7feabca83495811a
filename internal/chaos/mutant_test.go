//go:build unix

package chaos

import (
	"context"
	"strings"
	"testing"

	"github.com/anchor-go/anchor/internal/chaos/pause"
)

const mutantTries = 2

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

// TestPointIsReachedThoughTheFirstTasksDoNotLeadThere: those have been through when a worker is slow.
func TestPointIsReachedThoughTheFirstTasksDoNotLeadThere(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	var found tally
	err := s.inScene(t.Context(), s.ground, "late_point", &found, func(c *scene) error {
		return c.strike(t.Context(), strikeRule{pause.Rule{Point: "before-handler", Action: pause.Error, Attempt: 1, Skip: 30}, 1}, &found)
	})
	if err != nil || len(found.violations) > 0 || found.runs != 1 {
		t.Errorf("%d runs, violations %v, error %v", found.runs, found.violations, err)
	}
}

func TestScenesOfMutantsFindNothingInTheLibrary(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	for name, harm := range map[string]func(ctx context.Context, s *Suite, n int, t *tally) error{
		"calm": calm, "give_back": giveBack, "late_tick": lateTick, "stop": stopAt("before-commit", Write),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var found tally
			if err := harm(t.Context(), s, 1, &found); err != nil || len(found.violations) > 0 {
				t.Errorf("violations %v, error %v", found.violations, err)
			}
		})
	}
}
