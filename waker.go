package anchor

import (
	"sync"
	"time"
)

// wakeInterval is the least distance between two notifications of one store.
const wakeInterval = 5 * time.Millisecond

// wakeLaterDelays are when hints follow an enqueue inside a transaction whose end nobody tells us.
var wakeLaterDelays = [...]time.Duration{2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond}

// waker sends hints that queues have something to do, coalesced over all callers: at most one notification an
// interval, and always one after the last call. It has a goroutine only while there is something to send.
type waker struct {
	send func(queues []string)

	mu      sync.Mutex
	pending map[string]struct{}
	sending bool
	later   [len(wakeLaterDelays)]laterHints
}

// laterHints are the queues that a timer of one delay has taken on, and those that came since.
type laterHints struct {
	armed         bool
	taken, coming map[string]struct{}
}

func newWaker(send func(queues []string)) *waker {
	return &waker{send: send, pending: map[string]struct{}{}}
}

// wake sends a hint for queues soon.
func (w *waker) wake(queues []string) {
	if len(queues) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, queue := range queues {
		w.pending[queue] = struct{}{}
	}
	if !w.sending {
		w.sending = true
		go w.run()
	}
}

// lead makes the caller the one who sends, if nobody is: he is about to send hints of his own, and those of others follow
// an interval later, whatever keeps him.
func (w *waker) lead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sending {
		return false
	}
	w.sending = true
	time.AfterFunc(wakeInterval, w.run)
	return true
}

func (w *waker) run() {
	for {
		w.mu.Lock()
		if len(w.pending) == 0 {
			w.sending = false
			w.mu.Unlock()
			return
		}
		queues := make([]string, 0, len(w.pending))
		for queue := range w.pending {
			queues = append(queues, queue)
		}
		clear(w.pending)
		w.mu.Unlock()
		w.send(queues)
		time.Sleep(wakeInterval)
	}
}

// wakeLater sends hints for queues at growing distances. Calls that fall together share the timers.
func (w *waker) wakeLater(queues []string) {
	if len(queues) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for stage := range w.later {
		hints := &w.later[stage]
		if hints.coming == nil {
			hints.coming = map[string]struct{}{}
		}
		for _, queue := range queues {
			hints.coming[queue] = struct{}{}
		}
		w.arm(stage)
	}
}

// arm starts the timer of a stage unless it runs. The caller holds mu.
func (w *waker) arm(stage int) {
	hints := &w.later[stage]
	if hints.armed || len(hints.coming) == 0 {
		return
	}
	hints.armed = true
	hints.taken, hints.coming = hints.coming, nil
	time.AfterFunc(wakeLaterDelays[stage], func() { w.fire(stage) })
}

func (w *waker) fire(stage int) {
	w.mu.Lock()
	hints := &w.later[stage]
	queues := make([]string, 0, len(hints.taken))
	for queue := range hints.taken {
		queues = append(queues, queue)
	}
	hints.armed, hints.taken = false, nil
	w.arm(stage)
	w.mu.Unlock()
	w.wake(queues)
}
