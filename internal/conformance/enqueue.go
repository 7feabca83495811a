package conformance

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anchor-go/anchor"
)

var enqueueCases = []Case{
	{"run-is-visible", "A task is readable as it was enqueued when Run returns.", func(c *Check) {
		task := c.one(nil)
		id := c.enqueueWith(task, Params{N: 7}, anchor.WithPriority(3), anchor.WithUniqueTag(c.tag("t")), anchor.WithRetryPolicy("1m", 5))
		info := c.info(id)
		want := &anchor.TaskInfo{
			ID: id, Name: task.Name(), Queue: c.queue(), Priority: 3, Status: anchor.StatusPending, MaxAttempts: 5,
			UniqueTag: c.tag("t"), CreatedAt: info.CreatedAt, NextRun: info.CreatedAt, Params: info.Params,
		}
		c.equal("task", want, info)
		if info.CreatedAt.IsZero() {
			c.Errorf("CreatedAt is zero")
		}
	}},
	{"ids-grow", "A task that is enqueued later has a greater id.", func(c *Check) {
		task := c.one(nil)
		last := int64(0)
		for range 5 {
			id := c.enqueue(task)
			if id <= last {
				c.Errorf("id %d comes after %d", id, last)
			}
			last = id
		}
	}},
	{"params-survive", "Parameters come back as they were: large numbers, any text, nesting.", func(c *Check) {
		task := c.one(nil)
		params := Params{N: 1 << 40, Text: "a\t\"\\ü😀\u2028</script>", Any: map[string]any{"list": []any{1.5, nil, true, "x"}, "": map[string]any{}}}
		id := c.enqueueWith(task, params)
		var got Params
		c.must(json.Unmarshal(c.info(id).Params, &got))
		c.equal("params", params, got)
	}},
	{"run-many-keeps-order", "RunMany answers an id for each of its parameters, in their order.", func(c *Check) {
		task := c.one(nil)
		var many []*Params
		for n := range 200 {
			many = append(many, &Params{N: n})
		}
		ids, err := task.RunMany(c.ctx, c.client, many)
		c.must(err)
		if len(ids) != len(many) {
			c.Fatalf("%d ids for %d tasks", len(ids), len(many))
		}
		for _, n := range []int{0, 99, 199} {
			var got Params
			c.must(json.Unmarshal(c.info(ids[n]).Params, &got))
			c.equal(fmt.Sprintf("params[%d]", n), n, got.N)
		}
	}},
	{"run-many-is-all-or-nothing", "Of a RunMany with one bad entry nothing is enqueued.", func(c *Check) {
		task := c.one(nil)
		_, err := task.RunMany(c.ctx, c.client, []*Params{{N: 1}, {Text: "\x00"}, {N: 3}})
		c.wantError(err, anchor.ErrInvalidParams)
		c.equal("pending tasks", 0, c.pending(task))
	}},
	{"run-many-of-none", "RunMany of nothing does nothing.", func(c *Check) {
		task := c.one(nil)
		ids, err := task.RunMany(c.ctx, c.client, nil)
		c.must(err)
		c.equal("ids", 0, len(ids))
	}},
	{"delay", "A delayed task is due its delay after it was enqueued.", func(c *Check) {
		info := c.info(c.enqueue(c.one(nil), anchor.WithDelay(90*time.Minute)))
		c.equal("distance", 90*time.Minute, info.NextRun.Sub(info.CreatedAt))
	}},
	{"start-at", "A task is due at the time that it was given, to the microsecond.", func(c *Check) {
		at := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		info := c.info(c.enqueue(c.one(nil), anchor.WithStartAt(at)))
		if !info.NextRun.Equal(at) {
			c.Errorf("due at %v, want %v", info.NextRun, at)
		}
	}},
	{"start-in-the-past", "A task that should have started in the past is due now, no earlier.", func(c *Check) {
		info := c.info(c.enqueue(c.one(nil), anchor.WithStartAt(time.Now().Add(-time.Hour))))
		if !info.NextRun.Equal(info.CreatedAt) {
			c.Errorf("due at %v, want %v", info.NextRun, info.CreatedAt)
		}
	}},
	{"start-at-the-end-of-time", "The year 9999 is a time to start at.", func(c *Check) {
		at := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		info := c.info(c.enqueue(c.one(nil), anchor.WithStartAt(at)))
		if !info.NextRun.Equal(at) {
			c.Errorf("due at %v, want %v", info.NextRun, at)
		}
	}},
	{"unknown-task", "A task that the client does not know is not enqueued.", func(c *Check) {
		c.one(nil)
		_, err := c.task(nil).Run(c.ctx, c.client, &Params{})
		c.wantError(err, anchor.ErrTaskNotRegistered)
	}},
	{"ended-context", "Nothing is enqueued with a context that has ended.", func(c *Check) {
		task := c.one(nil)
		_, err := task.Run(endedContext(c.ctx), c.client, &Params{})
		c.wantRefused("an ended context", err)
		c.equal("pending tasks", 0, c.pending(task))
	}},
}

var badDataCases = []Case{
	refuses("nil-params", "Parameters are never nil.", nil),
	refuses("nul-in-params", "A NUL character in a text of the parameters is refused.", &Params{Text: "a\x00b"}),
	refuses("nul-in-key", "A NUL character in a key of a map is refused.", &Params{Any: map[string]any{"a\x00": 1}}),
	refuses("invalid-utf8-in-params", "Invalid UTF-8 in the parameters is refused.", &Params{Text: "a\xff"}),
	refuses("large-params", "Parameters of more than 1 MiB are refused.", &Params{Text: strings.Repeat("x", 1<<20)}),
	refuses("deep-params", "Parameters that are nested more than 64 deep are refused.", &Params{Any: nested(70)}),
	refuses("nan-in-params", "NaN is refused.", &Params{F: math.NaN()}),
	refusesOption("nul-in-queue", "A NUL character in a queue's name is refused.", anchor.WithQueue("a\x00")),
	refusesOption("invalid-utf8-in-queue", "Invalid UTF-8 in a queue's name is refused.", anchor.WithQueue("a\xff")),
	refusesOption("long-queue", "A queue's name of more than 100 bytes is refused.", anchor.WithQueue(strings.Repeat("q", 101))),
	refusesOption("nul-in-tag", "A NUL character in a unique tag is refused.", anchor.WithUniqueTag("a\x00")),
	refusesOption("invalid-utf8-in-tag", "Invalid UTF-8 in a unique tag is refused.", anchor.WithUniqueTag("a\xff")),
	refusesOption("long-tag", "A unique tag of more than 500 bytes is refused.", anchor.WithUniqueTag(strings.Repeat("t", 501))),
	refusesOption("negative-delay", "A negative delay is refused.", anchor.WithDelay(-time.Second)),
	{"longest-texts", "The longest allowed queue and tag are stored.", func(c *Check) {
		queue, tag := c.prefix+strings.Repeat("q", 100-len(c.prefix)), c.prefix+strings.Repeat("t", 500-len(c.prefix))
		info := c.info(c.enqueue(c.one(nil), anchor.WithQueue(queue), anchor.WithUniqueTag(tag)))
		c.equal("queue", queue, info.Queue)
		c.equal("tag", tag, info.UniqueTag)
	}},
	{"error-text-is-cleaned", "An error's text is stored as valid UTF-8 without NUL, 16 KiB at most.", func(c *Check) {
		text := "a\x00b\xff" + strings.Repeat("ü", 10_000)
		info := c.worked(c.one(failWith(text), anchor.WithRetryPolicy("1ms", 1)))
		c.equal("status", anchor.StatusFailed, info.Status)
		c.wantMessages(info, "a\uFFFDb\uFFFDü")
		if n := len(info.Errors[0].Message); n > 16<<10 || n < 16<<10-4 {
			c.Errorf("the text has %d bytes, want 16 KiB", n)
		}
	}},
}

func nested(depth int) any {
	if depth == 0 {
		return "x"
	}
	return []any{nested(depth - 1)}
}

func refuses(name, explanation string, params *Params) Case {
	return Case{name, explanation, func(c *Check) {
		task := c.one(nil)
		_, err := task.Run(c.ctx, c.client, params)
		c.wantError(err, anchor.ErrInvalidParams)
		tx := c.begin()
		_, err = task.RunWithTx(c.ctx, c.client, tx, params)
		c.wantError(err, anchor.ErrInvalidParams)
		_, err = task.RunWithTx(c.ctx, c.client, tx, &Params{N: 1})
		c.must(err) // the transaction is as usable as before
		c.must(tx.Commit(c.ctx))
		c.equal("pending tasks", 1, c.pending(task))
	}}
}

func refusesOption(name, explanation string, opt anchor.RunOption) Case {
	return Case{name, explanation, func(c *Check) {
		task := c.one(nil)
		_, err := task.Run(c.ctx, c.client, &Params{}, opt)
		c.wantRefused(opt.String(), err)
		if diff := cmp.Diff(0, c.pending(task)); diff != "" {
			c.Errorf("pending tasks (-want +got):\n%s", diff)
		}
	}}
}
