package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// readSample takes a sample only when the one that is kept is too old and no other worker is at it.
const readSample = `select source::text, sampled_at, sample::text from {schema}.anchor_sample($1::bigint, $2::text[]) where sampled_at > '-infinity'`

// keptSample is a sample as the database keeps it, durations in seconds.
type keptSample struct {
	Queues []struct {
		Queue     string  `json:"queue"`
		Ready     int64   `json:"ready"`
		Scheduled int64   `json:"scheduled"`
		Running   int64   `json:"running"`
		Oldest    float64 `json:"oldest"`
	} `json:"queues"`
	OldestTransaction float64 `json:"oldestTransaction"`
}

func (p *pgSession) sample(ctx context.Context, maxAge time.Duration, queues []string) (*depthSample, error) {
	var sample depthSample
	var text string
	err := p.pool.QueryRow(ctx, p.store.sql(readSample), maxAge.Microseconds(), queues).Scan(&sample.source, &sample.at, &text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	var kept keptSample
	if err == nil {
		err = json.Unmarshal([]byte(text), &kept)
	}
	if err != nil {
		return nil, storeError("sample the depth of the queues", err)
	}
	for _, q := range kept.Queues {
		sample.queues = append(sample.queues, queueDepth{
			queue: q.Queue, ready: q.Ready, scheduled: q.Scheduled, running: q.Running, oldest: seconds(q.Oldest),
		})
	}
	sample.oldestTransaction = seconds(kept.OldestTransaction)
	return &sample, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
