package anchortest

import (
	"testing"
	"time"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/conformance"
)

const (
	storePatience = 60 * time.Second
	// storeCases bounds how many cases run at once: each may have two workers with their connections.
	storeCases = 8
)

// TestStore runs the contract of a store as subtests of t, one for each rule, through the public API. A rule that is
// broken fails its subtest, which prints the rule. newStore is called once, with t; its store is migrated here. It
// may hold other tasks, and belong to a database that others use.
func TestStore(t *testing.T, newStore func(t *testing.T) anchor.Store) {
	t.Helper()
	store := newStore(t)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatalf("anchortest: Migrate: %v", err)
	}
	room := make(chan struct{}, storeCases)
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			// Cases wait rather than compute: more run at once than there are parallel tests.
			ran := make(chan []string, 1)
			go func() {
				room <- struct{}{}
				defer func() { <-room }()
				ran <- c.Run(t.Context(), store, storePatience)
			}()
			t.Parallel()
			failures := <-ran
			if len(failures) > 0 {
				t.Errorf("the rule: %s", c.Explanation)
			}
			for _, failure := range failures {
				t.Error(failure)
			}
		})
	}
}
