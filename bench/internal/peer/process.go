package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/anchor-go/anchor/bench/internal/protocol"
)

// Process is a measured process. Its methods are for one goroutine.
type Process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan protocol.Event
	stderr *bytes.Buffer
	peak   float64 // bytes resident, the most that was seen
	// OnTick hears every Tick.
	OnTick func(protocol.Event)
}

// waitLimit bounds the wait for one event: a process that says nothing for so long has hung.
const waitLimit = 10 * time.Minute

// Start runs a process of the site's peer on the site's queue. The caller ends it with Close.
func (s *Site) Start(ctx context.Context, spec protocol.Spec) (*Process, error) {
	spec.Peer, spec.Address = s.Peer.Name, s.address()
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	cmd, err := s.Peer.command(string(raw))
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, events: make(chan protocol.Event, 64), stderr: &bytes.Buffer{}}
	cmd.Stderr = p.stderr
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Peer.Name, err)
	}
	go p.read(stdout)
	if spec.Role == protocol.Migrate {
		return p, nil
	}
	if _, err := p.Wait(ctx, protocol.Ready); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Do runs a role that ends by itself.
func (s *Site) Do(ctx context.Context, spec protocol.Spec, onTick func(protocol.Event)) (protocol.Event, error) {
	p, err := s.Start(ctx, spec)
	if err != nil {
		return protocol.Event{}, err
	}
	p.OnTick = onTick
	if err := p.Go(); err != nil {
		return protocol.Event{}, errors.Join(err, p.Close())
	}
	done, err := p.Wait(ctx, protocol.Done)
	return done, errors.Join(err, p.Close())
}

func (p *Process) read(stdout io.Reader) {
	defer close(p.events)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 64<<20) // samples come in one line
	for lines.Scan() {
		var e protocol.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // a library that prints to stdout
		}
		p.events <- e
	}
}

// Go lets the process begin.
func (p *Process) Go() error { return p.command(protocol.Go) }

func (p *Process) command(name string) error {
	_, err := io.WriteString(p.stdin, name+"\n")
	return err
}

// Wait reads events up to the one of that name. Ticks go to OnTick.
func (p *Process) Wait(ctx context.Context, name string) (protocol.Event, error) {
	limit := time.NewTimer(waitLimit)
	defer limit.Stop()
	for {
		select {
		case <-ctx.Done():
			return protocol.Event{}, ctx.Err()
		case <-limit.C:
			return protocol.Event{}, fmt.Errorf("no %q within %v\n%s", name, waitLimit, p.tail())
		case e, ok := <-p.events:
			switch {
			case !ok:
				return e, fmt.Errorf("the process ended before %q\n%s", name, p.tail())
			case e.Event == protocol.Failed:
				return e, fmt.Errorf("%s\n%s", e.Error, p.tail())
			case e.Event == name:
				return e, nil
			case e.Event == protocol.Tick:
				p.sample()
				if p.OnTick != nil {
					p.OnTick(e)
				}
			}
		}
	}
}

// For handles ticks for a while.
func (p *Process) For(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_, err := p.Wait(ctx, "nothing")
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// Usage asks for what the process has spent.
func (p *Process) Usage(ctx context.Context) (protocol.Event, error) {
	if err := p.command(protocol.Usage); err != nil {
		return protocol.Event{}, err
	}
	return p.Wait(ctx, protocol.Usage)
}

// Stop drains a worker, waits for its process to end, and answers its last event.
func (p *Process) Stop(ctx context.Context) (protocol.Event, error) {
	if err := p.command(protocol.Stop); err != nil {
		return protocol.Event{}, err
	}
	stopped, err := p.Wait(ctx, protocol.Stopped)
	return stopped, errors.Join(err, p.Close())
}

// Close ends the process, politely if it does not linger.
func (p *Process) Close() error {
	_ = p.stdin.Close()
	kill := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.events { // lets the reader end
	}
	_ = p.cmd.Wait() // what went wrong was told as an event
	return nil
}

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.Close()
}

func (p *Process) tail() string {
	const most = 2000
	text := p.stderr.String()
	return text[max(0, len(text)-most):]
}

// Resident is the process's memory in bytes now, 0 where /proc is missing.
func (p *Process) Resident() float64 { return p.status("VmRSS:") }

// Peak is the most it ever was.
func (p *Process) Peak() float64 { p.sample(); return p.peak }

func (p *Process) sample() { p.peak = max(p.peak, p.status("VmHWM:")) }

func (p *Process) status(field string) float64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kilobytes, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kilobytes * 1024
		}
	}
	return 0
}
