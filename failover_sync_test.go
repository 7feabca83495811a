//go:build failover

package anchor

import (
	"testing"
	"time"
)

// Not a part of make test: now and then a run finds tasks that have not ended within a minute, for a reason that is not
// known yet. docs/reliability.md says so.
func TestSynchronousFailoverLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	acknowledged, unknown, lost := 0, 0, 0
	var slowest time.Duration
	count := rounds(t, 2)
	for range count {
		f := newFailover(t, true)
		f.run()
		if f.lost > 0 {
			t.Errorf("%d acknowledged tasks are lost", f.lost)
		}
		acknowledged, unknown, lost = acknowledged+len(f.acknowledged), unknown+len(f.unknown), lost+f.lost
		slowest = max(slowest, f.recovery)
		f.close()
	}
	t.Logf("synchronous failover: %d rounds, %d acknowledged, %d lost, %d of unknown outcome, slowest recovery %v",
		count, acknowledged, lost, unknown, slowest.Round(time.Millisecond))
}
