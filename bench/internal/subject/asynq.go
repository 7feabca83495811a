package subject

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// asynqQueue is asynq with as many slots as this library has by default, and a short check interval: by default
// an idle server sleeps for a second.
type asynqQueue struct {
	redis  asynq.RedisClientOpt
	client *asynq.Client
	slots  int
}

const (
	asynqSlots         = 100
	asynqCheckInterval = 10 * time.Millisecond
	// asynqCallers enqueue at once where other queues have a bulk call.
	asynqCallers = 64
)

func openAsynq(spec protocol.Spec) (queue, error) {
	redis := asynq.RedisClientOpt{Network: "unix", Addr: spec.Address, PoolSize: spec.Pool}
	q := &asynqQueue{redis: redis, client: asynq.NewClient(redis), slots: asynqSlots}
	if spec.Slots > 0 {
		q.slots = spec.Slots
	}
	return q, nil
}

func (q *asynqQueue) migrate(context.Context) error { return nil }

func (q *asynqQueue) enqueue(ctx context.Context, p *protocol.Payload) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = q.client.EnqueueContext(ctx, asynq.NewTask("bench", raw))
	return err
}

func (q *asynqQueue) enqueueMany(ctx context.Context, payloads []*protocol.Payload) error {
	var callers sync.WaitGroup
	errs := make([]error, asynqCallers)
	for caller := range asynqCallers {
		callers.Go(func() {
			for i := caller; i < len(payloads) && errs[caller] == nil; i += asynqCallers {
				errs[caller] = q.enqueue(ctx, payloads[i])
			}
		})
	}
	callers.Wait()
	return errors.Join(errs...)
}

func (q *asynqQueue) enqueueTx(context.Context, *protocol.Payload) error { return errNotOffered }

func (q *asynqQueue) work(_ context.Context, h handler) (func() error, error) {
	if h.insert {
		return nil, errNotOffered
	}
	server := asynq.NewServer(q.redis, asynq.Config{
		Concurrency: q.slots, TaskCheckInterval: asynqCheckInterval, LogLevel: asynq.WarnLevel,
	})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		var p protocol.Payload
		if err := json.Unmarshal(task.Payload(), &p); err != nil {
			return err
		}
		h.handle(&p)
		return nil
	}))
	return func() error { server.Shutdown(); return nil }, err
}

func (q *asynqQueue) close() { _ = q.client.Close() }
