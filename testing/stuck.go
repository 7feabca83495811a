package anchortest

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// stuckAfter is how long, in real time, the harness waits for goroutines of its bubble that wait for I/O.
const stuckAfter = 30 * time.Second

// rest counts the waits of the harness for its bubble to come to rest: odd while one is under way.
type rest struct{ waits atomic.Int64 }

// guard ends the process when a wait cannot end: synctest waits for ever for a goroutine that does I/O. It is started
// outside of the bubble, whose name bubble answers, and returns what stops it.
func (r *rest) guard(bubble func() string, after time.Duration) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		ticker := time.NewTicker(after / 4)
		defer ticker.Stop()
		var seen int64
		var since time.Time
		for {
			select {
			case <-stopped:
				return
			case <-ticker.C:
			}
			waits := r.waits.Load()
			if waits != seen || waits%2 == 0 {
				seen, since = waits, time.Now()
				continue
			}
			if time.Since(since) < after {
				continue
			}
			if waiting := waitingForIO(leftIn(bubble())); waiting != "" {
				panic(fmt.Sprintf("anchortest: in virtual time nothing may wait for the network or another process, but these goroutines do "+
					"(idle connections of net/http count, too: give the client a RoundTripper of the test's, or take RunPostgres):\n%s", waiting))
			}
		}
	}()
	return func() { close(stopped) }
}

// waitingForIO are those goroutines of a trace that wait for something outside of the process.
func waitingForIO(trace string) string {
	var waiting strings.Builder
	for goroutine := range strings.SplitSeq(trace, "\n\n") {
		if header, _, _ := strings.Cut(goroutine, "\n"); strings.Contains(header, "[IO wait") || strings.Contains(header, "[syscall") {
			waiting.WriteString(goroutine + "\n\n")
		}
	}
	return waiting.String()
}
