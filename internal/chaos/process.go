//go:build unix

package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anchor-go/anchor/internal/chaos/pause"
)

// process is a worker process.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{}
	hit   chan string   // each pause point that has acted
	ended chan struct{} // closed once it is reaped

	mu   sync.Mutex
	bye  *farewell
	kept bool // its end is expected
}

// startProcess starts the worker program. It ends with this process at the latest.
func startProcess(program string, s setting, rules []pause.Rule, stderr io.Writer) (*process, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	ruleText, err := json.Marshal(rules)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	if len(rules) > 0 {
		cmd.Env = append(cmd.Env, pause.Variable+"="+string(ruleText))
	}
	cmd.Stderr = stderr
	// In a group of its own it gets a SIGHUP when this process is killed, which also wakes one that is stopped.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin, ready: make(chan struct{}), hit: make(chan string, 100), ended: make(chan struct{})}
	go p.read(stdout)
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch point, isHit := strings.CutPrefix(line, "hit "); {
		case line == "ready":
			close(p.ready)
		case isHit:
			p.hit <- point
		default:
			var bye farewell
			if json.Unmarshal([]byte(line), &bye) == nil {
				p.mu.Lock()
				p.bye = &bye
				p.mu.Unlock()
			}
		}
	}
	_ = p.cmd.Wait()
	close(p.ended)
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) signal(s syscall.Signal) error {
	if p.hasEnded() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.pid(), s)
}

// reaches waits for the next pause point that acts.
func (p *process) reaches() error {
	select {
	case <-p.hit:
		return nil
	case <-time.After(20 * time.Second):
		return errors.New("no pause point was reached")
	}
}

// kill ends it and waits.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.ended
	_ = p.stdin.Close()
}

// stop ends it by SIGTERM, and tells how long that took and what it said.
func (p *process) stop(patience time.Duration) (took time.Duration, bye *farewell, err error) {
	p.mu.Lock()
	p.kept = true
	p.mu.Unlock()
	began := time.Now()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return 0, nil, err
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		return time.Since(began), nil, fmt.Errorf("it did not end within %v of SIGTERM", patience)
	}
	_ = p.stdin.Close()
	took = time.Since(began)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cmd.ProcessState.Success() {
		return took, nil, errors.New(p.cmd.ProcessState.String())
	}
	if p.bye == nil {
		return took, nil, errors.New("it ended without a word")
	}
	return took, p.bye, nil
}
