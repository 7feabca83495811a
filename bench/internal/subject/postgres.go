package subject

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

var errNotOffered = errors.New("this library does not offer that")

// newPool is pgxpool's own default but for the size, which is the spec's where it says one.
func newPool(ctx context.Context, spec protocol.Spec) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(spec.Address)
	if err != nil {
		return nil, fmt.Errorf("the database's URL: %w", err)
	}
	if spec.Pool > 0 {
		config.MaxConns = int32(spec.Pool)
	}
	return pgxpool.NewWithConfig(ctx, config)
}
