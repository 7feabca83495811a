package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

// statementParams say whose statement is to be sent.
type statementParams struct {
	Customer string `json:"customer"`
}

// customer gets a statement at nine o'clock, wherever that is.
type customer struct{ name, timeZone string }

var customers = []customer{
	{"ada", "Europe/London"},
	{"grace", "America/New_York"},
	{"hedy", "Asia/Tokyo"},
}

// program has the tasks, and tells what happens.
type program struct {
	heartbeat *anchor.Task[struct{}]
	statement *anchor.Task[statementParams]
	client    *anchor.Client

	mu    sync.Mutex // guards out: handlers run concurrently
	out   io.Writer
	beats chan time.Time // the ticks that ran
}

func newProgram(out io.Writer) *program {
	p := &program{out: out, beats: make(chan time.Time, 100)}

	// A declared schedule is part of the code: every worker keeps it in step with the database. Its name is the
	// task's. Six fields begin with the seconds.
	p.heartbeat = anchor.Define("Heartbeat", p.beat).
		Cron("* * * * * *", &struct{}{}, anchor.WithCatchUp(anchor.CatchUpNone))

	// This one has a schedule for each customer, made at run time.
	p.statement = anchor.Define("SendStatement", p.send, anchor.WithRetryPolicy("1m,5m,30m", 10))
	return p
}

func (p *program) tell(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *program) beat(ctx context.Context, _ pgx.Tx, _ *struct{}) error {
	// An instance carries its tick, so a retry or a catch-up knows which time it stands for.
	task, _ := anchor.TaskFromContext(ctx)
	p.tell("  heartbeat of %s", task.ScheduledFor.Format("15:04:05"))
	select {
	case p.beats <- task.ScheduledFor:
	default:
	}
	return nil
}

func (p *program) send(ctx context.Context, _ pgx.Tx, s *statementParams) error {
	task, _ := anchor.TaskFromContext(ctx)
	p.tell("  the statement of %s, as of %s", s.Customer, task.ScheduledFor.Format("2006-01-02 15:04 -0700"))
	return nil
}

func scheduleName(c customer) string { return "statement/" + c.name }

// scheduleAll may run at every start of a program: a schedule that is as it was goes on undisturbed.
func (p *program) scheduleAll(ctx context.Context) error {
	for _, c := range customers {
		err := p.statement.Schedule(ctx, p.client, scheduleName(c), "0 9 * * *", &statementParams{Customer: c.name},
			anchor.WithTimeZone(c.timeZone),
			anchor.WithCatchUp(anchor.CatchUpOne),
			anchor.WithRunOptions(anchor.WithPriority(10)),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// show lists the schedules that there are.
func (p *program) show(ctx context.Context) error {
	schedules, err := p.client.Crons(ctx)
	if err != nil {
		return err
	}
	for _, s := range schedules {
		state := "next " + s.NextRun.Format("2006-01-02 15:04:05 -0700")
		if !s.Enabled {
			state = "paused"
		}
		p.tell("  %-16s %-12s %-17s %s", s.Name, s.Expression, s.TimeZone, state)
	}
	return nil
}

// demonstrate takes the schedules through what an operator does with them.
func (p *program) demonstrate(ctx context.Context) error {
	p.tell("The declared schedule ticks every second.")
	// A program that was stopped in the middle has left it paused; an operator's pause outlives a start.
	if err := p.client.ResumeCron(ctx, "Heartbeat"); err != nil && !errors.Is(err, anchor.ErrCronNotFound) {
		return err
	}
	if err := p.await(ctx, 3); err != nil {
		return err
	}

	p.tell("A schedule for each customer, at nine in their time zone.")
	if err := p.scheduleAll(ctx); err != nil {
		return err
	}
	if err := p.show(ctx); err != nil {
		return err
	}

	p.tell("One of them now, beside its ticks.")
	id, err := p.client.RunCronNow(ctx, scheduleName(customers[2]))
	if err != nil {
		return err
	}
	if _, err := p.client.Wait(ctx, id); err != nil {
		return err
	}

	p.tell("Pausing the heartbeat for a while.")
	if err := p.client.PauseCron(ctx, "Heartbeat"); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(2500 * time.Millisecond):
	}
	if err := p.show(ctx); err != nil {
		return err
	}

	p.tell("Resuming it: what was missed meanwhile is not made up for.")
	for len(p.beats) > 0 {
		<-p.beats
	}
	if err := p.client.ResumeCron(ctx, "Heartbeat"); err != nil {
		return err
	}
	if err := p.await(ctx, 2); err != nil {
		return err
	}

	p.tell("The customers leave, and their schedules with them.")
	for _, c := range customers {
		// Another run of this program may have been faster.
		if err := p.client.DeleteCron(ctx, scheduleName(c)); err != nil && !errors.Is(err, anchor.ErrCronNotFound) {
			return err
		}
	}
	return p.show(ctx)
}

// await waits for n heartbeats.
func (p *program) await(ctx context.Context, n int) error {
	for range n {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.beats:
		}
	}
	return nil
}
