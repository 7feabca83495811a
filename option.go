package anchor

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	defaultQueue    = "default"
	defaultTimeout  = time.Hour
	minPriority     = -100
	maxPriority     = 100
	maxNameLength   = 200
	maxQueueLength  = 100
	maxTagLength    = 500
	maxDescription  = 4096
	maxDelay        = 100 * 365 * 24 * time.Hour
	minTimeout      = time.Millisecond
	maxTimeout      = 365 * 24 * time.Hour
	maxAttemptLimit = 1_000_000
)

// TaskOption is an option of [Define].
type TaskOption interface {
	fmt.Stringer
	applyTask(*taskOptions) error
}

// RunOption is an option of one enqueue: [Task.Run] and its sisters.
type RunOption interface {
	fmt.Stringer
	applyRun(*runOptions) error
}

// PolicyOption stands in both places: in [Define] it sets the task's default, in [Task.Run] it
// overrides that for one task. Of one given twice, the last counts.
type PolicyOption interface {
	TaskOption
	RunOption
}

// taskPolicy is what a definition sets and a run may override.
type taskPolicy struct {
	queue       string
	priority    int
	retry       retryPolicy
	maxAttempts int
	timeout     time.Duration
}

type taskOptions struct {
	taskPolicy
	description string
	webhook     *webhook // nil: none
	upcaster    func(old json.RawMessage) (json.RawMessage, error)
}

type runOptions struct {
	taskPolicy
	retrySet   bool
	timeoutSet bool

	delay    time.Duration
	delaySet bool
	startAt  time.Time

	tag   string
	scope UniqueScope

	scheduledFor time.Time
	trace        map[string]string
}

func defaultTaskPolicy() taskPolicy {
	retry, err := parseRetryPolicy(defaultRetryInterval)
	if err != nil {
		panic(err) // a constant of this package, covered by every test
	}
	return taskPolicy{queue: defaultQueue, retry: retry, maxAttempts: defaultMaxAttempts, timeout: defaultTimeout}
}

// policyOption is a PolicyOption: set changes a taskPolicy, mark notes in a run that it was overridden.
type policyOption struct {
	text string
	set  func(*taskPolicy) error
	mark func(*runOptions)
}

func (o policyOption) String() string                    { return o.text }
func (o policyOption) applyTask(opts *taskOptions) error { return o.set(&opts.taskPolicy) }
func (o policyOption) applyRun(opts *runOptions) error {
	if o.mark != nil {
		o.mark(opts)
	}
	return o.set(&opts.taskPolicy)
}

// WithRetryPolicy sets when a failed task is tried again and how often at most. interval is one duration
// ("5m": the same distance each time) or a list ("1m,2m,4m,8m": the last entry repeats); up to a fifth is
// added at random, so that tasks which failed together do not return together. maxAttempts counts the
// first try; -1 is unlimited, 0 is an error. Defaults to "1s,5s,30s,2m,10m,30m,1h" and 10.
func WithRetryPolicy(interval string, maxAttempts int) PolicyOption {
	return policyOption{
		text: fmt.Sprintf("WithRetryPolicy(%s, %d)", quotedShort(interval), maxAttempts),
		set: func(p *taskPolicy) error {
			retry, err := parseRetryPolicy(interval)
			if maxAttempts != unlimitedAttempts && (maxAttempts < 1 || maxAttempts > maxAttemptLimit) {
				err = errors.Join(err, fmt.Errorf("maxAttempts %d is neither -1 (unlimited) nor between 1 and %d", maxAttempts, maxAttemptLimit))
			}
			if err != nil {
				return err
			}
			p.retry, p.maxAttempts = retry, maxAttempts
			return nil
		},
		mark: func(o *runOptions) { o.retrySet = true },
	}
}

// WithTimeout bounds one attempt: "30s" or 30*time.Second, from 1ms to a year. When it is over, the
// handler's context is cancelled with the cause [ErrTimeout]; a handler that returns an error then, or does not
// return within 5s, has failed. Defaults to 1h.
func WithTimeout[D ~string | time.Duration](d D) PolicyOption {
	var timeout time.Duration
	var parseErr error
	var text string
	switch v := any(d).(type) {
	case time.Duration:
		timeout, text = v, fmt.Sprintf("WithTimeout(%v)", v)
	default:
		s := reflect.ValueOf(v).String() // not the text of a String method
		timeout, parseErr = time.ParseDuration(s)
		text = fmt.Sprintf("WithTimeout(%s)", quotedShort(s))
	}
	return policyOption{
		text: text,
		set: func(p *taskPolicy) error {
			switch {
			case parseErr != nil:
				return errors.New("not a duration such as \"30s\"")
			case timeout < minTimeout || timeout > maxTimeout:
				return fmt.Errorf("timeout is not between %v and a year", minTimeout)
			}
			p.timeout = timeout
			return nil
		},
		mark: func(o *runOptions) { o.timeoutSet = true },
	}
}

// WithQueue sets the queue, 1 to 100 bytes. Queues are served in turn, so that a long one does not starve
// the others, and can be paused. Defaults to "default".
func WithQueue(name string) PolicyOption {
	return policyOption{
		text: fmt.Sprintf("WithQueue(%s)", quotedShort(name)),
		set: func(p *taskPolicy) error {
			if err := checkText("queue", name, maxQueueLength); err != nil {
				return err
			}
			p.queue = name
			return nil
		},
	}
}

// WithPriority sets the place within the queue, from -100 to 100: lower runs first. Defaults to 0.
func WithPriority(n int) PolicyOption {
	return policyOption{
		text: fmt.Sprintf("WithPriority(%d)", n),
		set: func(p *taskPolicy) error {
			if n < minPriority || n > maxPriority {
				return fmt.Errorf("priority %d is not between %d and %d", n, minPriority, maxPriority)
			}
			p.priority = n
			return nil
		},
	}
}

// quotedShort is %q of at most the first 60 characters.
func quotedShort(s string) string {
	if utf8.RuneCountInString(s) <= 60 {
		return strconv.Quote(s)
	}
	cut := 0
	for range 60 {
		_, size := utf8.DecodeRuneInString(s[cut:])
		cut += size
	}
	return strconv.Quote(s[:cut]) + "..."
}

type taskOption struct {
	text string
	set  func(*taskOptions) error
}

func (o taskOption) String() string                    { return o.text }
func (o taskOption) applyTask(opts *taskOptions) error { return o.set(opts) }

// WithDescription says in a sentence what the task does, for the exported YAML and the dashboard.
// Defaults to "".
func WithDescription(s string) TaskOption {
	return taskOption{
		text: fmt.Sprintf("WithDescription(%s)", quotedShort(s)),
		set: func(o *taskOptions) error {
			if len(s) > maxDescription || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				return fmt.Errorf("description is longer than %d bytes or no valid text", maxDescription)
			}
			o.description = s
			return nil
		},
	}
}

type runOption struct {
	text string
	set  func(*runOptions) error
}

func (o runOption) String() string                  { return o.text }
func (o runOption) applyRun(opts *runOptions) error { return o.set(opts) }

// UniqueScope says how long a unique tag is held: [UniqueForever], [UniqueWhileLive] or [UniqueFor].
// The zero value is UniqueForever.
type UniqueScope struct {
	whileLive bool
	duration  time.Duration
	invalid   string // its text, when its duration is out of bounds
}

var (
	// UniqueForever holds the tag until [Client.ReleaseTag].
	UniqueForever = UniqueScope{}
	// UniqueWhileLive holds the tag while the task is pending or running.
	UniqueWhileLive = UniqueScope{whileLive: true}
)

// UniqueFor holds the tag for d from the enqueue on, by the database's clock, and in any case while the
// task is pending or running.
func UniqueFor(d time.Duration) UniqueScope {
	if d <= 0 || d > maxDelay {
		return UniqueScope{invalid: fmt.Sprintf("UniqueFor(%v)", d)}
	}
	return UniqueScope{duration: d}
}

func (s UniqueScope) String() string {
	switch {
	case s.invalid != "":
		return s.invalid
	case s.whileLive:
		return "UniqueWhileLive"
	case s.duration > 0:
		return fmt.Sprintf("UniqueFor(%v)", s.duration)
	}
	return "UniqueForever"
}

// WithUniqueTag refuses a second task of the same tag, whatever its name or queue, with
// [ErrTaskAlreadyExists]. A tag is 1 to 500 bytes. The scope says how long the tag is held; at most one may
// be given. A task has one tag: a second one is an error. Defaults to no tag, and to the scope [UniqueForever].
func WithUniqueTag(tag string, scope ...UniqueScope) RunOption {
	text := "WithUniqueTag(" + quotedShort(tag)
	for _, s := range scope {
		text += ", " + s.String()
	}
	return runOption{
		text: text + ")",
		set: func(o *runOptions) error {
			if err := checkText("unique tag", tag, maxTagLength); err != nil {
				return err
			}
			if len(scope) > 1 {
				return fmt.Errorf("%d scopes are given, at most one may be", len(scope))
			}
			if o.tag != "" && o.tag != tag {
				return fmt.Errorf("the task has the unique tag %s already, and one is all that it can have", quotedShort(o.tag))
			}
			o.tag = tag
			if len(scope) == 1 {
				if scope[0].invalid != "" {
					return errors.New("the duration is not positive or longer than 100 years")
				}
				o.scope = scope[0]
			}
			return nil
		},
	}
}

// WithDelay makes the task due d from now on, by the database's clock. Excludes [WithStartAt]. Defaults to 0.
func WithDelay(d time.Duration) RunOption {
	return runOption{
		text: fmt.Sprintf("WithDelay(%v)", d),
		set: func(o *runOptions) error {
			if d < 0 || d > maxDelay {
				return errors.New("delay is negative or longer than 100 years")
			}
			o.delay, o.delaySet = d, true
			return nil
		},
	}
}

// WithStartAt makes the task due at t; a time that has passed means now. Excludes [WithDelay]. Defaults to now.
func WithStartAt(t time.Time) RunOption {
	return runOption{
		text: fmt.Sprintf("WithStartAt(%s)", t.Format(time.RFC3339Nano)),
		set: func(o *runOptions) error {
			if t.IsZero() || t.Year() > 9999 || t.Year() < 1 {
				return errors.New("the time is zero or not between the years 1 and 9999")
			}
			o.startAt = t
			return nil
		},
	}
}

// resolveTaskOptions applies opts to the defaults. The error joins every bad option.
func resolveTaskOptions(opts []TaskOption) (taskOptions, error) {
	resolved := taskOptions{taskPolicy: defaultTaskPolicy()}
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyTask(&resolved); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	return resolved, errors.Join(errs...)
}

// resolveRunOptions applies opts to a definition's policy. The error joins every bad option.
func resolveRunOptions(policy taskPolicy, opts []RunOption) (runOptions, error) {
	resolved := runOptions{taskPolicy: policy}
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		if err := opt.applyRun(&resolved); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", opt, err))
		}
	}
	if resolved.delaySet && !resolved.startAt.IsZero() {
		errs = append(errs, errors.New("WithDelay and WithStartAt exclude each other"))
	}
	return resolved, errors.Join(errs...)
}

// checkText refuses what is empty, over-long or not storable as text.
func checkText(what, s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty", what)
	case len(s) > limit:
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", what, len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not valid UTF-8", what)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("%s holds a NUL character", what)
	}
	return nil
}
