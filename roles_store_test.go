package anchor

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// RoleStore is a store whose calls go through a pool of the least role that docs/security.md has for them.
type RoleStore struct {
	Store    // the worker's
	enqueuer *PGStore
	reader   *PGStore
}

// NewRoleStore makes a store of three. The login of enqueuer acts as the role asEnqueuer and may become asWorker: in
// its transactions what only a worker may do is done as that.
func NewRoleStore(enqueuer, worker, reader *PGStore) *RoleStore {
	return &RoleStore{Store: worker, enqueuer: enqueuer, reader: reader}
}

const (
	asEnqueuer = "set local role anchor_enqueue"
	asWorker   = "set local role anchor_worker"
)

// Begin starts a transaction of the enqueuer.
func (s *RoleStore) Begin(ctx context.Context) (pgx.Tx, error) { return s.enqueuer.pool.Begin(ctx) }

func (s *RoleStore) enqueue(ctx context.Context, tasks []*newTask) error {
	return s.enqueuer.enqueue(ctx, tasks)
}

func (s *RoleStore) enqueueTx(ctx context.Context, tx pgx.Tx, tasks []*newTask) error {
	return s.enqueuer.enqueueTx(ctx, tx, tasks)
}

func (s *RoleStore) releaseTag(ctx context.Context, tag string) error {
	return s.enqueuer.releaseTag(ctx, tag)
}

func (s *RoleStore) cancel(ctx context.Context, tx pgx.Tx, id int64) error {
	if tx == nil {
		return s.Store.cancel(ctx, nil, id)
	}
	if _, err := tx.Exec(ctx, asWorker); err != nil {
		return err
	}
	err := s.Store.cancel(ctx, tx, id)
	_, back := tx.Exec(ctx, asEnqueuer)
	return errors.Join(err, back)
}

func (s *RoleStore) task(ctx context.Context, id int64) (*TaskInfo, error) {
	return s.reader.task(ctx, id)
}

func (s *RoleStore) tasks(ctx context.Context, q TaskQuery) ([]*TaskInfo, error) {
	return s.reader.tasks(ctx, q)
}

func (s *RoleStore) stats(ctx context.Context) (*Stats, error) { return s.reader.stats(ctx) }

func (s *RoleStore) crons(ctx context.Context, names []string) ([]*cronJob, error) {
	return s.reader.crons(ctx, names)
}
