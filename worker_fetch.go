package anchor

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstClaimBackoff = 50 * time.Millisecond
	lastClaimBackoff  = 2 * time.Second
	// claimGrace is how long a claim may still take once the worker is told to stop.
	claimGrace = time.Second
)

// fetch claims tasks until ctx is done. It looks when a hint came, when the last claim left some behind, and once a
// poll interval from the beginning; and only while there is room.
func (w *worker) fetch(ctx context.Context) {
	poll := time.NewTimer(0)
	defer poll.Stop()
	soon := time.NewTimer(time.Hour)
	defer soon.Stop()
	look, sweep := false, false
	claims, cancelClaims := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelClaims()
	// A claim that is cut may have been committed: its tasks would count an attempt that never started.
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(claimGrace):
			cancelClaims()
		case <-claims.Done():
		}
	})()
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		if look {
			if limit, firstHand := w.intake.capacity(sweep); limit > 0 {
				tasks, again, err := w.session.claim(claims, claimRequest{
					names: w.names, queues: w.options.queues, limit: limit, firstHand: firstHand, sweep: sweep,
				})
				if err != nil {
					backoff = w.claimFailed(ctx, err, backoff)
					continue
				}
				backoff, sweep = 0, false
				w.start(tasks)
				look = len(tasks) >= limit
				if again > 0 {
					soon.Reset(again)
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
			default:
				look = true
			}
		case <-w.intake.room:
		case <-soon.C:
			look = true
		case <-poll.C:
			look, sweep = true, true
			interval := w.options.pollInterval
			poll.Reset(interval - interval/10 + rand.N(interval/5))
		}
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
