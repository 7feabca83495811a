package anchor

import (
	"errors"
	"fmt"
)

// What ends an attempt because of what its handler did to its transaction.
var (
	errHandlerTx        = errors.New("anchor: the transaction of a handler is committed or rolled back by its worker")
	errHandlerTxAborted = errors.New("anchor: an earlier statement of this transaction has failed, nothing more can be sent through it")
	errHandlerRowsOpen  = errors.New("anchor: the handler left the rows of a query open; read them to their end, close them, or scan the row")
	errHandlerTxOver    = errors.New("anchor: the attempt that this transaction belongs to is over")
	errHandlerTxFailed  = errors.New("anchor: the handler returned nil although a statement of its transaction had failed, which aborts the transaction; use a savepoint (tx.Begin) for statements that may fail")
	errHandlerTxEnded   = fmt.Errorf("anchor: the handler ended its own transaction with a COMMIT or ROLLBACK statement")
)
