package anchor

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCronExpressionTicks(t *testing.T) {
	t.Parallel()

	cases := []struct {
		expression string
		after      string
		want       []string
	}{
		{"30 2 * * *", "2025-06-01T02:30:00Z", []string{"2025-06-02T02:30:00+00:00", "2025-06-03T02:30:00+00:00"}},
		{"  0\t9  * * 1-5 ", "2025-06-06T09:00:00Z", []string{"2025-06-09T09:00:00+00:00", "2025-06-10T09:00:00+00:00"}},
		{"0 9 ? jan,Jul SUN", "2025-01-20T00:00:00Z", []string{"2025-01-26T09:00:00+00:00", "2025-07-06T09:00:00+00:00"}},
		{"0 0 13 * 5", "2025-06-01T00:00:00Z", []string{"2025-06-06T00:00:00+00:00", "2025-06-13T00:00:00+00:00"}},
		{"15 30 9 * * *", "2025-06-01T09:30:14.9Z", []string{"2025-06-01T09:30:15+00:00", "2025-06-02T09:30:15+00:00"}},
		{"* * * * * *", "2025-06-01T09:30:14.9Z", []string{"2025-06-01T09:30:15+00:00", "2025-06-01T09:30:16+00:00"}},
		{"0 0 29 2 *", "2096-02-29T00:00:00Z", []string{"2104-02-29T00:00:00+00:00", "2108-02-29T00:00:00+00:00"}},
		{"0 0 29 2 *", "1896-02-29T00:00:00Z", nil},
		{"@yearly", "2025-06-01T00:00:00Z", []string{"2026-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"}},
		{"@annually", "2025-06-01T00:00:00Z", []string{"2026-01-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"}},
		{"@monthly", "2025-06-01T00:00:00Z", []string{"2025-07-01T00:00:00+00:00", "2025-08-01T00:00:00+00:00"}},
		{"@weekly", "2025-06-01T00:00:00Z", []string{"2025-06-08T00:00:00+00:00", "2025-06-15T00:00:00+00:00"}},
		{"@daily", "2025-06-01T00:00:00Z", []string{"2025-06-02T00:00:00+00:00", "2025-06-03T00:00:00+00:00"}},
		{"@midnight", "2025-06-01T00:00:00Z", []string{"2025-06-02T00:00:00+00:00", "2025-06-03T00:00:00+00:00"}},
		{"@hourly", "2025-06-01T00:00:00Z", []string{"2025-06-01T01:00:00+00:00", "2025-06-01T02:00:00+00:00"}},
		{"@daily", "9999-12-30T00:00:00Z", nil},
		{"@daily", "0001-01-01T00:00:00Z", nil},
	}
	for _, c := range cases {
		t.Run(c.expression+" "+c.after, func(t *testing.T) {
			t.Parallel()

			got := firstTicks(t, mustParseCron(t, c.expression, ""), c.after, 2)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCronExpressionEvery(t *testing.T) {
	t.Parallel()

	cases := []struct {
		expression string
		zone       string
		after      string
		want       []string
	}{
		{"@every 90s", "", "1970-01-01T00:00:00Z", []string{"1970-01-01T00:01:30+00:00", "1970-01-01T00:03:00+00:00"}},
		{"@every 90s", "", "1970-01-01T00:01:29.999Z", []string{"1970-01-01T00:01:30+00:00", "1970-01-01T00:03:00+00:00"}},
		{"@every 90s", "", "1969-12-31T23:58:00Z", []string{"1969-12-31T23:58:30+00:00", "1970-01-01T00:00:00+00:00"}},
		{"@every 1s", "", "2025-06-01T00:00:00.5Z", []string{"2025-06-01T00:00:01+00:00", "2025-06-01T00:00:02+00:00"}},
		{"@every 7h", "", "1970-01-01T00:00:00Z", []string{"1970-01-01T07:00:00+00:00", "1970-01-01T14:00:00+00:00"}},
		{"@every 2000000h", "", "9990-01-01T00:00:00Z", nil},
		{"@every  1h30m", "Europe/Berlin", "2025-03-30T00:00:00Z", []string{"2025-03-30T03:30:00+02:00", "2025-03-30T05:00:00+02:00"}},
	}
	for _, c := range cases {
		t.Run(c.expression+" "+c.after, func(t *testing.T) {
			t.Parallel()

			got := firstTicks(t, mustParseCron(t, c.expression, c.zone), c.after, 2)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
		})
	}
}

// The parser finds nothing more than five years ahead, and 2100 is no leap year.
func TestCronExpressionLeapDayAcrossCentury(t *testing.T) {
	t.Parallel()

	got := firstTicks(t, mustParseCron(t, "* * 29 2 *", "Europe/Berlin"), "2096-02-29T22:58:00Z", 2)
	want := []string{"2096-02-29T23:59:00+01:00", "2104-02-29T00:00:00+01:00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ticks (-want +got):\n%s", diff)
	}
}

func TestCronExpressionWildcard(t *testing.T) {
	t.Parallel()

	cases := map[string]bool{
		"* * * * *":          true,
		"*/15 * * * *":       true,
		"7 * * * *":          true,
		"0 */1 * * *":        true,
		"0 ? * * *":          true,
		"0 0-23 * * *":       true,
		"0 0-11,12-23 * * *": true,
		"*/5 * 29 2 *":       true,
		"@hourly":            true,
		"* * * * * *":        true,
		"0 */2 * * *":        false,
		"*/15 2 * * *":       false,
		"* 0-22 * * *":       false,
		"* 1-23 * * *":       false,
		"@daily":             false,
	}
	for expression, want := range cases {
		if got := mustParseCron(t, expression, "").everyHour; got != want {
			t.Errorf("%q is a wildcard: %t, want %t", expression, got, want)
		}
	}
}

func TestParseCronExpressionErrors(t *testing.T) {
	t.Parallel()

	cases := []struct {
		expression, zone, want string
	}{
		{"", "", `is empty`},
		{" \t\n", "", `is empty`},
		{"* * * *", "", `has 4 fields, needs 5, or 6 with seconds first`},
		{"* * * * * * *", "", `has 7 fields, needs 5, or 6 with seconds first`},
		{"60 * * * *", "", `minute "60": end of range (60) above maximum (59): 60`},
		{"60 0 * * * *", "", `second "60": end of range (60) above maximum (59): 60`},
		{"0 24 * * *", "", `hour "24": end of range (24) above maximum (23): 24`},
		{"0 0 0 * *", "", `day of month "0": beginning of range (0) below minimum (1): 0`},
		{"0 0 * 13 *", "", `month "13": end of range (13) above maximum (12): 13`},
		{"0 0 * foo *", "", `month "foo": failed to parse int from foo`},
		{"0 0 * * 7", "", `day of week "7": end of range (7) above maximum (6): 7`},
		{"0 0 L * *", "", `day of month "L": must be a list of`},
		{"0 0 * * 5#2", "", `day of week "5#2": must be a list of`},
		{"30-10 * * * *", "", `minute "30-10": beginning of range (30) beyond end of range (10): 30-10`},
		{"*/0 * * * *", "", `minute "*/0": step of range should be a positive number: */0`},
		{"*-5 * * * *", "", `minute "*-5": must be a list of`},
		{", * * * *", "", `minute ",": must be a list of`},
		{"1,,2 * * * *", "", `minute "1,,2": must be a list of`},
		{"99999999999999999999 * * * *", "", `value out of range`},
		{"0 0 30 2 *", "", `never matches: there is no such date`},
		{"0 0 31 4,6,9,11 *", "", `never matches: there is no such date`},
		{"@fortnightly", "", `unrecognized descriptor: @fortnightly`},
		{"@daily 5", "", `unrecognized descriptor: @daily 5`},
		{"@", "", `unrecognized descriptor: @`},
		{"@every", "", `@every takes one duration`},
		{"@every 1h 30m", "", `@every takes one duration`},
		{"@every soon", "", `@every: time: invalid duration "soon"`},
		{"@every 0s", "", `@every: 0s is less than a second`},
		{"@every -1h", "", `@every: -1h is less than a second`},
		{"@every 999ms", "", `@every: 999ms is less than a second`},
		{"@every 1500ms", "", `@every: 1500ms is not a whole number of seconds`},
		{"@every 9999999999999h", "", `@every: time: invalid duration`},
		{"TZ=UTC", "", `must not name a time zone; give it by WithTimeZone`},
		{"TZ=UTC 0 9 * * *", "", `must not name a time zone; give it by WithTimeZone`},
		{" cron_tz=UTC 0 9 * * *", "", `must not name a time zone; give it by WithTimeZone`},
		{"0 9 * *\x00 *", "", `must not contain '\x00'`},
		{"0 9 * * *\n0 10 * * *", "", `must not contain '\n'`},
		{"0 9 * * \xff", "", `must not contain '\ufffd'`},
		{"0 9 * * ١", "", `must not contain '\u0661'`},
		{strings.Repeat("*", 256), "", `has 256 bytes, more than 255`},
		{"0 9 * * *", "Mars/Base", `time zone "Mars/Base": unknown time zone Mars/Base`},
		{"0 9 * * *", "Local", `time zone "Local": differs between processes`},
		{"0 9 * * *", "localtime", `time zone "localtime": differs between processes`},
		{"0 9 * * *", "../etc/passwd", `time zone "../etc/passwd": `},
		{"0 9 * * *", "Europe/\x00", `time zone "Europe/\x00": `},
		{"0 9 * * *", "Europe", `time zone "Europe": `},
		{"0 9 * * *", strings.Repeat("x", 256), `has 256 bytes, more than 255`},
		{"@every 5s", "Mars/Base", `time zone "Mars/Base": unknown time zone Mars/Base`},
	}
	for _, c := range cases {
		t.Run(c.expression+" "+c.zone, func(t *testing.T) {
			t.Parallel()

			parsed, err := parseCronExpression(c.expression, c.zone)
			if err == nil {
				t.Fatalf("no error, but %+v", parsed)
			}
			if !strings.HasPrefix(err.Error(), "cron expression ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, want it to contain %q", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %q", err)
			}
		})
	}
}

func mustParseCron(tb testing.TB, expression, zone string) *cronExpression {
	tb.Helper()
	parsed, err := parseCronExpression(expression, zone)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

func mustParseTime(tb testing.TB, text string) time.Time {
	tb.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

// tickLayout shows the wall clock and its offset.
const tickLayout = "2006-01-02T15:04:05-07:00"

// firstTicks returns up to n ticks, each with its offset from UTC.
func firstTicks(tb testing.TB, e *cronExpression, after string, n int) []string {
	tb.Helper()
	var ticks []string
	for tick, ok := e.next(mustParseTime(tb, after)); ok && n > 0; tick, ok = e.next(tick) {
		ticks = append(ticks, tick.Format(tickLayout))
		n--
	}
	return ticks
}
