//go:build unix

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/anchor-go/anchor/internal/chaos/pause"
)

// Mutant is the library with one mistake planted. No line of it is in the source: the worker program is built with an
// overlay, in which texts of some files are replaced by others.
type Mutant struct {
	Name  string
	Check string // which is to catch it
	edits []edit
	harm  func(ctx context.Context, s *Suite, n int, t *tally) error
	n     int
}

// Slow mutants show only by what does not happen. The tests leave them to make chaos.
func (m Mutant) Slow() bool { return m.Check == "I8" }

// edit replaces a text that a file has once.
type edit struct{ file, old, new string }

const core = "migrations/0001_core.sql"

// noReaper lets the open transaction of a stopped worker live, which would hide a missing guard.
var noReaper = edit{core, "perform pg_terminate_backend(l.pid) from", "perform l.pid from"}

// Mutants are the mistakes that the suite must find, each with the fault that brings it out.
var Mutants = []Mutant{
	{"a handler's transaction completes by id and state alone", "I2", []edit{{
		core, "where t.id = p_id and t.slot = 0 and t.status = 'running' and t.claim_token = p_token\n    returning", "where t.id = p_id and t.slot = 0 and t.status = 'running'\n    returning",
	}, noReaper}, stopAt("before-commit", Write), 6},
	{"a lost claim does not roll the handler's writes back", "I2", []edit{{
		core, "if not found then\n    raise exception 'anchor: the claim on task % is lost', p_id using errcode = 'AN001';\n  end if;\n  if v_tag is not null then\n    delete from {schema}.anchor_unique_tags u where u.tag = v_tag and u.task_id = p_id and u.while_live;\n  end if;\nend\n$$;\n\n-- Locks one claim",
		"if v_tag is not null then\n    delete from {schema}.anchor_unique_tags u where u.tag = v_tag and u.task_id = p_id and u.while_live;\n  end if;\nend\n$$;\n\n-- Locks one claim",
	}, noReaper}, stopAt("before-commit", Write), 6},
	{"a batch is completed by id and state alone", "I2", []edit{{
		core, "t.status <> 'pending' and t.claim_token = c.token\n    returning t.id, t.unique_tag)", "t.status <> 'pending'\n    returning t.id, t.unique_tag)",
	}}, stopAt("before-finish", NoOp), 6},
	{"a claim counts no attempt", "I5", []edit{
		{core, "attempts = t.attempts + 1, worker_id = p_worker, claim_token = p_token,\n            started_at", "worker_id = p_worker, claim_token = p_token,\n            started_at"},
		{core, "attempts = t.attempts + 1, worker_id = p_worker, claim_token = p_token,\n                  started_at", "worker_id = p_worker, claim_token = p_token,\n                  started_at"},
	}, cutAt("claim"), 1},
	{"a claim is not noted", "I8", []edit{
		{core, "from kept k having count(*) > 0", "from kept k having false"},
		{core, "values (p_worker, p_token, v_part, v_ids[:v_got])", "select p_worker, p_token, v_part, v_ids where false"},
	}, killAtRandom, 4},
	{"what a dead worker began is not counted", "I4", []edit{{
		core, "next_run = case when x.cancel or x.exhausted then t.next_run else v_now end,", "next_run = case when x.cancel or x.exhausted then t.next_run else v_now end, attempts = t.attempts - 1,",
	}}, takeBackOnce, 1},
	{"a task whose last worker died fails without its hook", "I3", []edit{{
		"worker_attempt.go", "w.failForGood(task, def, policy, nil, failure)", "w.finisher.add(finishedAttempt{task: task, outcome: outcomeFailed, message: \"lost\"})",
	}}, poison, 1},
	{"a hook works outside of the transaction of the failure", "I3", []edit{{
		"store_pg_fail.go", "hookErr = failure.hook(ctx, hookTx{notedTx{point, &answered}})", "hookErr = pgx.BeginFunc(ctx, p.store.pool, func(own pgx.Tx) error { return failure.hook(ctx, hookTx{notedTx{own, &answered}}) })",
	}}, calm, 1},
	{"a claim whose answer was lost is forgotten", "I8", []edit{{
		"store_pg_claim.go", "p.remember(lostToken{worker: call.worker, token: call.token, claimed: true})", "_ = call.token",
	}}, cutAt("claim"), 3},
	{"a failed flush of finishes is dropped", "I8", []edit{{
		"worker_finish.go", "w.trouble(\"writing finished tasks failed, trying again\", err)", "w.trouble(\"writing finished tasks failed\", err)\n\t\tif err != nil {\n\t\t\treturn\n\t\t}",
	}}, cutAt("finish"), 2},
	{"nobody takes back", "I8", []edit{{
		"worker_lease.go", "func (w *worker) takeBack(ctx context.Context) {\n\tfor ctx.Err() == nil {", "func (w *worker) takeBack(ctx context.Context) {\n\tfor ctx == nil {",
	}}, killAtRandom, 4},
	{"handlers are not told that the lease is over", "I8", []edit{
		{"worker_lease.go", "w.running.loseClaims(beat.workerID)", "_ = beat"},
		{"worker_attempt.go", "w.running.loseClaims(\"\")", "_ = w"},
	}, zombies, 1},
	{"what a worker gives back is charged", "I4", []edit{{
		core, "attempts = t.attempts - case c.outcome when 'released' then 1 else 0 end,", "attempts = t.attempts,",
	}}, giveBack, 1},
	{"a unique tag that is held is no obstacle", "I6", []edit{{
		core, "on conflict (tag) do nothing;\n        exit when found;", "on conflict (tag) do nothing;\n        exit;",
	}}, uniqueTags, 500},
	{"a tick is not guarded", "I7", []edit{
		{"migrations/0002_schedules.sql", "j.version = x.version and j.next_run = x.due and j.next_run <= v_now", "j.version = x.version"},
		{"migrations/0002_schedules.sql", "and not exists (select from {schema}.anchor_cron_runs r where r.cron_id = x.id and r.tick = x.tick)", ""},
		{"migrations/0002_schedules.sql", "select s.cron_id, s.tick, s.task_id from spawned s),\n    counted", "select s.cron_id, s.tick, s.task_id from spawned s on conflict do nothing),\n    counted"},
		{"migrations/0002_schedules.sql", "order by j.id\n    for update of j skip locked);", "order by j.id\n    for update of j);"},
	}, lateTick, 1},
	{"a handler's own COMMIT goes unseen", "I1", []edit{
		{"store_pg_tx.go", "case 'I':\n\t\treturn Fatal(errHandlerTxEnded)\n\tcase 'E'", "case 'E'"},
		{core, "if current_setting('anchor.claim', true) is distinct from p_id || ':' || p_token then", "if false then"},
	}, misbehaviour(RawCommit), 4},
	{"a transaction's idle limit outlives it", "I9", []edit{{
		"store_pg_tx.go", "set_config('idle_in_transaction_session_timeout', $3::text, true)", "set_config('idle_in_transaction_session_timeout', $3::text, false)",
	}}, calm, 1},
	{"a listener does not come back", "I8", []edit{{
		"store_pg_listen.go", "\t\tl.listen(ctx)\n", "\t\tl.listen(ctx)\n\t\t<-ctx.Done()\n",
	}}, halfOpen, 1},
}

// Try builds a mutant and does to it what brings its mistake out. It answers the violations that were found, by check.
func (s *Suite) Try(ctx context.Context, m Mutant) (map[string]int, error) {
	folder, err := os.MkdirTemp(filepath.Dir(s.cluster.LogFile()), "mutant-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	overlay, err := s.overlay(folder, m.edits)
	if err != nil {
		return nil, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	mutated := *s
	mutated.report = func(string, ...any) {}
	if mutated.program, err = s.build(ctx, folder, "worker", overlay); err != nil {
		return nil, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	if mutated.ground, err = newGround(ctx, s.cluster, mutated.program); err != nil {
		return nil, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	// A mutant may go on for ever.
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var t tally
	err = m.harm(ctx, &mutated, m.n, &t)
	caught := map[string]int{}
	for _, v := range t.violations {
		caught[v.check]++
	}
	if err != nil && caught[m.Check] == 0 {
		return caught, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	return caught, nil
}

// overlay writes the edited files and what tells go build of them.
func (s *Suite) overlay(folder string, edits []edit) (string, error) {
	texts := map[string]string{}
	for _, e := range edits {
		text, ok := texts[e.file]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(s.source, e.file))
			if err != nil {
				return "", err
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("%s has the text to be changed %d times, want once: %q", e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		path := filepath.Join(folder, filepath.Base(file))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(s.source, file)] = path
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// takeBackOnce has a worker take back what another one left.
func takeBackOnce(ctx context.Context, s *Suite, _ int, t *tally) error {
	return s.inScene(ctx, s.ground, "take_back", t, func(c *scene) error {
		return c.strike(ctx, strikeRule{pause.Rule{Point: "in-takeback", Action: pause.Delay}, 1}, t)
	})
}

// calm does no harm: a worker does tasks of every kind, and is stopped.
func calm(ctx context.Context, s *Suite, _ int, t *tally) error {
	return s.inScene(ctx, s.ground, "calm", t, func(c *scene) error {
		if err := c.mixture(ctx, 50); err != nil {
			return err
		}
		_, err := c.start(ctx)
		return err
	})
}

// giveBack has a worker claim more than it will soon start: behind many quick tasks are some that take their time.
func giveBack(ctx context.Context, s *Suite, _ int, t *tally) error {
	return s.inScene(ctx, s.ground, "give_back", t, func(c *scene) error {
		c.setting.Concurrency = 1
		noted, err := c.enqueue(ctx, 600, NoOp, func(i int, p *Params) {
			if p.Note = true; i%200 == 199 {
				p.Millis = 1000
			}
		})
		if err != nil {
			return err
		}
		c.inspect = func(h *history, v *verdict) { v.checkStarts(h, noted) }
		_, err = c.start(ctx)
		return err
	})
}

// lateTick has a worker stop between reading which tick is due and making it, until another one has made that and more.
func lateTick(ctx context.Context, s *Suite, _ int, t *tally) error {
	return s.inScene(ctx, s.ground, "late_tick", t, func(c *scene) error {
		c.setting.Cron = "* * * * * *"
		victim, err := c.start(ctx, pause.Rule{Point: "before-tick-insert", Action: pause.Stop})
		if err != nil {
			return err
		}
		if err := victim.reaches(); err != nil {
			return err
		}
		if _, err := c.start(ctx); err != nil {
			return err
		}
		made := func(n int) error {
			return until(ctx, stillness, "ticks", func() (bool, error) {
				found, err := c.count(ctx, "select count(*) from anchor_tasks where attributes->>'scheduledFor' is not null")
				return found >= n, err
			})
		}
		if err := made(2); err != nil {
			return err
		}
		if err := victim.signal(syscall.SIGCONT); err != nil {
			return err
		}
		if err := made(5); err != nil {
			return err
		}
		return c.endTicks(ctx)
	})
}

// stopAt is a worker that is stopped at a point, and wakes while its tasks run elsewhere. Not every one that wakes gets as far as
// to commit before it is told, so some mutants need several.
func stopAt(point string, deeds ...Deed) func(ctx context.Context, s *Suite, n int, t *tally) error {
	return func(ctx context.Context, s *Suite, n int, t *tally) error {
		return s.split(ctx, n, 1, func(ctx context.Context, _ int) error {
			return s.inScene(ctx, s.ground, "stop_"+point, t, func(c *scene) error {
				return c.strike(ctx, strikeRule{pause.Rule{Point: point, Action: pause.Stop, Attempt: 1}, 1}, t, deeds...)
			})
		})
	}
}
