// Package anchortest tests the tasks of a program: in memory and in virtual time with [Run], over a database of their
// own with [RunPostgres].
//
//	func TestSignUp(t *testing.T) {
//		t.Parallel()
//		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
//			signUp(t.Context(), h.Client, "gopher@example.com") // the program under test
//			anchortest.RequireEnqueued(t, h, SendWelcome, &WelcomeParams{Email: "gopher@example.com"})
//			if got := h.Drain(); got.Completed != 1 {
//				t.Errorf("Drain: %+v", got)
//			}
//		}, SendWelcome)
//	}
//
// # Time
//
// A test begins at midnight of 2000-01-01 UTC, and no time passes while it runs. [Harness.Drain] runs what is due,
// [Harness.Advance] moves time and runs what falls due on the way: a year of a daily schedule takes milliseconds.
// The jitter of retries is the same in every run. All that the test starts is in its [testing/synctest] bubble, so
// that a time.Sleep of the program takes no time either. Nothing in it may wait for the network or another process: of
// HTTP, test with an http.RoundTripper of your own, as even the idle connections that net/http keeps alive wait for it.
// What does all the same is named, and ends the process, after half a minute.
//
// Contexts, channels and timers belong where they are made. Inside, take the context of the t that the test is given, or
// make one from it; that of the outer t does no harm. One made outside by context.WithCancel ends the process when it is
// cancelled.
//
// # Transactions
//
// There is no SQL in memory. The tx of a handler, and that of [Harness.Begin], records what is executed instead:
// [Harness.Executed] lists what was committed, [Harness.RolledBack] what was not. Queries are answered by
// [Harness.Answer]. Where that is not enough, [RunPostgres] runs the same test over PostgreSQL.
//
// # Faults
//
// A task runs at least once, and at times more than that. [Harness.CrashNext], [Harness.LoseLease],
// [Harness.DuplicateDelivery] and [Harness.FailCommit] make happen what makes it so, and [RequireIdempotent] checks
// that a handler can bear it.
//
// # Webhooks
//
// What [anchor.WebhookOnFailed] would deliver stays pending in the queue "anchor.webhooks": nothing is posted.
//
// # Stores
//
// [TestStore] is the contract of a store as a suite of tests.
package anchortest
