package anchor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/testdb"
)

// BenchmarkTickStart is how late the handler of an instance begins, on a worker with default settings and nothing else
// to do: what half of the ticks keep to, and 99 in 100. An iteration is a second, in which every schedule ticks, so
// that -benchtime 60x gives a minute. The server's clock must be this machine's.
func BenchmarkTickStart(b *testing.B) {
	for _, schedules := range []int{1, 100} {
		b.Run(fmt.Sprintf("schedules=%d", schedules), func(b *testing.B) {
			pool, err := pgxpool.New(b.Context(), testdb.New(b))
			if err != nil {
				b.Fatal(err)
			}
			defer pool.Close()
			store := NewPGStore(pool)
			if err := store.Migrate(b.Context()); err != nil {
				b.Fatal(err)
			}
			late := make(chan time.Duration, 100_000)
			task := Define("Tick", func(ctx context.Context, _ pgx.Tx, _ *workParams) error {
				info, _ := TaskFromContext(ctx)
				late <- time.Since(info.ScheduledFor)
				return nil
			})
			client, err := New(store, WithTasks(task), WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				b.Fatal(err)
			}
			for i := range schedules {
				if err := task.Schedule(b.Context(), client, fmt.Sprintf("every-second-%d", i), "* * * * * *", &workParams{N: i}); err != nil {
					b.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(b.Context())
			worked := make(chan error, 1)
			go func() { worked <- client.Work(ctx) }()
			for range 2 * schedules { // its connections are open then
				<-late
			}
			var all []time.Duration
			for b.Loop() {
				for range schedules {
					all = append(all, <-late)
				}
			}
			cancel()
			if err := <-worked; err != nil {
				b.Fatal(err)
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2])/1e6, "p50-ms")
			b.ReportMetric(float64(all[(99*len(all)+99)/100-1])/1e6, "p99-ms")
			b.ReportMetric(0, "ns/op") // a second, and says nothing
		})
	}
}
