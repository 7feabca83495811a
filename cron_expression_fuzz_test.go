package anchor

import (
	"testing"
	"time"
)

func FuzzParseCronExpression(f *testing.F) {
	for _, expression := range []string{
		"*/15 * * * *", "30 2 * * 1-5", "0 0 9 1,15 jan-jun ?", "0 0 29 2 *", "0 0 30 2 *",
		"@daily", "@hourly", "@every 90s", "@every 1h1s", "TZ=UTC", "CRON_TZ=UTC 0 9 * * *",
		"*-5 * * * *", ", , , , ,", "1/9223372036854775807 * * * *", "\x00", "\xff * * * *",
	} {
		f.Add(expression, "Europe/Berlin", int64(1_743_292_800))
		f.Add(expression, "Australia/Lord_Howe", int64(2_240_524_800))
	}
	f.Add("@daily", "Local", int64(-1<<63))
	f.Add("@daily", "../UTC", int64(1<<63-1))

	f.Fuzz(func(t *testing.T, expression, zone string, second int64) {
		parsed, err := parseCronExpression(expression, zone)
		if err != nil {
			if parsed != nil {
				t.Fatalf("both %+v and error %v", parsed, err)
			}
			return
		}

		after := time.Unix(second, 0)
		for range 3 {
			tick, ok := parsed.next(after)
			if !ok {
				return
			}
			if !tick.After(after) {
				t.Fatalf("after %s comes %s", after, tick)
			}
			after = tick
		}
	})
}
