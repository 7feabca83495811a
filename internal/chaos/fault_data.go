//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/anchor-go/anchor"
)

// badRows are parameters that only somebody who writes SQL can store. Each fails its task, and no other.
var badRows = map[string]string{
	"nested 10,001 deep":    `{"key": "%s", "do": "bad", "deep": ` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
	"a number of 1e400":     `{"key": "%s", "do": "bad", "millis": 1e400}`,
	"of another type":       `{"key": "%s", "do": "bad", "millis": "soon"}`,
	"no object":             `["%s"]`,
	"a field of another do": `{"key": "%s", "do": {"bad": true}}`,
}

// badData stores what cannot be run, and tries to enqueue what cannot be stored.
func badData(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 1, func(ctx context.Context, _ int) error {
		return s.inScene(ctx, s.ground, "data", t, func(c *scene) error {
			if _, err := c.db.Exec(ctx, "alter sequence anchor_tasks_id_seq restart with 4294967296"); err != nil {
				return err
			}
			if _, err := c.enqueue(ctx, 20, Write, nil); err != nil {
				return err
			}
			bad := map[int64]string{}
			for name, spec := range badRows {
				key := c.params(Bad).Key
				id, err := c.insertRow(ctx, TaskName, fmt.Sprintf(spec, key))
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				bad[id] = name
			}
			stranger, err := c.insertRow(ctx, "Stranger", `{}`)
			if err != nil {
				return err
			}
			c.refuseAll(ctx)
			if _, err := c.enqueue(ctx, 20, Write, nil); err != nil {
				return err
			}
			if err := c.keep(ctx, 1); err != nil {
				return err
			}
			t.ran(1)
			c.inspect = func(h *history, v *verdict) {
				for id, name := range bad {
					if last := h.tasks[id][len(h.tasks[id])-1]; last.status != "failed" || last.attempts != 1 {
						v.add("I5", "a task whose parameters are %s is %s after %d attempts", name, last.status, last.attempts)
					}
				}
				if first := h.tasks[stranger][0]; first.status != "pending" || len(h.tasks[stranger]) != 2 {
					v.add("I5", "a task of a name that no worker knows was touched")
				}
			}
			if err := until(ctx, stillness, "the others go on", func() (bool, error) {
				n, err := c.count(ctx, countUnfinished)
				return n == 1, err
			}); err != nil {
				c.violation("I8", "%v", err)
			}
			return c.client.Cancel(ctx, stranger)
		})
	})
}

// insertRow stores a task by SQL, and notes it.
func (c *scene) insertRow(ctx context.Context, name, spec string) (id int64, err error) {
	err = c.db.QueryRow(ctx, "insert into anchor_tasks (name, spec) values ($1, $2::text::jsonb) returning id", name, spec).Scan(&id)
	c.note(enqueued{id: id, deed: Bad, bySQL: true})
	return id, err
}

// refuseAll tries to enqueue what cannot be stored: a clear error, and nothing is there.
func (c *scene) refuseAll(ctx context.Context) {
	for name, text := range map[string]string{"a NUL": "a\x00b", "2 MiB": strings.Repeat("x", 2<<20), "16 MiB": strings.Repeat("x", 16<<20)} {
		p := c.params(Write)
		p.Key += text
		_, err := c.task.Run(ctx, c.client, p)
		if !errors.Is(err, anchor.ErrInvalidParams) {
			c.violation("I1", "parameters with %s: %v, want ErrInvalidParams", name, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			c.violation("I1", "parameters with %s: an error of %d bytes", name, len(err.Error()))
		}
	}
	p := c.params(Write)
	p.Key += "\xff"
	id, err := c.task.Run(ctx, c.client, p)
	if err != nil {
		if !errors.Is(err, anchor.ErrInvalidParams) {
			c.violation("I1", "parameters that are not UTF-8: %v, want ErrInvalidParams", err)
		}
		return
	}
	c.note(enqueued{key: strings.ToValidUTF8(p.Key, "\ufffd"), deed: p.Do, id: id})
}
