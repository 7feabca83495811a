//go:build unix

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

// workerVariable holds the setting of a worker process.
const workerVariable = "ANCHOR_CHAOS_WORKER"

// setting is what a worker process is told.
type setting struct {
	URL             string
	Migrate         bool // do that, and nothing else
	Concurrency     int
	Connections     int32 // of the pool
	Lease           time.Duration
	PollInterval    time.Duration
	ShutdownTimeout time.Duration
	Cron            string // the schedule that the task declares, "" for none
	Isolation       string // of every transaction, "" for the server's
}

// tickKey is the key of the instances of a schedule.
const tickKey = "tick"

// farewell is what a worker process says at its end.
type farewell struct {
	Goroutines  []string  // of this library or the driver, that are left
	Acquired    int32     // connections of the pool that somebody still holds
	LeftSetting string    // what the pool's connections should have forgotten
	Returned    time.Time // when Work returned
}

// RunWorker is the worker program.
func RunWorker() error {
	var s setting
	if err := json.Unmarshal([]byte(os.Getenv(workerVariable)), &s); err != nil {
		return fmt.Errorf("%s: %w", workerVariable, err)
	}
	// Whoever started this process has it end with itself.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(4)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := pgxpool.ParseConfig(s.URL)
	if err != nil {
		return err
	}
	config.MaxConns = max(s.Connections, 1)
	config.ConnConfig.RuntimeParams["application_name"] = fmt.Sprintf("worker %d", os.Getpid())
	if s.Isolation != "" {
		config.ConnConfig.RuntimeParams["default_transaction_isolation"] = s.Isolation
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	store := anchor.NewPGStore(pool)
	if s.Migrate {
		return store.Migrate(ctx)
	}
	// What a handler writes at once must not wait for connections that other handlers' transactions hold.
	config.MaxConns = 4
	notes, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer notes.Close()
	task := Define(notes)
	if s.Cron != "" {
		task.Cron(s.Cron, &Params{Key: tickKey, Do: Write}, anchor.WithCatchUp(anchor.CatchUpAll))
	}
	client, err := anchor.New(store, anchor.WithTasks(task), anchor.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	err = client.Work(ctx, anchor.WithConcurrency(s.Concurrency), anchor.WithLease(s.Lease), anchor.WithPollInterval(s.PollInterval),
		anchor.WithShutdownTimeout(s.ShutdownTimeout))
	if err != nil {
		return err
	}
	returned := time.Now()
	notes.Close()
	bye := leave(pool)
	bye.Returned = returned
	return json.NewEncoder(os.Stdout).Encode(bye)
}

// leave looks for what a worker left behind when it returned.
func leave(pool *pgxpool.Pool) farewell {
	var f farewell
	// The driver closes a connection whose call was cut in the background.
	for range 500 {
		if f.Acquired = pool.Stat().AcquiredConns(); f.Acquired == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if f.Acquired > 0 {
		return f
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, conn := range pool.AcquireAllIdle(ctx) {
		f.LeftSetting += leftSetting(ctx, conn.Conn())
		conn.Release()
	}
	pool.Close()
	// What has just ended may take a moment to be gone.
	for range 100 {
		if f.Goroutines = goroutines(); len(f.Goroutines) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return f
}

func leftSetting(ctx context.Context, conn *pgx.Conn) string {
	var idle, claim string
	var locks int
	err := conn.QueryRow(ctx, `select current_setting('idle_in_transaction_session_timeout'), coalesce(current_setting('anchor.claim', true), ''),
  (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())`).Scan(&idle, &claim, &locks)
	if err != nil || idle == "0" && claim == "" && locks == 0 {
		return "" // a connection that has died holds nothing
	}
	return fmt.Sprintf("idle limit %s, claim %q, %d advisory locks; ", idle, claim, locks)
}

// goroutines are the stacks that this library or the driver has part in, but for what may be there: the one that asks,
// handlers that ignore their context and what waits for those, and connections that the driver closes in its own time.
func goroutines() []string {
	var text strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&text, 2)
	handlers := strings.Contains(text.String(), "chaos.handle(")
	var found []string
	for _, stack := range strings.Split(text.String(), "\n\n") {
		switch {
		case strings.Contains(stack, "chaos.RunWorker("), strings.Contains(stack, "chaos.handle("), strings.Contains(stack, ".asyncClose"):
		case handlers && strings.Contains(stack, "anchor.(*worker).drain.func1("):
		case strings.Contains(stack, "anchor-go/anchor."), strings.Contains(stack, "jackc/"):
			found = append(found, stack)
		}
	}
	return found
}
