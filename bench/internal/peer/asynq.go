package peer

import "github.com/hibiken/asynq"

// asynqUnfinished asks the queue's own counters.
func asynqUnfinished(socket string) (bool, error) {
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Network: "unix", Addr: socket})
	defer inspector.Close()
	info, err := inspector.GetQueueInfo("default")
	if err != nil {
		return false, err
	}
	return info.Pending+info.Active+info.Scheduled+info.Retry > 0, nil
}
