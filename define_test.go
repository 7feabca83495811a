package anchor_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor"
)

type (
	withChan    struct{ C chan int }
	withFunc    struct{ Inner struct{ F []func() } }
	withComplex struct{ M map[string]complex128 }
	withStringy struct{ S fmt.Stringer }
	withKeys    struct{ M map[float64]int }

	withTime struct {
		time.Time
		Number int
	}
	withPattern struct {
		S string `jsonschema:"pattern=["`
	}
	withHidden struct{ number, other int }

	// recursive is what must be accepted, and marshalled as a field.
	recursive struct {
		Children []*recursive
		Parent   *recursive
		hidden   chan int
		Ignored  chan int `json:"-"`
		At       time.Time
		Any      any
		Tree     map[int]marshalled
	}
	marshalled struct{ c chan int }
)

func (m marshalled) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%d", cap(m.c)), nil }

type pointerMarshalled struct{ Number int }

func (*pointerMarshalled) MarshalJSON() ([]byte, error) { return []byte(`[]`), nil }

// These write an object, for a zero value or for others.
type (
	writesObject struct{ number int }
	writesNull   struct{ number *int }
	failsOnZero  struct{ number int }
	embeds       struct{ letter }
	placeholder  struct{ _ struct{} }
)

func (w writesObject) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"n":%d}`, w.number), nil
}

func (w writesNull) MarshalJSON() ([]byte, error) {
	if w.number == nil {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, `{"n":%d}`, *w.number), nil
}

func (w failsOnZero) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"n":%d}`, 1/w.number), nil
}

func unused[P any](context.Context, pgx.Tx, *P) error { return nil }

func unusedHook(context.Context, pgx.Tx, anchor.Failure, *letter) error { return nil }

// here is this file with the line of the caller, as Define is to report it.
func here() string {
	_, file, line, _ := runtime.Caller(1)
	return fmt.Sprintf("%s:%d", file, line)
}

func TestDefineMistakes(t *testing.T) {
	t.Parallel()

	cases := []struct {
		name  string
		task  anchor.AnyTask
		where string
		want  []string
	}{
		{"empty name", anchor.Define("", unused[letter]), here(), []string{`task ""`, "name is empty"}},
		{"long name", anchor.Define(strings.Repeat("x", 201), unused[letter]), here(), []string{"name has 201 bytes, at most 200"}},
		{"space in the name", anchor.Define("a b", unused[letter]), here(), []string{`name "a b" holds a space`}},
		{"NUL in the name", anchor.Define("a\x00b", unused[letter]), here(), []string{"name holds a NUL character"}},
		{"bell in the name", anchor.Define("a\ab", unused[letter]), here(), []string{"unprintable"}},
		{"invalid UTF-8 in the name", anchor.Define("a\xff", unused[letter]), here(), []string{"name is not valid UTF-8"}},
		{"P is an int", anchor.Define("n", unused[int]), here(), []string{"type int is not a struct"}},
		{"P is a pointer", anchor.Define("n", unused[*letter]), here(), []string{"*anchor_test.letter is not a struct"}},
		{"P is a map", anchor.Define("n", unused[map[string]int]), here(), []string{"is not a struct"}},
		{"chan", anchor.Define("n", unused[withChan]), here(), []string{"withChan.C is a chan"}},
		{"func", anchor.Define("n", unused[withFunc]), here(), []string{"withFunc.Inner.F is a func"}},
		{"complex", anchor.Define("n", unused[withComplex]), here(), []string{"withComplex.M is a complex128"}},
		{"interface with methods", anchor.Define("n", unused[withStringy]), here(), []string{"withStringy.S is the interface fmt.Stringer"}},
		{"map key", anchor.Define("n", unused[withKeys]), here(), []string{"withKeys.M is a map with keys of type float64"}},
		{"P is a time", anchor.Define("n", unused[time.Time]), here(), []string{"time.Time writes itself as JSON that is no object"}},
		{"P embeds a time", anchor.Define("n", unused[withTime]), here(), []string{"withTime writes itself as JSON that is no object", "embedded type"}},
		{"P writes a number", anchor.Define("n", unused[marshalled]), here(), []string{"marshalled writes itself"}},
		{"P writes itself by its pointer", anchor.Define("n", unused[pointerMarshalled]), here(), []string{"pointerMarshalled writes itself"}},
		{"P is a text", anchor.Define("n", unused[netip.Addr]), here(), []string{"netip.Addr writes itself"}},
		{"bad pattern", anchor.Define("n", unused[withPattern]), here(), []string{`withPattern.S: jsonschema tag pattern="[" is not a regular expression`}},
		{"only unexported fields", anchor.Define("n", unused[withHidden]), here(), []string{"withHidden has no exported field"}},
		{"no interval", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("", 3)), here(), []string{`WithRetryPolicy("", 3)`, "entry 1 is not a duration"}},
		{"bad interval", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("1m,five", 3)), here(), []string{"entry 2 is not a duration"}},
		{"trailing comma", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("1m,", 3)), here(), []string{"entry 2 is not a duration"}},
		{"interval 0", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("0s", 3)), here(), []string{"entry 1 is not positive"}},
		{"negative interval", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("-1s", 3)), here(), []string{"entry 1 is not positive"}},
		{"interval of years", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("9000h", 3)), here(), []string{"entry 1 is longer than"}},
		{"no attempts", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("1s", 0)), here(), []string{"maxAttempts 0 is neither -1"}},
		{"attempts -2", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("1s", -2)), here(), []string{"maxAttempts -2"}},
		{"too many attempts", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("1s", 1_000_001)), here(), []string{"maxAttempts 1000001"}},
		{"interval and attempts", anchor.Define("n", unused[letter], anchor.WithRetryPolicy("x", 0)), here(), []string{"entry 1", "maxAttempts 0"}},
		{"timeout no duration", anchor.Define("n", unused[letter], anchor.WithTimeout("soon")), here(), []string{`WithTimeout("soon")`, "not a duration"}},
		{"timeout 0", anchor.Define("n", unused[letter], anchor.WithTimeout(time.Duration(0))), here(), []string{"WithTimeout(0s)", "between 1ms and"}},
		{"timeout negative", anchor.Define("n", unused[letter], anchor.WithTimeout("-1s")), here(), []string{"between 1ms and"}},
		{"timeout of years", anchor.Define("n", unused[letter], anchor.WithTimeout("9000h")), here(), []string{"between 1ms and"}},
		{"priority too high", anchor.Define("n", unused[letter], anchor.WithPriority(101)), here(), []string{"priority 101 is not between -100 and 100"}},
		{"priority too low", anchor.Define("n", unused[letter], anchor.WithPriority(-101)), here(), []string{"priority -101"}},
		{"empty queue", anchor.Define("n", unused[letter], anchor.WithQueue("")), here(), []string{`WithQueue("")`, "queue is empty"}},
		{"long queue", anchor.Define("n", unused[letter], anchor.WithQueue(strings.Repeat("q", 101))), here(), []string{"queue has 101 bytes"}},
		{"NUL in the queue", anchor.Define("n", unused[letter], anchor.WithQueue("a\x00")), here(), []string{"queue holds a NUL"}},
		{"long description", anchor.Define("n", unused[letter], anchor.WithDescription(strings.Repeat("d", 4097))), here(), []string{"description is longer than 4096 bytes"}},
		{"nil option", anchor.Define("n", unused[letter], anchor.WithPriority(1), nil), here(), []string{"option 2 is nil"}},
		{"nil hook", anchor.Define("n", unused[letter]).OnFailed(nil), here(), []string{"OnFailed: the hook is nil"}},
		{"two hooks", anchor.Define("n", unused[letter]).OnFailed(unusedHook).OnFailed(unusedHook), here(), []string{"OnFailed: the task has a hook already"}},
		{"several", anchor.Define("", unused[int], anchor.WithQueue(""), anchor.WithPriority(200)), here(), []string{"name is empty", "not a struct", "queue is empty", "priority 200"}},
	}
	store := anchor.NewPGStore(openPool(t, "postgres:///nowhere"))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			client, err := anchor.New(store, anchor.WithTasks(c.task))
			if client != nil {
				t.Error("there is a client")
			}
			wantText(t, err, append(c.want, c.where)...)
		})
	}
}

func TestNewJoinsEveryMistake(t *testing.T) {
	t.Parallel()

	first, firstAt := anchor.Define("Twice", unused[letter]), here()
	second, secondAt := anchor.Define("Twice", unused[letter]), here()
	bad, badAt := anchor.Define("Bad", unused[letter], anchor.WithPriority(1000)), here()
	worse, worseAt := anchor.Define("Worse", unused[int]), here()
	var none *anchor.Task[letter]

	_, err := anchor.New(nil, anchor.WithTasks(first, second, bad), nil, anchor.WithLogger(nil),
		anchor.WithTasks(worse, nil, none, new(anchor.Task[letter])))
	wantText(
		t, err,
		"the store is nil", "option 2 is nil", "WithLogger: the logger is nil",
		secondAt+`: task "Twice": the name is taken by the task at `+firstAt,
		badAt+`: task "Bad": WithPriority(1000)`, worseAt+`: task "Worse"`,
		"task 5 is nil", "task 6 is nil", "task 7 is nil",
	)
	if !strings.Contains(badAt, filepath.Base("define_test.go")) {
		t.Errorf("Define is said to be at %s", badAt)
	}
}

func TestNewReportsTheStoresOptions(t *testing.T) {
	t.Parallel()

	var noStore *anchor.PGStore
	var noMemory *anchor.MemoryStore
	pool := openPool(t, "postgres:///nowhere")
	for _, c := range []struct {
		name  string
		store anchor.Store
		want  []string
	}{
		{"nil store in an interface", noStore, []string{"store is nil"}},
		{"zero store", &anchor.PGStore{}, []string{"not made by NewPGStore"}},
		{"nil in-memory store in an interface", noMemory, []string{"in-memory store is nil"}},
		{"zero in-memory store", &anchor.MemoryStore{}, []string{"not made by NewMemoryStore"}},
		{"nil pool", anchor.NewPGStore(nil), []string{"has no pool"}},
		{"schema with a quote", anchor.NewPGStore(pool, anchor.WithSchema(`x"; drop table y`)), []string{"WithSchema", "lower-case letters"}},
		{"schema in capitals", anchor.NewPGStore(pool, anchor.WithSchema("Jobs")), []string{`WithSchema("Jobs")`, "lower-case letters"}},
		{"empty schema", anchor.NewPGStore(pool, anchor.WithSchema("")), []string{`WithSchema("")`}},
		{"long schema", anchor.NewPGStore(pool, anchor.WithSchema(strings.Repeat("s", 51))), []string{"at most 50"}},
		{"all together", anchor.NewPGStore(nil, nil, anchor.WithSchema("1")), []string{"has no pool", "option 1 is nil", `WithSchema("1")`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			_, err := anchor.New(c.store)
			wantText(t, err, c.want...)
			wantPrefixOnce(t, err)
			err = c.store.Migrate(t.Context())
			wantText(t, err, c.want...)
			wantPrefixOnce(t, err)
		})
	}
}

func TestDefineAcceptsWhatJSONCarries(t *testing.T) {
	t.Parallel()

	_, _ = recursive{hidden: nil}, withHidden{number: 0, other: 0}
	task := anchor.Define("Café/v2.send", unused[recursive], anchor.WithRetryPolicy(" 1s , 2s ", -1), anchor.WithTimeout("365h"),
		anchor.WithQueue("a queue"), anchor.WithPriority(-100), anchor.WithDescription("does it"))
	newClient(t, anchor.NewPGStore(openPool(t, "postgres:///nowhere")), task, anchor.Define[writesObject]("WritesObject", nil), anchor.Define[writesNull]("WritesNull", nil), anchor.Define[failsOnZero]("FailsOnZero", nil),
		anchor.Define[embeds]("Embeds", nil), anchor.Define[placeholder]("Placeholder", nil), anchor.Define[struct{}]("Empty", nil))
	if task.Name() != "Café/v2.send" {
		t.Errorf("name %q", task.Name())
	}
}
