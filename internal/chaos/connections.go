//go:build unix

package chaos

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// killBackend ends a process of a server by SIGKILL.
func killBackend(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

// adminOf is a connection to the server of a ground, to no scene's database.
func adminOf(ctx context.Context, g *ground) (*pgx.Conn, error) {
	return pgx.Connect(ctx, g.cluster.URL())
}

type connections []*pgx.Conn

func (c connections) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, conn := range c {
		_ = conn.Close(ctx)
	}
}

// holdConnections opens connections until the server refuses, lets free give others up, and takes those too.
func holdConnections(ctx context.Context, url string, free func() error) (connections, error) {
	var held connections
	for round := range 20 {
		for {
			conn, err := pgx.Connect(ctx, url)
			var refused *pgconn.PgError
			if errors.As(err, &refused) && refused.Code == "53300" {
				break
			}
			if err != nil {
				return held, err
			}
			held = append(held, conn)
		}
		if round%5 == 0 {
			if err := free(); err != nil {
				return held, err
			}
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return held, err
		}
	}
	return held, nil
}
