//go:build unix

// Package proxy stands between a client and a PostgreSQL server, knows where messages begin and end, and can cut, stall
// or hold up a connection at a chosen statement.
package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// Act is what happens at a statement.
type Act int

const (
	// CutBefore closes the connection instead of passing the statement on.
	CutBefore Act = iota
	// CutAfter passes it on, waits until the server has answered (what it committed is durable), and closes the
	// connection without passing the answer on.
	CutAfter
	// CutDuring passes it on and closes the connection at once, so that nobody can tell what became of it.
	CutDuring
	// Hold passes it on after Rule.Delay.
	Hold
)

// Rule says what happens at the next statement whose text contains Statement, or equals it if Whole is set.
type Rule struct {
	Statement string
	Whole     bool
	Act       Act
	Delay     time.Duration
}

func (r Rule) matches(sql string) bool {
	if r.Whole {
		return strings.EqualFold(sql, r.Statement)
	}
	return strings.Contains(sql, r.Statement)
}

// Proxy passes connections on. It is safe for concurrent use.
type Proxy struct {
	listener net.Listener
	network  string
	server   string
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[*link]struct{}
	rule  *Rule
	fired chan struct{} // of rule
	ended bool
	mute  bool
}

// Start starts a proxy on a free port of 127.0.0.1 in front of a server.
func Start(network, server string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, network: network, server: server, conns: map[*link]struct{}{}}
	p.serving.Go(p.accept)
	return p, nil
}

// Port is where the proxy listens.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Close cuts all connections and waits for the end of what serves them.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.CutAll()
	p.serving.Wait()
}

// Arm sets the rule, which acts once. The channel is closed when it has.
func (p *Proxy) Arm(r Rule) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.fired = &r, make(chan struct{})
	return p.fired
}

// Disarm takes the rule back. It is false when the rule has acted.
func (p *Proxy) Disarm() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	armed := p.rule != nil
	p.rule = nil
	return armed
}

// match takes the rule for a statement.
func (p *Proxy) match(sql string) (Rule, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sql == "" || p.rule == nil || !p.rule.matches(sql) {
		return Rule{}, false
	}
	r := *p.rule
	p.rule = nil
	close(p.fired)
	return r, true
}

// StallAll stops all present connections from passing anything on, in either direction, for good. Their sockets stay
// open. It answers how many.
func (p *Proxy) StallAll() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.conns {
		l.stall()
	}
	return len(p.conns)
}

// Silence is StallAll of all connections, those to come included: these are accepted, and never answered.
func (p *Proxy) Silence() {
	p.mu.Lock()
	p.mute = true
	p.mu.Unlock()
	p.StallAll()
}

// CutStalled closes the connections that have stalled, as the operating system would after its own time.
func (p *Proxy) CutStalled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.conns {
		select {
		case <-l.stalled:
			l.cut()
		default:
		}
	}
}

// CutAll closes all present connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.conns {
		l.cut()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout(p.network, p.server, 5*time.Second)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{proxy: p, client: client, server: server, ended: ctx.Done(), end: cancel, stalled: make(chan struct{})}
	defer l.cut()
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.conns[l] = struct{}{}
	mute := p.mute
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, l)
		p.mu.Unlock()
	}()
	if mute {
		l.stall()
		_ = l.pass()
		return
	}
	fromClient := bufio.NewReader(client)
	fromServer := bufio.NewReader(server)
	if err := l.open(fromClient, fromServer); err != nil {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() { l.down(fromServer) })
	l.up(fromClient)
	l.cut()
	answers.Wait()
}

// link is one client's connection and the server's that belongs to it.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	ended          <-chan struct{}
	end            context.CancelFunc
	stalled        chan struct{}
	stallOnce      sync.Once

	mu      sync.Mutex
	swallow bool // the answers to a statement: then the connection is cut
}

func (l *link) stall() { l.stallOnce.Do(func() { close(l.stalled) }) }

// cut resets both connections, so that no end waits for the other.
func (l *link) cut() {
	l.end()
	_ = l.client.Close()
	_ = l.server.Close()
}

var errEnded = errors.New("the connection is over")

// pass waits at a stalled connection until it is cut.
func (l *link) pass() error {
	select {
	case <-l.stalled:
		<-l.ended
		return errEnded
	case <-l.ended:
		return errEnded
	default:
		return nil
	}
}

// open passes on what comes before a session's first message: nobody is asked for a password here.
func (l *link) open(client, server *bufio.Reader) error {
	for {
		m, err := readOpening(client)
		if err != nil {
			return err
		}
		if _, err := l.server.Write(m.raw); err != nil {
			return err
		}
		switch m.code() {
		case sslRequest, gssRequest:
			answer, err := server.ReadByte()
			if err != nil {
				return err
			}
			if _, err := l.client.Write([]byte{answer}); err != nil {
				return err
			}
		case cancelRequest:
			// The server closes the connection when it is done.
			_, err := server.ReadByte()
			return errors.Join(errEnded, err)
		default:
			return nil
		}
	}
}

// up passes on what the client sends.
func (l *link) up(from *bufio.Reader) {
	known := statements{}
	cutAtSync := false
	for {
		m, err := readMessage(from)
		if err != nil || l.pass() != nil {
			return
		}
		if rule, ok := l.proxy.match(known.sql(m)); ok {
			switch rule.Act {
			case CutBefore:
				return
			case CutAfter:
				l.mu.Lock()
				l.swallow = true
				l.mu.Unlock()
			case CutDuring:
				cutAtSync = true
			case Hold:
				select {
				case <-time.After(rule.Delay):
				case <-l.ended:
					return
				}
			}
		}
		if _, err := l.server.Write(m.raw); err != nil {
			return
		}
		// A flight ends with Sync; a simple query is one of its own.
		if cutAtSync && (m.kind == 'S' || m.kind == 'Q') {
			return
		}
	}
}

// down passes on what the server answers.
func (l *link) down(from *bufio.Reader) {
	defer l.cut()
	for {
		m, err := readMessage(from)
		if err != nil || l.pass() != nil {
			return
		}
		l.mu.Lock()
		swallow := l.swallow
		l.mu.Unlock()
		if swallow {
			if m.kind == 'Z' {
				return
			}
			continue
		}
		if _, err := l.client.Write(m.raw); err != nil {
			return
		}
	}
}
