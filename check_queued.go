package anchor

import (
	"context"
	"fmt"
)

const checkQueuedPage = 1000

// CheckQueued counts the pending tasks, by name, whose stored parameters today's types forbid: those that would fail
// for good when their turn comes, unless the code learns of them ([WithUpcaster]; what it mends counts as good). Names
// with none are left out, so that an empty map says that all is well. Tasks that are not registered with the client
// are not looked at. It reads all pending tasks, in pages, and holds one page at a time; tasks that come or go
// meanwhile may be missed.
func (c *Client) CheckQueued(ctx context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	query := TaskQuery{Status: []Status{StatusPending}, Limit: checkQueuedPage}
	for {
		tasks, err := c.store.tasks(ctx, query)
		if err != nil {
			return nil, fmt.Errorf("anchor: CheckQueued: %w", err)
		}
		for _, task := range tasks {
			registered, ok := c.tasks[task.Name]
			if !ok {
				continue
			}
			if _, err := registered.load(task.Params); err != nil {
				counts[task.Name]++
			}
		}
		if len(tasks) < query.Limit {
			return counts, nil
		}
		query.Before = tasks[len(tasks)-1].ID
	}
}
