//go:build unix

// Package chaos shows that the promises of this library hold under faults: it runs workers in processes of their own on
// a private PostgreSQL, does to both what can go wrong, and then compares what is in the database with what may be
// there.
//
//   - A [Suite] is a cluster and the built worker program; a [Scene] is one database of it, with workers, an enqueuer's
//     log and, in the end, a verdict. Many scenes run at a time.
//   - A trigger writes every committed change of a task to a table of its own. The checker replays that history.
//   - A [Fault] is a row of the matrix. Its function makes scenes and does its harm in them.
//   - A [Mutant] is a worker program built from a source with one mistake planted. Each must be caught.
//
// The tests of this package are a tier of about three minutes; cmd/chaos runs the full counts.
package chaos
