package anchor

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-co-op/gocron/v2"
)

// maxCronText bounds an expression and the name of a zone, in bytes.
const maxCronText = 255

// cronFieldNames are the fields of an expression with seconds.
var cronFieldNames = [...]string{"second", "minute", "hour", "day of month", "month", "day of week"}

// cronFieldPattern is stricter than the parser, which takes "*-5" for "*" and
// "," for a field that never matches.
var cronFieldPattern = func() *regexp.Regexp {
	const (
		value = `(\d+|[A-Za-z]{3})`
		item  = `([*?]|` + value + `(-` + value + `)?)(/\d+)?`
	)
	return regexp.MustCompile(`^` + item + `(,` + item + `)*$`)
}()

// cronProbeStart lies before a leap year, so that every date there is falls
// into the five years in which the parser looks for it.
var cronProbeStart = time.Date(1999, time.December, 31, 23, 59, 59, 0, time.UTC)

// parseCronExpression reads five fields, six with seconds first, one of
// @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly, or
// "@every 90s", whose ticks are the multiples of the interval since the Unix
// epoch. Fields are as in [gocron.NewDefaultCron].
//
// The zone is a name of the IANA database, by default UTC. "Local" is an error,
// as processes differ in it, and so is a zone that this machine has no rules
// for: then install tzdata, or import time/tzdata.
func parseCronExpression(expression, timeZone string) (*cronExpression, error) {
	if len(expression) > maxCronText {
		return nil, fmt.Errorf("cron expression %.40q... has %d bytes, more than %d",
			expression, len(expression), maxCronText)
	}

	parsed, err := parseCronSchedule(strings.TrimSpace(expression))
	if err != nil {
		return nil, fmt.Errorf("cron expression %q: %w", expression, err)
	}
	parsed.zone, err = loadCronZone(timeZone)
	if err != nil {
		return nil, fmt.Errorf("cron expression %q: %w", expression, err)
	}
	return parsed, nil
}

func parseCronSchedule(text string) (*cronExpression, error) {
	if err := checkCronText(text); err != nil {
		return nil, err
	}

	words := strings.Fields(text)
	if words[0] == "@every" {
		interval, err := parseCronInterval(words[1:])
		return &cronExpression{interval: interval}, err
	}
	if !strings.HasPrefix(text, "@") {
		if err := checkCronFields(words); err != nil {
			return nil, err
		}
	}

	fields, err := parseCronFields(text)
	if err != nil {
		return nil, err
	}
	return &cronExpression{fields: fields, everyHour: matchesEveryHour(fields)}, nil
}

// checkCronText refuses what the parser must never see.
func checkCronText(text string) error {
	if text == "" {
		return errors.New("is empty")
	}
	for _, r := range text {
		if (r < ' ' && r != '\t') || r > '~' {
			return fmt.Errorf("must not contain %+q", r)
		}
	}
	// The parser would take a zone from here, and panics if nothing follows it.
	upper := strings.ToUpper(text)
	if strings.HasPrefix(upper, "TZ=") || strings.HasPrefix(upper, "CRON_TZ=") {
		return errors.New("must not name a time zone; give it by WithTimeZone, or as timeZone in a task file")
	}
	return nil
}

func parseCronInterval(arguments []string) (time.Duration, error) {
	if len(arguments) != 1 {
		return 0, errors.New(`@every takes one duration, such as "@every 90s"`)
	}
	interval, err := time.ParseDuration(arguments[0])
	switch {
	case err != nil:
		return 0, fmt.Errorf("@every: %w", err)
	case interval < time.Second:
		return 0, fmt.Errorf("@every: %s is less than a second", arguments[0])
	case interval%time.Second != 0:
		return 0, fmt.Errorf("@every: %s is not a whole number of seconds", arguments[0])
	}
	return interval, nil
}

// checkCronFields looks at each field alone, as the parser does not say which
// one it dislikes.
func checkCronFields(fields []string) error {
	names := cronFieldNames[:]
	if len(fields) == len(names)-1 {
		names = names[1:]
	}
	if len(fields) != len(names) {
		return fmt.Errorf("has %d fields, needs 5, or 6 with seconds first", len(fields))
	}

	for i, field := range fields {
		if !cronFieldPattern.MatchString(field) {
			return fmt.Errorf("%s %q: must be a list of *, numbers, names or ranges such as 1-5, each with an optional step such as /2",
				names[i], field)
		}
		alone := []string{"*", "*", "*", "*", "*", "*"}
		alone[len(alone)-len(fields)+i] = field
		if _, err := parseCronFields(strings.Join(alone, " ")); err != nil {
			return fmt.Errorf("%s %q: %w", names[i], field, err)
		}
	}
	return nil
}

// parseCronFields parses fields, or a descriptor other than @every.
func parseCronFields(text string) (fields gocron.Cron, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser panicked: %v", p)
		}
	}()

	const withSeconds = true
	fields = gocron.NewDefaultCron(withSeconds)
	err = fields.IsValid(text, time.UTC, cronProbeStart)
	if errors.Is(err, gocron.ErrCronJobInvalid) {
		return nil, errors.New("never matches: there is no such date")
	}
	// The parser joins its reason to a sentinel, on a line of its own.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		reasons := joined.Unwrap()
		err = reasons[len(reasons)-1]
	}
	return fields, err
}

// matchesEveryHour asks whether the schedule runs in each hour of a day on
// which it runs at all.
func matchesEveryHour(fields gocron.Cron) bool {
	day := fields.Next(cronProbeStart).Truncate(24 * time.Hour)
	for i := range 24 {
		hour := day.Add(time.Duration(i) * time.Hour)
		if tick := fields.Next(hour.Add(-time.Second)); !tick.Before(hour.Add(time.Hour)) {
			return false
		}
	}
	return true
}

func loadCronZone(name string) (*time.Location, error) {
	switch {
	case len(name) > maxCronText:
		return nil, fmt.Errorf("time zone %.40q...: has %d bytes, more than %d", name, len(name), maxCronText)
	case name == "Local", name == "localtime", name == "posixrules":
		return nil, fmt.Errorf("time zone %q: differs between processes; name one, such as Europe/Berlin", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w (zones come from the tzdata of the machine, or an import of time/tzdata)", name, err)
	}
	return zone, nil
}
