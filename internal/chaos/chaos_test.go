//go:build unix

package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// theSuite is started by the first test that needs it, and ends with the process.
var theSuite = sync.OnceValues(func() (*Suite, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := Start(ctx, 4, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err == nil {
		s.busy = 2 * time.Second // the tests of other packages run beside these
	}
	return s, err
})

func suiteOf(t *testing.T) *Suite {
	t.Helper()
	s, err := theSuite()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPromisesHoldUnderEveryFault(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	for _, fault := range Matrix {
		t.Run(strings.ReplaceAll(fault.Name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			result := s.Run(t.Context(), fault, fault.Tier)
			if result.Err != nil {
				t.Error(result.Err)
			}
			if result.Runs < fault.Tier {
				t.Errorf("%d %s, want %d", result.Runs, fault.Unit, fault.Tier)
			}
			for _, violation := range result.Violations {
				t.Error(violation)
			}
			t.Logf("%d %s, %d tasks, slowest recovery %v, took %v", result.Runs, fault.Unit, result.Tasks, result.Slowest, result.Took)
		})
	}
}
