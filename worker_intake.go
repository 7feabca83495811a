package anchor

import (
	"sync"
	"time"
)

const (
	// bufferAhead is how much work a worker may hold beyond its slots: what it starts in so much time.
	bufferAhead = 50 * time.Millisecond
	// maxBuffer and maxBufferBytes bound it for the fastest and the largest tasks.
	maxBuffer      = 5000
	maxBufferBytes = 8 << 20
	// staleAfter is how long a task may wait in the buffer before it is given back for others.
	staleAfter = 200 * time.Millisecond
	// rateWindow is the least time over which the rate of starts is measured.
	rateWindow = 5 * time.Millisecond
)

// intake is what a worker has claimed and not started. A slot is an executor: a goroutine that takes tasks until
// there are none. It is safe for concurrent use.
type intake struct {
	slots int
	spawn func()        // starts an executor
	room  chan struct{} // a hint: there may be room for another claim
	begun chan struct{} // a hint: slots are taken after none was

	mu        sync.Mutex
	first     taskQueue // tried before, or with one attempt only: these wait for nobody
	buffer    taskQueue
	executors int
	closed    bool
	target    int // how many may be buffered

	started   int // since measured
	measured  time.Time
	asked     time.Time // when the last claim began
	starved   time.Time // when the last executor ended
	rate      float64   // starts a second
	meanBytes float64   // of parameters
}

// taskQueue is a queue of tasks in the order they came.
type taskQueue struct {
	tasks []waitingTask
	head  int
}

type waitingTask struct {
	task  *claimedTask
	since time.Time
}

func (q *taskQueue) len() int { return len(q.tasks) - q.head }

func (q *taskQueue) push(task *claimedTask, since time.Time) {
	if q.head == len(q.tasks) {
		q.tasks, q.head = q.tasks[:0], 0
	}
	q.tasks = append(q.tasks, waitingTask{task, since})
}

func (q *taskQueue) pop() *claimedTask {
	task := q.tasks[q.head].task
	q.tasks[q.head] = waitingTask{}
	q.head++
	return task
}

func newIntake(slots int, spawn func()) *intake {
	now := time.Now()
	return &intake{slots: slots, spawn: spawn, room: make(chan struct{}, 1), begun: make(chan struct{}, 1), measured: now, asked: now}
}

// capacity is how many tasks to claim now, and how many of them may be such as wait for nobody: no more than slots
// are free, or a crash would cost them an attempt that never started. It is 0 until it is worth a claim.
func (in *intake) capacity() (limit, firstHand int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.measure()
	in.asked = time.Now()
	free := in.slots - in.executors
	waiting := in.first.len() + in.buffer.len()
	if waiting > in.target/2 || free+in.target-waiting <= 0 {
		return 0, 0
	}
	return free + in.target - waiting, max(free-in.first.len(), 0)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// measure brings rate and target up to date. The caller holds mu.
func (in *intake) measure() {
	now := time.Now()
	elapsed := now.Sub(in.measured)
	rate := float64(in.started) / max(elapsed, rateWindow).Seconds()
	switch {
	case elapsed >= rateWindow:
		in.started, in.measured = 0, now
	case rate <= in.rate:
		return // it is too early to say
	}
	// It rises at once and falls slowly: the longer the window, the less the past counts.
	if rate < in.rate {
		rate = in.rate + min(1, elapsed.Seconds()/bufferAhead.Seconds())*(rate-in.rate)
	}
	in.rate = rate
	target := min(in.rate*bufferAhead.Seconds(), maxBuffer)
	if in.meanBytes > 0 {
		target = min(target, maxBufferBytes/in.meanBytes)
	}
	in.target = int(target)
}

// put hands tasks over, and starts executors for them where slots are free. It is false once the intake is
// closed: then the tasks stay the caller's.
func (in *intake) put(tasks []*claimedTask) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	now := time.Now()
	for _, task := range tasks {
		task.received = now
		if task.exhausted || task.attempt > 1 || task.maxAttempts == 1 {
			in.first.push(task, now)
		} else {
			in.buffer.push(task, now)
		}
		in.meanBytes += (float64(len(task.params)) - in.meanBytes) / 64
	}
	if in.executors == 0 && len(tasks) > 0 {
		// While all slots have waited for this claim there was no rate to measure: a slow claim would make the next one
		// small, and so on.
		in.measured = in.measured.Add(now.Sub(later(in.asked, in.starved)))
		select {
		case in.begun <- struct{}{}:
		default:
		}
	}
	for range min(in.slots-in.executors, in.first.len()+in.buffer.len()) {
		in.executors++
		in.spawn()
	}
	return true
}

// replace starts an executor in place of one that does not come back.
func (in *intake) replace() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed && in.first.len()+in.buffer.len() == 0 {
		in.executors--
		return
	}
	in.spawn()
}

// take is an executor's next task; nil ends the executor.
func (in *intake) take() *claimedTask {
	in.mu.Lock()
	defer in.mu.Unlock()
	var task *claimedTask
	switch {
	case in.first.len() > 0:
		task = in.first.pop()
	case in.buffer.len() > 0:
		task = in.buffer.pop()
	default:
		if in.executors--; in.executors == 0 {
			in.starved = time.Now()
		}
		in.hint()
		return nil
	}
	in.started++
	if in.first.len()+in.buffer.len() == in.target/2 {
		in.hint()
	}
	return task
}

func (in *intake) hint() {
	select {
	case in.room <- struct{}{}:
	default:
	}
}

// stale takes out what has waited for too long, because the tasks ahead of it turned out to be long ones. Exhausted
// tasks stay: there is no attempt of them to give back, they are this worker's to fail.
func (in *intake) stale() []*claimedTask {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.first.len()+in.buffer.len() == 0 {
		return nil
	}
	limit := time.Now().Add(-staleAfter)
	var tasks []*claimedTask
	for _, q := range []*taskQueue{&in.first, &in.buffer} {
		var kept []waitingTask
		for q.len() > 0 && q.tasks[q.head].since.Before(limit) {
			since := q.tasks[q.head].since
			if task := q.pop(); task.exhausted {
				kept = append(kept, waitingTask{task, since})
			} else {
				tasks = append(tasks, task)
			}
		}
		if len(kept) > 0 {
			q.tasks, q.head = append(kept, q.tasks[q.head:]...), 0
		}
	}
	if len(tasks) > 0 {
		in.rate, in.target = 0, 0
	}
	return tasks
}

// crowded tells whether more exhausted tasks wait than slots can soon fail.
func (in *intake) crowded() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.first.len() > in.slots
}

// close takes out all that was not started, and what comes later is not started either.
func (in *intake) close() []*claimedTask {
	in.mu.Lock()
	defer in.mu.Unlock()
	var tasks []*claimedTask
	for _, q := range []*taskQueue{&in.first, &in.buffer} {
		for q.len() > 0 {
			tasks = append(tasks, q.pop())
		}
	}
	in.closed = true
	return tasks
}

// busy is how many slots are taken.
func (in *intake) busy() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.executors
}
