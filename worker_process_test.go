//go:build unix

package anchor

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// workerVariable makes this test binary a worker process. Its value is a workerSetting.
const workerVariable = "ANCHOR_TEST_WORKER"

type workerSetting struct {
	URL         string
	Lease       time.Duration
	Concurrency int
	Cron        string // the schedule that the task declares, "" for none
	PollingOnly bool
	Webhook     string // where it posts its failures, "" for nowhere
}

func TestMain(m *testing.M) {
	if text := os.Getenv(workerVariable); text != "" {
		if err := runWorkerProcess(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// processParams say what a task does in a worker process.
type processParams struct {
	// Do is "" (write an effect), "poison" (end the process), "block" (write, then wait for the end of the context)
	// or "deaf" (write, then wait without looking at it, until the table gates holds something). "hook" is deaf in the
	// failure hook.
	Do string `json:"do"`
}

// defineProcessTask is the one task of worker processes. Every start of a handler is written at once, to starts.
func defineProcessTask(pool *pgxpool.Pool, opts ...TaskOption) *Task[processParams] {
	await := func(ctx context.Context) error {
		for open := false; !open; {
			if err := pool.QueryRow(context.WithoutCancel(ctx), "select exists (select from gates) from pg_sleep(0.05)").Scan(&open); err != nil {
				return err
			}
		}
		return nil
	}
	return Define("Process", func(ctx context.Context, tx pgx.Tx, p *processParams) error {
		info, _ := TaskFromContext(ctx)
		if p.Do != "" {
			if _, err := pool.Exec(ctx, "insert into starts (task_id, pid) values ($1, $2)", info.ID, os.Getpid()); err != nil {
				return err
			}
		}
		if p.Do == "poison" {
			os.Exit(3)
		}
		if err := noteEffect(ctx, tx, "handler"); err != nil {
			return err
		}
		switch p.Do {
		case "block":
			<-ctx.Done()
			return ctx.Err()
		case "deaf":
			return await(ctx)
		case "hook":
			return Fatal(errNoLuck)
		}
		return nil
	}, append(opts, WithRetryPolicy("1ms", 3))...).OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, p *processParams) error {
		err := noteEffect(ctx, tx, fmt.Sprintf("hook in %d", os.Getpid()))
		if err != nil || p.Do != "hook" {
			return err
		}
		if _, err := pool.Exec(ctx, "insert into starts select task_id, pid from starts limit 1"); err != nil {
			return err
		}
		return await(ctx)
	})
}

const createProcessTables = `create table starts (task_id bigint not null, pid int not null); create table gates (open int)`

func runWorkerProcess(text string) error {
	var setting workerSetting
	if err := json.Unmarshal([]byte(text), &setting); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := pgxpool.ParseConfig(setting.URL)
	if err != nil {
		return err
	}
	config.MaxConns = int32(2*setting.Concurrency + 2) // a handler holds its transaction's and asks for another
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var taskOpts []TaskOption
	if setting.Webhook != "" {
		taskOpts = append(taskOpts, WebhookOnFailed(setting.Webhook, WithWebhookAllow("127.0.0.1")))
	}
	task := defineProcessTask(pool, taskOpts...)
	if setting.Cron != "" {
		task.Cron(setting.Cron, &processParams{})
	}
	var opts []PGOption
	if setting.PollingOnly {
		opts = append(opts, WithPollingOnly())
	}
	client, err := New(NewPGStore(pool, opts...), WithTasks(task), WithLogger(logger))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return client.Work(ctx, WithLease(setting.Lease), WithConcurrency(setting.Concurrency), WithPollInterval(200*time.Millisecond))
}

// workerProcess is a running worker process, killed when the test ends.
type workerProcess struct {
	t     testing.TB
	pid   int
	ended chan error
}

func (r *pgRig) startProcess(lease time.Duration, concurrency int) *workerProcess {
	r.t.Helper()
	return r.startProcessWith(workerSetting{URL: r.url, Lease: lease, Concurrency: concurrency})
}

func (r *pgRig) startProcessWith(asked workerSetting) *workerProcess {
	r.t.Helper()
	program, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	setting, err := json.Marshal(asked)
	if err != nil {
		r.t.Fatal(err)
	}
	child := exec.Command(program)
	child.Env = append(os.Environ(), workerVariable+"="+string(setting))
	child.Stderr = r.logs
	output, err := child.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		r.t.Fatal(err)
	}
	p := &workerProcess{t: r.t, pid: child.Process.Pid, ended: make(chan error, 1)}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		r.t.Errorf("the worker process said %q, %v", line, err)
	}
	go func() { p.ended <- child.Wait(); close(p.ended) }()
	r.t.Cleanup(func() {
		_ = child.Process.Kill()
		receive(r.t, "end of a worker process", p.ended)
	})
	return p
}

func (p *workerProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(p.pid, s); err != nil {
		p.t.Fatalf("signal %v: %v", s, err)
	}
}

// exited waits for the process to end by itself.
func (p *workerProcess) exited() {
	p.t.Helper()
	receive(p.t, "end of a worker process", p.ended)
}
