package anchor

import (
	"context"
	"time"
)

// lostToken is the token of a claim whose answer never came. Its statement may have been committed, or may be
// even now: then tasks run in this worker's name of which it does not know.
type lostToken struct {
	worker  string
	token   int64
	claimed bool // by a claim; else by taking back
	since   time.Time
}

// lostTokenAge is how long a statement without an answer is thought able to commit still.
const lostTokenAge = 10 * time.Minute

func (p *pgSession) remember(t lostToken) {
	t.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = append(p.lost, t)
}

const disownTasks = `select {schema}.anchor_disown($1::uuid, $2::bigint, $3::boolean)`

// disownLost gives back what lost tokens hold: it is due again, with its attempt not counted.
func (p *pgSession) disownLost(ctx context.Context) error {
	p.mu.Lock()
	lost := p.lost
	p.mu.Unlock()
	for _, t := range lost {
		if _, err := p.pool.Exec(ctx, p.store.sql(disownTasks), t.worker, t.token, t.claimed); err != nil && !isConflict(err) {
			return storeError("give back tasks of a lost claim", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.lost[:0]
	for _, t := range p.lost {
		if time.Since(t.since) < lostTokenAge {
			kept = append(kept, t)
		}
	}
	p.lost = kept
	return nil
}
