package anchor

// pausePoint names a place in a worker where the fault tests (internal/chaos) can kill, stop or hold up its process, or
// make the call fail. pauseAt is called there with the number of the attempt, 0 where there is none; it is a no-op but
// under the build tag chaos.
type pausePoint string

const (
	pauseAfterClaimCommit pausePoint = "after-claim-commit"
	pauseBeforeHandler    pausePoint = "before-handler"
	pauseAfterHandler     pausePoint = "after-handler"
	pauseBeforeFinish     pausePoint = "before-finish"
	pauseBeforeCommit     pausePoint = "before-commit"
	pauseAfterCommitSent  pausePoint = "after-commit-sent"
	pauseBeforeHook       pausePoint = "before-hook"
	pauseInHeartbeat      pausePoint = "in-heartbeat"
	pauseInTakeBack       pausePoint = "in-takeback"
	pauseBeforeTickInsert pausePoint = "before-tick-insert"
	pauseAfterTickInsert  pausePoint = "after-tick-insert"
)
