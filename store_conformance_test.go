package anchor_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/conformance"
)

// violated are the rules that a store breaks, each tried on a store of its own and in virtual time.
func violated(t *testing.T, newStore func() anchor.Store) []string {
	t.Helper()
	var names []string
	for _, c := range conformance.Cases() {
		synctest.Test(t, func(t *testing.T) {
			if failures := c.Run(t.Context(), newStore(), time.Minute); len(failures) > 0 {
				names = append(names, c.Name)
			}
		})
	}
	return names
}

func TestConformanceFindsBrokenStores(t *testing.T) {
	t.Parallel()
	caughtBy := map[string][]string{
		"none":                  {},
		"forgets unique tags":   {"tag-is-held", "tag-across-tasks", "tag-race", "forever-tag-outlives-its-task"},
		"enqueues outside tx":   {"tx-rollback", "tx-is-isolated", "tx-savepoint", "tag-rolled-back", "handler-tx-of-a-failure"},
		"outlives a cut-off":    {"tx-cut-off"},
		"outlives a deadlock":   {"tx-deadlock"},
		"no guard by the claim": {"claim-over-success"},
		"retries at once":       {"retry-distance", "retry-after"},
		"hook of its own":       {"hook-fails", "hook-panics"},
		"claims again":          {"each-task-once"},
		"ignores pauses":        {"pause", "stats-pause"},
		"drops errors":          {"retry", "max-attempts", "panic"},
	}
	for name, newStore := range anchor.BrokenStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, known := caughtBy[name]
			if !known {
				t.Fatal("nobody says which rules this store breaks")
			}
			got := violated(t, newStore)
			t.Logf("it breaks the rules %q", got)
			if len(want) == 0 && len(got) > 0 {
				t.Errorf("a store without a mistake breaks the rules %q", got)
			}
			for _, rule := range want {
				if !slices.Contains(got, rule) {
					t.Errorf("the rule %s was not found to be broken", rule)
				}
			}
		})
	}
}
