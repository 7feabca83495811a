package anchor

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstClaimBackoff = 50 * time.Millisecond
	lastClaimBackoff  = 2 * time.Second
	// claimGrace is how long a claim or a tick may still take once the worker is told to stop.
	claimGrace = time.Second
)

// fetch claims tasks until ctx is done. It looks when a hint came, when the last claim left some behind, and once a
// poll interval at everything; and only while there is room.
func (w *worker) fetch(ctx context.Context) {
	poll := time.NewTimer(0)
	defer poll.Stop()
	soon := time.NewTimer(time.Hour)
	defer soon.Stop()
	// A claim that is cut may have been committed: its tasks would count an attempt that never started.
	claims, cancelClaims := endsAfter(ctx, claimGrace)
	defer cancelClaims()
	req := claimRequest{names: w.names, queues: w.options.queues}
	backoff := time.Duration(0)
	interval := w.options.pollInterval
	nextPoll := rand.N(interval) // workers that start together do not poll together for ever
	look, left := false, false   // to look now; that tasks were left which need room
	for ctx.Err() == nil {
		if look {
			if req.limit, req.firstHand = w.intake.capacity(); req.limit > 0 {
				found, err := w.session.claim(claims, req)
				if err != nil {
					backoff = w.claimFailed(ctx, err, backoff)
					continue
				}
				backoff = 0
				req.hinted, req.sweep = nil, false
				w.start(found.tasks)
				left = found.more
				look = left && len(found.tasks) > 0
				if found.again > 0 {
					soon.Reset(found.again)
				}
				if look {
					continue
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case hint := <-w.session.wakeups():
			switch {
			case hint.cancelled != 0:
				w.running.cancelTask(hint.cancelled)
			case hint.crons:
				w.ticker.look()
			case hint.queue == "":
				look, req.sweep = true, true
			default:
				look, req.hinted = true, addQueue(req.hinted, hint.queue)
			}
		case <-w.intake.room:
			look = look || left
		case <-soon.C:
			look = true
		case <-poll.C:
			look, req.sweep = true, true
			poll.Reset(nextPoll)
			nextPoll = interval - interval/10 + rand.N(interval/5)
		}
	}
}

// endsAfter is a context that ends a while after ctx does.
func endsAfter(ctx context.Context, grace time.Duration) (late context.Context, cancel context.CancelFunc) {
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			end()
		case <-late.Done():
		}
	})
	return late, func() {
		stop()
		end()
	}
}

// claimFailed waits a while, and answers how long to wait if it fails again.
func (w *worker) claimFailed(ctx context.Context, err error, backoff time.Duration) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	w.trouble("claiming failed, trying again", err)
	backoff = min(max(2*backoff, firstClaimBackoff), lastClaimBackoff)
	select {
	case <-ctx.Done():
	case <-time.After(backoff/2 + rand.N(backoff/2)):
	}
	return backoff
}

// start hands tasks to executors, or back when the worker is shutting down.
func (w *worker) start(tasks []*claimedTask) {
	if len(tasks) > 0 && !w.intake.put(tasks) {
		for _, task := range tasks {
			w.giveBack(task)
		}
	}
}
