package anchor

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	holdClaim = `select {schema}.anchor_hold_claim($1::bigint, $2::bigint)`

	insertHookError = `insert into {schema}.anchor_task_errors (task_id, attempt, message) values ($1, $2, $3)`
)

// fail keeps the task's row locked while the hook runs, so that nobody takes the task back meanwhile and
// runs the hook a second time.
func (p *pgSession) fail(ctx context.Context, task *claimedTask, end finalFailure) error {
	tx := &lazyTx{session: p, task: task, idle: end.idle}
	defer tx.abandon()
	err := storeError("fail the task", p.failHeld(ctx, tx, task, end))
	if err == nil || errors.Is(err, ErrClaimLost) {
		task.settle()
	}
	return err
}

// What a hook leaves behind is checked while there is a savepoint to return to, not at the commit.
const checkConstraints = `set constraints all immediate`

const stateInvalidSavepoint = "3B001"

func (p *pgSession) failHeld(ctx context.Context, tx *lazyTx, task *claimedTask, failure finalFailure) error {
	ours, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := tx.Exec(ours, p.store.sql(holdClaim), task.id, task.token); err != nil {
		return err
	}
	hookErr := failure.hookErr
	if failure.hook != nil {
		point, err := tx.Begin(ours)
		if err != nil {
			return err
		}
		if err := pauseAt(pauseBeforeHook, task.attempt); err != nil {
			return err
		}
		var answered error
		hookErr = failure.hook(ctx, hookTx{notedTx{point, &answered}})
		switch {
		case errors.Is(hookErr, errHookStuck):
			tx.sever()
			return hookErr
		case errors.Is(hookErr, errHookInterrupted):
			return hookErr
		}
		switch conn := tx.Conn().PgConn(); {
		case conn.IsBusy():
			return errHookRowsOpen
		case conn.TxStatus() == 'I' && !conn.IsClosed():
			return errHandlerTxEnded
		case conn.TxStatus() != 'E':
			answered = nil // it went around that
		}
		ours, cancel = context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		end := func(ctx context.Context) error {
			if _, err := tx.Exec(ctx, checkConstraints); err != nil {
				return err
			}
			return point.Commit(ctx)
		}
		if hookErr != nil {
			end = point.Rollback
		}
		err = end(ours)
		switch {
		case sqlState(err) == stateInvalidSavepoint:
			return errHandlerTxEnded
		case errors.As(hookErr, new(*hookTrouble)):
			return hookErr
		case err == nil:
		case hookErr != nil:
			return err
		default:
			// The hook swallowed the error of a statement, which leaves only the way back to the savepoint.
			if answered == nil {
				answered = err
			}
			hookErr = fmt.Errorf("a statement of its transaction had failed or a constraint is violated: %w", answered)
			if _, err := tx.Exec(ours, "rollback to savepoint "+point.(*savepoint).name); err != nil {
				if sqlState(err) == stateInvalidSavepoint {
					return errHandlerTxEnded
				}
				return err
			}
		}
		if trouble := hookTroubleOf(answered); trouble != nil {
			trouble.text = hookErr.Error()
			return trouble
		}
	}
	if len(failure.next) > 0 {
		if err := p.store.enqueueTx(ours, tx, failure.next); err != nil {
			return err
		}
	}
	batch := &pgx.Batch{}
	batch.Queue(p.store.sql(settleTasks), []int64{task.id}, []int64{task.token}, []string{outcomeFailed.String()}, []int64{0}, []*string{&failure.message})
	if hookErr != nil {
		batch.Queue(p.store.sql(insertHookError), task.id, task.attempt, cleanMessage(hookMessagePrefix+hookErr.Error()))
	}
	batch.Queue("commit")
	if err := tx.SendBatch(ours, batch).Close(); err != nil {
		return err
	}
	tx.end().Release()
	return nil
}

// hookTx is the savepoint that a failure hook works in. Like a handler's transaction, it is not the hook's to end.
type hookTx struct{ notedTx }

func (hookTx) Commit(context.Context) error   { return errHandlerTx }
func (hookTx) Rollback(context.Context) error { return errHandlerTx }
