package anchor

import (
	"errors"
	"fmt"
	"time"
)

// cronTemplate is what a schedule is made of: when it ticks, and what each instance is.
type cronTemplate struct {
	taskName   string
	expression string
	timeZone   string
	catchUp    CatchUp

	params      []byte
	attributes  []byte
	queue       string
	priority    int16
	maxAttempts int32
	tag         string
	scope       UniqueScope
}

// cronJob is a schedule as it is stored.
type cronJob struct {
	id      int64 // 0: there is none of this name yet
	version int64 // grows with every change but those of a tick
	name    string
	cronTemplate
	enabled bool
	// problem is why the schedule cannot tick until it is changed, "" when it can.
	problem string
	// deleted marks a declared schedule that an operator deleted: it is kept so that the code does not make it again.
	deleted bool

	nextRun  time.Time // the next tick
	lastTick time.Time // the newest that was dealt with
	taskID   int64     // the newest instance
	skipped  int64
	created  time.Time
	updated  time.Time

	// Of the code's declaration, "" and empty for a schedule that has none:
	declaration     string   // its digest
	declaredEnabled bool     // what it says
	replaced        []string // declarations that were replaced, oldest first

	// As it was when the schedule was read:
	now              time.Time // of the store's clock
	orphaned         bool      // declared, and workers live, but none that declares it
	declarationLives bool      // a live worker has this very declaration
}

// exists tells whether users can see the schedule.
func (j *cronJob) exists() bool { return j.id != 0 && !j.deleted }

// ticking tells whether ticks are due to happen.
func (j *cronJob) ticking() bool { return j.exists() && j.enabled && j.problem == "" }

var errNoTickLeft = errors.New("no tick is left before the year 9999 ends")

// reschedule sets the next tick of a schedule that was changed: from now on if what decides on it is different.
// Whatever kept it from ticking is over.
func (j *cronJob) reschedule(before *cronJob) error {
	j.problem = ""
	if before.ticking() && j.expression == before.expression && j.timeZone == before.timeZone {
		return nil
	}
	parsed, err := parseCronExpression(j.expression, j.timeZone)
	if err != nil {
		return fmt.Errorf("anchor: schedule %q: %w", j.name, err)
	}
	next, ok := parsed.next(j.now)
	if !ok {
		return fmt.Errorf("anchor: schedule %q: %w", j.name, errNoTickLeft)
	}
	j.nextRun = next
	return nil
}

// inZone is t as the clocks of the schedule's zone show it, in UTC where that zone is unknown.
func (j *cronJob) inZone(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	zone, err := loadCronZone(j.timeZone)
	if err != nil {
		return t.UTC()
	}
	return t.In(zone)
}

// cronTick is what one worker wants to do for one schedule whose tick is due.
type cronTick struct {
	job     *cronJob
	ticks   []time.Time // those that get an instance, in order, in the schedule's zone
	next    time.Time
	skipped int64
}

// cronTicked is what was done.
type cronTicked struct {
	id        int64 // the schedule's
	instances int
	held      int // ticks that found their unique tag held
}

// dueCrons is what a worker finds when it looks at the schedules.
type dueCrons struct {
	now  time.Time  // of the store's clock
	jobs []*cronJob // due, the longest first
	next time.Time  // the earliest tick that is not due yet, zero when there is none
}
