package anchor

import (
	"sync"
	"sync/atomic"
)

// heldClaim counts what is not settled yet of the tasks that one claim took. A task is settled once the database has
// answered that its claim is over, for whatever reason; a task whose outcome is unsure, or that was dropped, never is.
type heldClaim struct {
	held      *heldClaims
	worker    string
	token     int64
	unsettled atomic.Int64
}

// heldClaims collects the claims that are settled, so that what the database has noted of them can be deleted there.
// It is safe for concurrent use.
type heldClaims struct {
	mu      sync.Mutex
	settled []*heldClaim
}

// add takes in what a claim has answered, before anybody else knows of it.
func (h *heldClaims) add(worker string, token int64, tasks []*claimedTask) {
	claim := &heldClaim{held: h, worker: worker, token: token}
	claim.unsettled.Store(int64(len(tasks)))
	for _, task := range tasks {
		task.claim = claim
	}
	if len(tasks) == 0 {
		h.put([]*heldClaim{claim}) // it may have noted a task that another one was faster with
	}
}

// settle counts a task once, however often it is called.
func (t *claimedTask) settle() {
	if t.claim != nil && atomic.CompareAndSwapInt32(&t.settled, 0, 1) && t.claim.unsettled.Add(-1) == 0 {
		t.claim.held.put([]*heldClaim{t.claim})
	}
}

// forgetTogether is of how many settled claims a claim deletes the notes: at rest that would be a tenth of a claim's time,
// and heartbeats do it as well.
const forgetTogether = 8

// take takes out the settled claims of a worker, to be deleted; nil where there are fewer than atLeast. Those of others,
// whom this session once was, are forgotten: whoever takes back from them deletes them.
func (h *heldClaims) take(worker string, atLeast int) (claims []*heldClaim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.settled) < atLeast {
		return nil
	}
	for _, claim := range h.settled {
		if claim.worker == worker {
			claims = append(claims, claim)
		}
	}
	h.settled = nil
	return claims
}

// put puts claims in, again if the database was not reached.
func (h *heldClaims) put(claims []*heldClaim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, claims...)
}

// tokensOf are the tokens of claims, nil for none.
func tokensOf(claims []*heldClaim) (tokens []int64) {
	for _, claim := range claims {
		tokens = append(tokens, claim.token)
	}
	return tokens
}
