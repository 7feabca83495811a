package anchortest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stuck makes TestStuckBubble do what it is about, in a process of its own.
const stuck = "ANCHORTEST_STUCK"

// TestStuckBubble: a harness waits for its bubble to come to rest, where a goroutine waits for the network.
func TestStuckBubble(t *testing.T) {
	if os.Getenv(stuck) != "" {
		waitForever(t)
	}
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStuckBubble$")
	child.Env = append(os.Environ(), stuck+"=1")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("the process ended with %v, want exit code 2", err)
	}
	text, _, _ := strings.Cut(string(out), "\n\ngoroutine ") // what the runtime adds to a panic
	for _, want := range []string{"nothing may wait for the network", "RoundTripper", "net.(*TCPListener).Accept"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if strings.Contains(text, "waitsForNothing") {
		t.Errorf("a goroutine is named that waits for no I/O:\n%s", text)
	}
}

func waitsForNothing(never chan int) { <-never }

func waitForever(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &Harness{atRest: new(rest)}
	var bubble atomic.Value
	bubble.Store("")
	defer h.atRest.guard(func() string { return bubble.Load().(string) }, 100*time.Millisecond)()
	synctest.Test(t, func(*testing.T) {
		bubble.Store(ownBubble())
		go waitsForNothing(make(chan int))
		go func() { _, _ = listener.Accept() }()
		h.settle()
	})
}
