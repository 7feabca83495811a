//go:build unix

// Package pause acts at the pause points of a worker that was built with the tag chaos. What it does is told to the
// process by an environment variable when it starts.
package pause

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Variable holds the rules of a process, a JSON list of [Rule].
const Variable = "ANCHOR_CHAOS_PAUSE"

// Action is what happens at a point.
type Action string

const (
	Kill  Action = "kill"  // SIGKILL to the own process
	Stop  Action = "stop"  // SIGSTOP to the own process
	Delay Action = "delay" // for as long as the rule says
	Error Action = "error" // the point's call fails
)

// Rule says what happens at one point, once.
type Rule struct {
	Point  string
	Action Action
	// Attempt is the attempt that it is for, 0 for any. Points without one are passed with 0.
	Attempt int
	// Skip is how often the point is passed before it acts.
	Skip  int
	Delay time.Duration
}

func (r Rule) String() string { return fmt.Sprintf("%s at %s", r.Action, r.Point) }

// ErrInjected is what a point answers for [Error].
var ErrInjected = errors.New("injected by a fault test")

var (
	mu    sync.Mutex
	rules []Rule
)

func init() {
	text := os.Getenv(Variable)
	if text == "" {
		return
	}
	if err := json.Unmarshal([]byte(text), &rules); err != nil {
		panic(Variable + ": " + err.Error())
	}
}

// At is a pause point. Before it acts it says so in a line on stdout: "hit" and the point.
func At(point string, attempt int) error {
	rule, ok := next(point, attempt)
	if !ok {
		return nil
	}
	fmt.Println("hit", point)
	switch rule.Action {
	case Kill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case Stop:
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case Delay:
		time.Sleep(rule.Delay)
	case Error:
		return ErrInjected
	}
	return nil
}

// next takes the rule out that is for this point now.
func next(point string, attempt int) (Rule, bool) {
	mu.Lock()
	defer mu.Unlock()
	for i := range rules {
		r := &rules[i]
		if r.Point != point || r.Attempt != 0 && r.Attempt != attempt {
			continue
		}
		if r.Skip > 0 {
			r.Skip--
			continue
		}
		rule := *r
		rules = append(rules[:i], rules[i+1:]...)
		return rule, true
	}
	return Rule{}, false
}
