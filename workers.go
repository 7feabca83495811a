package anchor

import (
	"context"
	"slices"
	"time"
)

// WorkerInfo is one worker, which is one call of [Client.Work], as it was when it was read.
type WorkerInfo struct {
	ID   string `json:"id"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// Slots is how many handlers it may run at once, Held how many tasks it has: running, or about to. More than
	// 10,000 are not counted.
	Slots int `json:"slots"`
	Held  int `json:"held"`
	// Tasks are the names that it has handlers for, in order.
	Tasks []string `json:"tasks"`
	// Queues are those that it works on. Empty is every one.
	Queues    []string  `json:"queues,omitzero"`
	StartedAt time.Time `json:"startedAt"`
	// LeaseUntil is when others may take its tasks unless it renews its lease before, which it does every third of it.
	LeaseUntil time.Time `json:"leaseUntil"`
	// Alive is false of a worker whose lease is over: it crashed, stands still, or has lost the database. It is
	// forgotten soon after others have taken its tasks.
	Alive bool `json:"alive"`
}

// Takes tells whether the worker claims tasks of that name from that queue, as long as it is alive.
func (w *WorkerInfo) Takes(task, queue string) bool {
	return slices.Contains(w.Tasks, task) && (len(w.Queues) == 0 || slices.Contains(w.Queues, queue))
}

// Workers returns the workers of every process, those that have signed off excepted, oldest first.
func (c *Client) Workers(ctx context.Context) ([]*WorkerInfo, error) {
	return c.store.workerInfos(ctx)
}
