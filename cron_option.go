package anchor

import (
	"errors"
	"fmt"
)

// CatchUp says what becomes of ticks that were missed because no worker was there. A tick is missed when it is
// found seconds late by a worker that has started since, or a minute late by one that was held up; what is found
// earlier is merely late, and runs whatever the rule.
type CatchUp string

const (
	// CatchUpOne makes one instance for all missed ticks, which carries the newest of them.
	CatchUpOne CatchUp = "one"
	// CatchUpAll makes an instance for each missed tick, in order: the newest 1,000 of them.
	CatchUpAll CatchUp = "all"
	// CatchUpNone makes none, and goes on with the next tick.
	CatchUpNone CatchUp = "none"
)

// CronOption is an option of [Task.Cron] and [Task.Schedule].
type CronOption interface {
	fmt.Stringer
	applyCron(*cronOptions) error
}

type cronOptions struct {
	timeZone   string
	catchUp    CatchUp
	enabled    bool
	enabledSet bool
	run        []RunOption
}

type cronOption struct {
	text string
	set  func(*cronOptions) error
}

func (o cronOption) String() string                    { return o.text }
func (o cronOption) applyCron(opts *cronOptions) error { return o.set(opts) }

// WithTimeZone sets the zone whose wall clock the expression speaks of: a name of the IANA database, such as
// "Europe/Berlin", that this machine has rules for. A time that the clock skips runs once, right after the gap;
// one that it shows twice runs once; a schedule that runs in every hour follows real time. Defaults to "UTC".
func WithTimeZone(name string) CronOption {
	return cronOption{fmt.Sprintf("WithTimeZone(%q)", name), func(o *cronOptions) error {
		if name == "" {
			return errors.New("the name is empty")
		}
		if _, err := loadCronZone(name); err != nil {
			return err
		}
		o.timeZone = name
		return nil
	}}
}

// WithCatchUp sets what becomes of missed ticks. Defaults to [CatchUpOne].
func WithCatchUp(rule CatchUp) CronOption {
	return cronOption{fmt.Sprintf("WithCatchUp(%q)", string(rule)), func(o *cronOptions) error {
		switch rule {
		case CatchUpOne, CatchUpAll, CatchUpNone:
			o.catchUp = rule
			return nil
		}
		return fmt.Errorf("%q is none of %q, %q, %q", string(rule), CatchUpOne, CatchUpAll, CatchUpNone)
	}}
}

// WithEnabled sets whether the schedule ticks; [Client.PauseCron] and [Client.ResumeCron] change it. Defaults to
// true, but for [Task.Schedule] of a schedule that exists, which stays as it is.
func WithEnabled(enabled bool) CronOption {
	return cronOption{fmt.Sprintf("WithEnabled(%t)", enabled), func(o *cronOptions) error {
		o.enabled, o.enabledSet = enabled, true
		return nil
	}}
}

// WithRunOptions sets options of each instance, as [Task.Run] takes them, but for [WithDelay] and [WithStartAt].
// With [WithUniqueTag], a tick that finds its tag held makes no instance and is counted as skipped. It may be given
// more than once. Defaults to the task's own options.
func WithRunOptions(opts ...RunOption) CronOption {
	return cronOption{fmt.Sprintf("WithRunOptions(%v)", opts), func(o *cronOptions) error {
		o.run = append(o.run, opts...)
		return nil
	}}
}

// resolveCronOptions applies opts to the defaults. The error joins every bad option.
func resolveCronOptions(opts []CronOption) (cronOptions, error) {
	resolved := cronOptions{timeZone: defaultTimeZone, catchUp: CatchUpOne, enabled: true}
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyCron(&resolved); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	return resolved, errors.Join(errs...)
}

const defaultTimeZone = "UTC"
