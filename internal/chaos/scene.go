//go:build unix

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/chaos/pause"
	"github.com/anchor-go/anchor/internal/chaos/proxy"
	"github.com/anchor-go/anchor/internal/testdb"
)

// scene is one database with workers, an enqueuer's log and a verdict.
type scene struct {
	suite   *Suite
	ground  *ground
	name    string
	url     string
	setting setting
	allow   []string // SQLSTATEs that the fault may bring into the server's log

	db     *pgxpool.Pool // the suite's own
	task   *anchor.Task[Params]
	client *anchor.Client
	keys   atomic.Int64
	stderr syncBuffer // of all workers

	mu      sync.Mutex
	log     []enqueued
	verdict verdict
	workers []*process

	// inspect has a look at the history beside the checker, if it is not nil.
	inspect func(h *history, v *verdict)

	proxy *proxy.Proxy // nil: none

	keeping  sync.WaitGroup
	stopKeep context.CancelFunc
}

// alwaysAllowed are SQLSTATEs of the server's log that say nothing about a promise: a row that another transaction has
// moved (handled by the library), a lease that is over, the end of a dead worker's backend, a client that is gone, a
// statement whose context has ended, and a notification or a claim that would not wait.
var alwaysAllowed = []string{"40001", "AN001", "57P01", "08006", "57014", "55P03"}

// newScene makes a scene in a database of its own. The caller ends it with judge, or close.
func (s *Suite) newScene(ctx context.Context, g *ground, name string) (*scene, error) {
	c := &scene{suite: s, ground: g, name: testdb.Name(name)}
	var err error
	if c.url, err = testdb.Copy(ctx, g.cluster.URL(), c.name, g.template); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(c.url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 8
	config.ConnConfig.RuntimeParams["application_name"] = "suite"
	if c.db, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	c.setting = setting{
		URL: c.url, Concurrency: 10, Connections: 12, Lease: lease, PollInterval: pollInterval, ShutdownTimeout: 2 * time.Second,
	}
	c.task, c.client, err = newEnqueuer(c.db)
	return c, err
}

func newEnqueuer(pool *pgxpool.Pool) (*anchor.Task[Params], *anchor.Client, error) {
	task := Define(nil)
	client, err := anchor.New(anchor.NewPGStore(pool), anchor.WithTasks(task))
	return task, client, err
}

// proxied puts a proxy between the database and workers that start from now on, and answers its URL.
func (c *scene) proxied() (string, error) {
	server := c.db.Config().ConnConfig
	network, address := pgconn.NetworkAddress(server.Host, server.Port)
	var err error
	if c.proxy, err = proxy.Start(network, address); err != nil {
		return "", err
	}
	c.setting.URL = fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", server.User, c.proxy.Port(), c.name)
	return c.setting.URL, nil
}

// close ends whatever is left of the scene.
func (c *scene) close() {
	if c.stopKeep != nil {
		c.stopKeep()
		c.keeping.Wait()
	}
	for _, p := range c.processes() {
		p.kill()
	}
	c.db.Close()
	if c.proxy != nil {
		c.proxy.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := testdb.Drop(ctx, c.ground.cluster.URL(), c.name); err != nil {
		c.suite.report("%v", err)
	}
}

// params are those of a new task.
func (c *scene) params(deed Deed) *Params {
	return &Params{Key: strconv.FormatInt(c.keys.Add(1), 10), Do: deed}
}

// enqueue enqueues n tasks in one call, and notes them. change is applied to each one's parameters, if it is not nil.
func (c *scene) enqueue(ctx context.Context, n int, deed Deed, change func(i int, p *Params), opts ...anchor.RunOption) ([]int64, error) {
	params := make([]*Params, n)
	for i := range params {
		params[i] = c.params(deed)
		if change != nil {
			change(i, params[i])
		}
	}
	ids, err := c.task.RunMany(ctx, c.client, params, opts...)
	if err != nil {
		return nil, fmt.Errorf("enqueue %d tasks: %w", n, err)
	}
	for i, p := range params {
		c.note(enqueued{key: p.Key, deed: p.Do, id: ids[i]})
	}
	return ids, nil
}

func (c *scene) note(e enqueued) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, e)
}

// open says that the fault may use up the attempts of every task that was enqueued so far.
func (c *scene) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.log {
		c.log[i].open = true
	}
}

func (c *scene) violation(check, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdict.add(check, format, args...)
}

// start starts one worker that acts by rules, and waits until it works.
func (c *scene) start(ctx context.Context, rules ...pause.Rule) (*process, error) {
	p, err := startProcess(c.suite.program, c.setting, rules, &c.stderr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.workers = append(c.workers, p)
	c.mu.Unlock()
	select {
	case <-p.ready:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("a worker ended at its start: %v\n%s", p.cmd.ProcessState, c.stderr.tail())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep starts n workers, and another one for each that ends, until the scene is judged.
func (c *scene) keep(ctx context.Context, n int) error {
	for range n {
		if _, err := c.start(ctx); err != nil {
			return err
		}
	}
	keepCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.stopKeep = cancel
	c.keeping.Go(func() {
		for sleep(keepCtx, 20*time.Millisecond) == nil {
			if len(c.processes()) >= n {
				continue
			}
			// One that the fault ends before it works is followed by another.
			_, _ = c.start(keepCtx)
		}
	})
	return nil
}

// processes are the workers that have not ended.
func (c *scene) processes() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers = slices.DeleteFunc(c.workers, (*process).hasEnded)
	return slices.Clone(c.workers)
}

// workerIDs are the ids under which a process is on record.
func (c *scene) workerIDs(ctx context.Context, p *process) ([]string, error) {
	rows, err := c.db.Query(ctx, "select id::text from anchor_workers where pid = $1", p.pid())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (c *scene) count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = c.db.QueryRow(ctx, query, args...).Scan(&n)
	return n, err
}

const countUnfinished = "select count(*) from anchor_tasks where slot = 0"

// settled waits until every task is final, for as long as something changes now and then (I8).
func (c *scene) settled(ctx context.Context) error {
	last, changed := int64(-1), time.Now()
	for {
		var unfinished, due int
		var seq int64
		err := c.db.QueryRow(ctx, `select count(*), count(*) filter (where status = 'running' or next_run <= clock_timestamp()),
  (select coalesce(max(seq), 0) from audit) from anchor_tasks where slot = 0`).Scan(&unfinished, &due, &seq)
		if err != nil {
			return fmt.Errorf("look for unfinished tasks: %w", err)
		}
		switch {
		case unfinished == 0:
			return nil
		case seq != last || due == 0:
			last, changed = seq, time.Now()
		case time.Since(changed) > stillness:
			c.violation("I8", "%d tasks are not final, and nothing has changed for %v", unfinished, stillness)
			return nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// judge is the end of a scene whose faults are over: it waits until all tasks are final, stops the workers, checks
// every invariant, and adds what it found to the tally. It closes the scene.
func (c *scene) judge(ctx context.Context, t *tally) error {
	defer c.close()
	if err := c.settled(ctx); err != nil {
		return c.broken(err)
	}
	c.stopWorkers()
	if err := c.checkDatabase(ctx); err != nil {
		return c.broken(err)
	}
	h, err := readHistory(ctx, c.db)
	if err != nil {
		return c.broken(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdict.checkTasks(h, c.log)
	c.verdict.checkTags(h)
	if c.inspect != nil {
		c.inspect(h, &c.verdict)
	}
	t.add(c, len(h.tasks))
	return nil
}

// broken is an error of the suite itself, with what the workers have said.
func (c *scene) broken(err error) error {
	return fmt.Errorf("%s: %w\n%s", c.name, err, c.stderr.tail())
}

func (t *tally) add(c *scene, tasks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tasks += tasks
	t.violations = append(t.violations, c.verdict.violations...)
	if len(c.verdict.violations) > 0 {
		c.suite.report("%s: %d violations, first %v\n%s", c.name, len(c.verdict.violations), c.verdict.violations[0], c.stderr.tail())
	}
}

// stopWorkers stops all workers and looks at what they left behind (I9).
func (c *scene) stopWorkers() {
	if c.stopKeep != nil {
		c.stopKeep()
		c.keeping.Wait()
	}
	var stopping sync.WaitGroup
	for _, p := range c.processes() {
		stopping.Go(func() {
			_, bye, err := p.stop(30 * time.Second)
			if err != nil {
				c.violation("I9", "a worker that was stopped: %v", err)
				return
			}
			c.checkFarewell(bye)
		})
	}
	stopping.Wait()
}

// checkFarewell looks at what a worker that was stopped has left behind (I9).
func (c *scene) checkFarewell(bye *farewell) {
	for _, stack := range bye.Goroutines {
		c.violation("I9", "a worker has left a goroutine behind: %s", stack)
	}
	if bye.Acquired != 0 {
		c.violation("I9", "a worker has left %d connections in use", bye.Acquired)
	}
	if bye.LeftSetting != "" {
		c.violation("I9", "a worker has left settings behind: %s", bye.LeftSetting)
	}
}

// checkDatabase looks for what the workers left in the database (I8, I9), and in the server's log (I10).
func (c *scene) checkDatabase(ctx context.Context) error {
	// A backend whose client is gone ends a moment later.
	const backends = `select count(*) from pg_stat_activity where datname = current_database() and application_name like 'worker %'`
	if err := until(ctx, 10*time.Second, "the end of all backends of workers", func() (bool, error) {
		n, err := c.count(ctx, backends)
		return n == 0, err
	}); err != nil {
		c.violation("I9", "%v", err)
	}
	n, err := c.count(ctx, `select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`)
	if err != nil {
		return err
	}
	if n > 0 {
		c.violation("I8", "%d advisory locks are left", n)
	}
	errs, err := c.ground.log.of(c.name)
	if err != nil {
		return err
	}
	allowed := append(slices.Clone(alwaysAllowed), c.allow...)
	for _, e := range errs {
		if !slices.Contains(allowed, e.state) {
			c.violation("I10", "the server's log has %s %s", e.state, e.text)
		}
	}
	return nil
}

// syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buffer.Len() > 1<<20 {
		b.buffer.Next(1 << 19)
	}
	return b.buffer.Write(p)
}

// tail is the end of what was written.
func (b *syncBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(b.buffer.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// inScene makes a scene, lets f do its harm in it, and judges.
func (s *Suite) inScene(ctx context.Context, g *ground, name string, t *tally, f func(c *scene) error) error {
	c, err := s.newScene(ctx, g, name)
	if err != nil {
		return err
	}
	if err := f(c); err != nil {
		err = c.broken(err)
		c.close()
		return err
	}
	return c.judge(ctx, t)
}
