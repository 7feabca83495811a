package anchor

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// What ends an attempt because of what its handler did to its transaction.
var (
	errHandlerTx         = errors.New("anchor: the transaction of a handler is committed or rolled back by its worker")
	errHandlerTxAborted  = errors.New("anchor: an earlier statement of this transaction has failed, nothing more can be sent through it")
	errHandlerRowsOpen   = errors.New("anchor: the handler left the rows of a query open; read them to their end, close them, or scan the row")
	errHandlerConnClosed = errors.New("anchor: the handler returned nil although the connection of its transaction is closed, which rolls it back; pgx closes it when the context of a statement ends, even if that is shorter than the handler's")
	errHandlerTxOver     = errors.New("anchor: the attempt that this transaction belongs to is over")
	errHandlerTxShared   = errors.New("anchor: two goroutines sent the first statement of this transaction at once; it is not for concurrent use")
	errHandlerTxFailed   = errors.New("anchor: the handler returned nil although a statement of its transaction had failed, which aborts the transaction; use a savepoint (tx.Begin) for statements that may fail")
	errHandlerTxEnded    = fmt.Errorf("anchor: the handler ended its own transaction with a COMMIT or ROLLBACK statement")
)

// noLargeObjects answers [pgx.ErrTxClosed] to all: it is of a transaction that has none to give. The zero
// [pgx.LargeObjects] panics, and pgx makes them for its own transactions only, such as this one, which never began.
func noLargeObjects() pgx.LargeObjects {
	batch := &pgx.Batch{}
	batch.BeginTx(pgx.TxOptions{})
	return pgx.FailedBatchResults(batch, pgx.ErrTxClosed).Tx().LargeObjects()
}
