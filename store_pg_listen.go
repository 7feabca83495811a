package anchor

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// callTimeout bounds every call of a worker to the database.
	callTimeout = 8 * time.Second

	// pingAfter is how long a listener hears nothing before it asks whether its connection lives.
	pingAfter = 5 * time.Second

	firstReconnect = 50 * time.Millisecond
	lastReconnect  = 5 * time.Second

	wakeupBuffer = 256
)

// A notification is a hint, so its commit need not wait for the disk.
const (
	notifyChannel = `select set_config('synchronous_commit', 'off', true), pg_notify($1::text, x.payload) from unnest($2::text[]) as x (payload)`

	queuePayload  = "q"
	cancelPayload = "c"
	cronsPayload  = "s"
)

func (s *PGStore) channel() string { return "anchor_" + s.schema }

// notify tells every worker, this process's too, that queues have something to do. A lost hint costs a poll
// interval, so errors are not reported.
func (s *PGStore) notify(queues []string) {
	s.sendNotifications(queuePayloads(queues))
}

func queuePayloads(queues []string) []string {
	payloads := make([]string, len(queues))
	for i, queue := range queues {
		payloads[i] = queuePayload + queue
	}
	return payloads
}

func (s *PGStore) notifyCancelled(id int64) {
	s.sendNotifications([]string{cancelPayload + strconv.FormatInt(id, 10)})
}

func (s *PGStore) sendNotifications(payloads []string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, _ = s.pool.Exec(ctx, notifyChannel, s.channel(), payloads)
}

// notifyIfRequested uses the primary key of slot 0.
const notifyIfRequested = `select set_config('synchronous_commit', 'off', true), pg_notify($1::text, $2::text)
from {schema}.anchor_tasks_hot where id = $3 and status = 'running' and cancel_requested`

// notifyIfCancelled is notifyCancelled for a request that may not have been committed, or never will.
func (s *PGStore) notifyIfCancelled(id int64) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, _ = s.pool.Exec(ctx, s.sql(notifyIfRequested), s.channel(), cancelPayload+strconv.FormatInt(id, 10), id)
}

func parseNotification(payload string) wakeup {
	if payload == cronsPayload {
		return wakeup{crons: true}
	}
	if id, ok := strings.CutPrefix(payload, cancelPayload); ok {
		n, _ := strconv.ParseInt(id, 10, 64)
		return wakeup{cancelled: n}
	}
	return wakeup{queue: strings.TrimPrefix(payload, queuePayload)}
}

// pgListener turns notifications into wake-ups until its context ends. It reconnects by itself, with growing,
// jittered distances, and hints at once when it is back: something may have been missed.
type pgListener struct {
	pool    *pgxpool.Pool
	channel string
	out     chan<- wakeup
}

func (l *pgListener) run(ctx context.Context) {
	wait := firstReconnect
	for ctx.Err() == nil {
		began := time.Now()
		l.listen(ctx)
		if time.Since(began) > lastReconnect {
			wait = firstReconnect
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(wait*2, lastReconnect)
	}
}

// listen holds one connection until it fails.
func (l *pgListener) listen(ctx context.Context) {
	conn, err := l.connect(ctx)
	if err != nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	l.send(wakeup{})
	for {
		waitCtx, cancel := context.WithTimeout(ctx, pingAfter)
		notification, err := conn.WaitForNotification(waitCtx)
		cancel()
		switch {
		case err == nil:
			l.send(parseNotification(notification.Payload))
		case ctx.Err() != nil, conn.IsClosed():
			return
		default:
			pingCtx, cancel := context.WithTimeout(ctx, pingAfter)
			err := conn.Ping(pingCtx)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

func (l *pgListener) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	config := l.pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{l.channel}.Sanitize()); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

func (l *pgListener) send(w wakeup) {
	select {
	case l.out <- w:
	default: // the worker has hints enough to come and look
	}
}
