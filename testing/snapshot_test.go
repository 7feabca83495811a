package anchortest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

// changing checks that RequireIdempotent sees that change is made twice in what observe answers, the same every time.
func changing[O any](t *testing.T, observed O, change func()) {
	t.Helper()
	task := anchor.Define("task", func(context.Context, pgx.Tx, *stepParams) error { change(); return nil })
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		failure := failureOf(t, func(t testing.TB) {
			anchortest.RequireIdempotent(t, h, task, &stepParams{}, func() O { return observed })
		})
		wantText(t, failure, "task is not idempotent")
	}, task)
}

type counted struct {
	Name  string
	count int
	next  *counted
}

type set struct{ members map[int]bool }

func (s set) Equal(t set) bool { return len(s.members) == len(t.members) }

func TestRequireIdempotentOfLiveValues(t *testing.T) {
	t.Parallel()
	t.Run("map", func(t *testing.T) {
		m := map[string]int{}
		changing(t, m, func() { m["x"]++ })
	})
	t.Run("slice", func(t *testing.T) {
		s := []int{0}
		changing(t, s, func() { s[0]++ })
	})
	t.Run("slice of slices", func(t *testing.T) {
		s := [][]int{{0}}
		changing(t, s, func() { s[0][0]++ })
	})
	t.Run("pointer", func(t *testing.T) {
		n := 0
		changing(t, &n, func() { n++ })
	})
	t.Run("interface", func(t *testing.T) {
		n := 0
		changing[any](t, map[string]any{"n": &n}, func() { n++ })
	})
	t.Run("array of maps", func(t *testing.T) {
		m := [1]map[int]int{{}}
		changing(t, m, func() { m[0][0]++ })
	})
	t.Run("field that is not exported", func(t *testing.T) {
		c := &counted{Name: "c", next: &counted{}}
		changing(t, c, func() { c.next.count++ })
	})
	t.Run("ring", func(t *testing.T) {
		c := &counted{Name: "c"}
		c.next = c
		changing(t, c, func() { c.count++ })
	})
	t.Run("type with Equal", func(t *testing.T) {
		s := set{map[int]bool{}}
		changing(t, s, func() { s.members[len(s.members)] = true })
	})
}

func TestRequireIdempotentOfValuesThatStay(t *testing.T) {
	t.Parallel()
	task := anchor.Define("task", succeed)
	type observed struct {
		At      time.Time
		In      *time.Location
		Err     error
		Null    *int
		Any     any
		Strings []string
		Bytes   map[string][]byte
		ring    *counted
	}
	ring := &counted{}
	ring.next = ring
	all := &observed{At: time.Now(), In: time.Local, Err: context.Canceled, Any: 1, Strings: []string{"a"}, Bytes: map[string][]byte{"a": {1}, "b": nil}, ring: ring}
	anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
		anchortest.RequireIdempotent(t, h, task, &stepParams{}, func() *observed { return all })
		if all.ring != ring || all.In != time.Local {
			t.Error("the observed value was changed")
		}
	}, task)
}

func init() {
	scenarios["location that is used"] = func(t *testing.T) {
		task := anchor.Define("task", succeed)
		anchortest.Run(t, func(t *testing.T, h *anchortest.Harness) {
			first := true
			anchortest.RequireIdempotent(t, h, task, &stepParams{}, func() *time.Location {
				if !first {
					_ = time.Now().Format(time.RFC1123) // fills time.Local in, unless it is already
				}
				first = false
				return time.Local
			})
		}, task)
	}
}

func TestRequireIdempotentOfALocationThatIsUsed(t *testing.T) {
	t.Parallel()
	if out, failed := failing(t, "location that is used"); failed {
		t.Errorf("the test has failed:\n%s", out)
	}
}
