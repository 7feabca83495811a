package anchor

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sentHints records when which hints were sent, as "5ms a b". Tests run in a synctest bubble, which fails if a
// goroutine is left behind.
type sentHints struct {
	began time.Time
	takes time.Duration

	mu   sync.Mutex
	sent []string
}

func newSentHints() *sentHints { return &sentHints{began: time.Now()} }

func (s *sentHints) send(queues []string) {
	slices.Sort(queues)
	s.mu.Lock()
	s.sent = append(s.sent, time.Since(s.began).String()+" "+strings.Join(queues, " "))
	s.mu.Unlock()
	time.Sleep(s.takes)
}

// want lets all that is to come happen and compares.
func (s *sentHints) want(t *testing.T, want ...string) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Errorf("hints (-want +got):\n%s", diff)
	}
}

func TestWakerCoalesces(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		w := newWaker(sent.send)
		w.wake([]string{"a"})
		synctest.Wait()
		for range 1000 {
			w.wake([]string{"b", "a"})
			w.wake([]string{"c"})
		}
		sent.want(t, "0s a", "5ms a b c")
	})
}

// The last call is always followed by a hint, also when it falls into one that is on its way.
func TestWakerTrailingEdge(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		sent.takes = 3 * time.Millisecond
		w := newWaker(sent.send)
		w.wake([]string{"a"})
		time.Sleep(time.Millisecond) // while it is sent
		w.wake([]string{"a"})
		time.Sleep(6 * time.Millisecond) // in the interval after that
		w.wake([]string{"b"})
		sent.want(t, "0s a", "8ms a b")
	})
}

func TestWakerKeepsItsDistance(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		w := newWaker(sent.send)
		for range 12 {
			w.wake([]string{"a"})
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		sent.want(t, "0s a", "5ms a", "10ms a", "15ms a")
	})
}

func TestWakerHasNothingToSend(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		w := newWaker(sent.send)
		w.wake(nil)
		w.wakeLater(nil)
		sent.want(t)
	})
}

func TestWakerLater(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		w := newWaker(sent.send)
		w.wakeLater([]string{"a"})
		sent.want(t, "2ms a", "10ms a", "50ms a", "250ms a")
	})
}

// Whoever leads may be kept by a lock, the disk or a dead connection: the hints of others do not wait for him.
func TestWakerDoesNotWaitForWhoLeads(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		w := newWaker(sent.send)
		if !w.lead() || w.lead() {
			t.Error("not one leads")
		}
		w.wake([]string{"a"})
		time.Sleep(7 * time.Millisecond)
		w.wake([]string{"b"})
		sent.want(t, "5ms a", "10ms b")
		if !w.lead() {
			t.Error("nobody leads any more")
		}
		sent.want(t, "5ms a", "10ms b")
	})
}

// A timer that runs already is too early for a later call: it gets one that starts when that has fired.
func TestWakerLaterTrailingEdge(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sent := newSentHints()
		w := newWaker(sent.send)
		w.wakeLater([]string{"a"})
		time.Sleep(35 * time.Millisecond)
		w.wakeLater([]string{"b"})
		sent.want(t, "2ms a", "10ms a", "37ms b", "45ms b", "50ms a", "100ms b", "250ms a", "500ms b")
	})
}
