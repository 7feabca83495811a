package anchortest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anchor-go/anchor"
)

// Match is an option of [RequireEnqueued] and [RequireNotEnqueued]: what a task must be like besides its parameters.
type Match interface {
	fmt.Stringer
	// misfit tells why the task does not fit, "" when it does.
	misfit(task *anchor.TaskInfo, now time.Time) string
	// mistake tells why no task could ever fit, "" when one can.
	mistake() string
}

type match struct {
	text string
	bad  string
	test func(task *anchor.TaskInfo, now time.Time) string
}

func (m match) String() string  { return m.text }
func (m match) mistake() string { return m.bad }

func (m match) misfit(task *anchor.TaskInfo, now time.Time) string { return m.test(task, now) }

// InQueue matches tasks of a queue, whose name is not empty. Defaults to any.
func InQueue(name string) Match {
	bad := ""
	if name == "" {
		bad = "no queue has that name"
	}
	return match{fmt.Sprintf("InQueue(%q)", name), bad, func(task *anchor.TaskInfo, _ time.Time) string {
		if task.Queue == name {
			return ""
		}
		return fmt.Sprintf("its queue is %q", task.Queue)
	}}
}

// DueWithin matches tasks that are due d from now or earlier; d is not negative. Defaults to any time.
func DueWithin(d time.Duration) Match {
	bad := ""
	if d < 0 {
		bad = "what is due is due now, that is within 0"
	}
	return match{fmt.Sprintf("DueWithin(%v)", d), bad, func(task *anchor.TaskInfo, now time.Time) string {
		if !task.NextRun.After(now.Add(d)) {
			return ""
		}
		return fmt.Sprintf("it is due in %v", task.NextRun.Sub(now))
	}}
}

// WithTag matches tasks of a unique tag. Defaults to any.
func WithTag(tag string) Match {
	return match{fmt.Sprintf("WithTag(%q)", tag), "", func(task *anchor.TaskInfo, _ time.Time) string {
		if task.UniqueTag == tag {
			return ""
		}
		return fmt.Sprintf("its tag is %q", task.UniqueTag)
	}}
}

// candidate is a stored task, and how far it is from what is wanted.
type candidate[P any] struct {
	info   *anchor.TaskInfo
	params *P
	misfit []string
}

func (c candidate[P]) fits() bool { return len(c.misfit) == 0 }

// candidates are the tasks of one name in order of their ids; want may be nil.
func candidates[P any](t testing.TB, h *Harness, task *anchor.Task[P], want *P, matches []Match, status ...anchor.Status) []candidate[P] {
	t.Helper()
	if unknown := h.unknown(task.Name()); unknown != "" {
		t.Fatal(unknown)
	}
	for i, m := range matches {
		if m == nil {
			t.Fatalf("anchortest: match %d is nil", i+1)
		}
		if mistake := m.mistake(); mistake != "" {
			t.Fatalf("anchortest: %v: %s", m, mistake)
		}
	}
	var found []candidate[P]
	now := time.Now()
	for _, info := range h.tasks(task.Name(), status...) {
		c := candidate[P]{info: info, params: new(P)}
		if err := json.Unmarshal(info.Params, c.params); err != nil {
			t.Fatalf("anchortest: the parameters of task %d do not fit %T: %v", info.ID, c.params, err)
		}
		for _, m := range matches {
			if misfit := m.misfit(info, now); misfit != "" {
				c.misfit = append(c.misfit, fmt.Sprintf("%v: %s", m, misfit))
			}
		}
		if want != nil {
			if diff := subsetDiff(want, c.params); diff != "" {
				c.misfit = append(c.misfit, "parameters (-want +got):\n"+diff)
			}
		}
		found = append(found, c)
	}
	return found
}

// tasks reads all tasks of a name and one of some statuses, oldest first.
func (h *Harness) tasks(name string, status ...anchor.Status) []*anchor.TaskInfo {
	h.t.Helper()
	const page = 1000
	var all []*anchor.TaskInfo
	query := anchor.TaskQuery{Name: name, Status: status, Limit: page}
	for {
		tasks, err := h.Client.Tasks(h.ctx, query)
		if err != nil {
			h.t.Fatalf("anchortest: %v", err)
		}
		all = append(all, tasks...)
		if len(tasks) < page {
			slices.Reverse(all)
			return all
		}
		query.Before = tasks[page-1].ID
	}
}

// everyField compares fields that are not exported, too; of a location, whose fields change when it is used, the name.
var everyField = cmp.Options{
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmp.Comparer(func(a, b *time.Location) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
}

// subsetDiff compares what want sets with got; "" when that is equal. What is zero in want may be anything in got.
func subsetDiff[P any](want, got *P) string {
	masked := *got
	mask(reflect.ValueOf(want).Elem(), reflect.ValueOf(&masked).Elem())
	return cmp.Diff(want, &masked, everyField)
}

// mask makes zero in got what is zero in want. It copies what is shared with another value before it changes it.
func mask(want, got reflect.Value) {
	if !got.CanSet() {
		return
	}
	if want.IsZero() {
		got.SetZero()
		return
	}
	switch want.Kind() {
	case reflect.Struct:
		if hasEqual(want.Type()) {
			return
		}
		for i := range want.NumField() {
			mask(want.Field(i), got.Field(i))
		}
	case reflect.Pointer:
		if got.IsNil() {
			return
		}
		fresh := reflect.New(got.Type().Elem())
		fresh.Elem().Set(got.Elem())
		mask(want.Elem(), fresh.Elem())
		got.Set(fresh)
	case reflect.Map:
		if got.IsNil() {
			return
		}
		fresh := reflect.MakeMap(got.Type())
		for _, key := range want.MapKeys() {
			value := got.MapIndex(key)
			if !value.IsValid() {
				continue
			}
			inner := reflect.New(value.Type()).Elem()
			inner.Set(value)
			mask(want.MapIndex(key), inner)
			fresh.SetMapIndex(key, inner)
		}
		got.Set(fresh)
	}
}

// hasEqual tells the types that cmp compares by their own method, such as time.Time: they are one value.
func hasEqual(t reflect.Type) bool {
	method, ok := t.MethodByName("Equal")
	return ok && method.Type.NumIn() == 2 && method.Type.In(1) == t
}

// describe tells of a candidate what it is and what is wrong with it.
func (c candidate[P]) describe() string {
	text := fmt.Sprintf("task %d, %s, in queue %q", c.info.ID, c.info.Status, c.info.Queue)
	if c.info.UniqueTag != "" {
		text += fmt.Sprintf(", tag %q", c.info.UniqueTag)
	}
	for _, misfit := range c.misfit {
		text += "\n" + indent(misfit, "  ")
	}
	return text
}

func indent(text, by string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return by + strings.Join(lines, "\n"+by)
}
