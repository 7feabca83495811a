package anchor

import (
	"testing"
	"time"
)

func BenchmarkCronExpressionNext(b *testing.B) {
	start := time.Date(2025, time.March, 29, 12, 0, 0, 0, time.UTC)
	for _, expression := range []string{
		"* * * * *", "*/15 * * * *", "30 2 * * *", "0 9 * * 1-5", "@yearly", "0 0 29 2 *", "* * 29 2 *", "@every 90s",
	} {
		b.Run(expression, func(b *testing.B) {
			parsed := mustParseCron(b, expression, "Europe/Berlin")
			for b.Loop() {
				if _, ok := parsed.next(start); !ok {
					b.Fatal("no tick")
				}
			}
		})
	}
}

func BenchmarkParseCronExpression(b *testing.B) {
	for b.Loop() {
		mustParseCron(b, "30 2 * * 1-5", "Europe/Berlin")
	}
}
