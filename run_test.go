package anchor_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

func TestRunStoresTheTask(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		task := anchor.Define[letter]("Letter", nil, anchor.WithQueue("mail"), anchor.WithPriority(3), anchor.WithRetryPolicy("1m", 4))
		client := newClient(t, store, task)
		ofTask := mustRun(t, client, task, letter{To: "Ada", Number: 7})
		ofRun := mustRun(t, client, task, letter{}, anchor.WithQueue("urgent"), anchor.WithPriority(-5),
			anchor.WithRetryPolicy("1s", -1), anchor.WithUniqueTag("t"))

		want := []*anchor.TaskInfo{
			{
				ID: ofTask, Name: "Letter", Queue: "mail", Priority: 3, Status: anchor.StatusPending, MaxAttempts: 4,
				Params: json.RawMessage(`{"number":7,"to":"Ada"}`),
			},
			{
				ID: ofRun, Name: "Letter", Queue: "urgent", Priority: -5, Status: anchor.StatusPending, MaxAttempts: -1,
				Params: json.RawMessage(`{}`), UniqueTag: "t",
			},
		}
		got := []*anchor.TaskInfo{mustTask(t, client, ofTask), mustTask(t, client, ofRun)}
		diff := cmp.Diff(want, got, cmpopts.IgnoreFields(anchor.TaskInfo{}, "CreatedAt", "NextRun"), cmp.Transformer("params", func(raw json.RawMessage) any {
			var value any
			if err := json.Unmarshal(raw, &value); err != nil {
				return err
			}
			return value
		}))
		if diff != "" {
			t.Errorf("tasks (-want +got):\n%s", diff)
		}
		for _, info := range got {
			if info.CreatedAt.IsZero() || !info.NextRun.Equal(info.CreatedAt) {
				t.Errorf("created at %v, due at %v", info.CreatedAt, info.NextRun)
			}
		}
	})
}

func TestRunDefaults(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		info := mustTask(t, client, mustRun(t, client, task, letter{}))
		if info.Queue != "default" || info.Priority != 0 || info.MaxAttempts != 10 {
			t.Errorf("queue %q, priority %d, at most %d attempts", info.Queue, info.Priority, info.MaxAttempts)
		}
	})
}

func TestRunDelayAndStartAt(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		for _, delay := range []time.Duration{0, 1500 * time.Millisecond, 90 * time.Minute, 100 * 365 * 24 * time.Hour} {
			info := mustTask(t, client, mustRun(t, client, task, letter{}, anchor.WithDelay(delay)))
			if got := info.NextRun.Sub(info.CreatedAt); got != delay {
				t.Errorf("delay %v: due after %v", delay, got)
			}
			tagged := mustTask(t, client, mustRun(t, client, task, letter{}, anchor.WithDelay(delay), anchor.WithUniqueTag(delay.String())))
			if got := tagged.NextRun.Sub(tagged.CreatedAt); got != delay {
				t.Errorf("tagged, delay %v: due after %v", delay, got)
			}
		}

		zone := time.FixedZone("east", 5*3600)
		at := time.Date(2099, 12, 31, 23, 59, 58, 123456000, zone)
		info := mustTask(t, client, mustRun(t, client, task, letter{}, anchor.WithStartAt(at)))
		if !info.NextRun.Equal(at) {
			t.Errorf("due at %v, want %v", info.NextRun, at)
		}
		for _, past := range []time.Time{time.Unix(0, 0), time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Now().Add(-time.Hour)} {
			info := mustTask(t, client, mustRun(t, client, task, letter{}, anchor.WithStartAt(past)))
			if !info.NextRun.Equal(info.CreatedAt) {
				t.Errorf("start at %v: due at %v, want %v, when it was created", past, info.NextRun, info.CreatedAt)
			}
		}
	})
}

func TestRunManyKeepsTheOrder(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		var params []*letter
		for i := range 100 {
			params = append(params, &letter{Number: i + 1})
		}
		ids, err := task.RunMany(t.Context(), client, params, anchor.WithPriority(2))
		if err != nil || len(ids) != len(params) {
			t.Fatalf("%d ids, error %v", len(ids), err)
		}
		for i, id := range ids {
			if i > 0 && id <= ids[i-1] {
				t.Fatalf("id %d follows %d", id, ids[i-1])
			}
			info := mustTask(t, client, id)
			var stored letter
			if err := json.Unmarshal(info.Params, &stored); err != nil || stored.Number != i+1 || info.Priority != 2 {
				t.Fatalf("ids[%d] is %s with priority %d (%v)", i, info.Params, info.Priority, err)
			}
		}
	})
}

func TestRunManyIsAllOrNothing(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		params := []*letter{{To: "a"}, nil, {To: "secret\x00"}, {Number: 1}}
		_, err := task.RunMany(t.Context(), client, params)
		wantIs(t, err, anchor.ErrInvalidParams)
		wantText(t, err, "params[1]:", "params is nil", "params[2]:", "/to: holds a NUL")
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "params[0]") {
			t.Errorf("error %q", err)
		}

		var indexes []int
		joined, _ := err.(interface{ Unwrap() []error })
		for _, err := range joined.Unwrap() {
			var invalid *anchor.ValidationError
			if errors.As(err, &invalid) {
				indexes = append(indexes, invalid.Index)
			}
		}
		if diff := cmp.Diff([]int{1, 2}, indexes); diff != "" {
			t.Errorf("indexes (-want +got):\n%s", diff)
		}

		many := make([]*letter, 50)
		_, err = task.RunMany(t.Context(), client, many)
		wantText(t, err, "params[9]")
		if strings.Contains(err.Error(), "params[10]") {
			t.Errorf("more than ten mistakes in %q", err)
		}

		if _, err := task.RunMany(t.Context(), client, []*letter{{}, {}}, anchor.WithUniqueTag("t")); err == nil {
			t.Error("two tasks of one tag are accepted")
		}
		wantTasks(t, client, anchor.TaskQuery{})

		ids, err := task.RunMany(t.Context(), client, nil)
		if len(ids) != 0 || err != nil {
			t.Errorf("nothing gives %v, %v", ids, err)
		}
		ids, err = task.RunMany(t.Context(), client, []*letter{{}}, anchor.WithUniqueTag("t"))
		if err != nil {
			t.Fatal(err)
		}
		wantTasks(t, client, anchor.TaskQuery{UniqueTag: "t"}, ids...)
		_, err = task.RunMany(t.Context(), client, []*letter{{}}, anchor.WithUniqueTag("t"))
		wantHolder(t, err, "t", ids[0])
	})
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		namesake := anchor.Define[letter]("Letter", nil)
		stranger := anchor.Define[letter]("Stranger", nil)
		var none *anchor.Task[letter]
		ended, end := context.WithCancel(t.Context())
		end()

		for _, c := range []struct {
			name string
			run  func() (int64, error)
			want error
			text string
		}{
			{"nil params", func() (int64, error) { return task.Run(t.Context(), client, nil) }, anchor.ErrInvalidParams, "params is nil"},
			{"bad params", func() (int64, error) { return task.Run(t.Context(), client, &letter{To: "\xff"}) }, anchor.ErrInvalidParams, "/to: holds invalid UTF-8"},
			{"another task", func() (int64, error) { return stranger.Run(t.Context(), client, &letter{}) }, anchor.ErrTaskNotRegistered, `"Stranger"`},
			{"a namesake", func() (int64, error) { return namesake.Run(t.Context(), client, &letter{}) }, anchor.ErrTaskNotRegistered, `"Letter"`},
			{"nil task", func() (int64, error) { return none.Run(t.Context(), client, &letter{}) }, anchor.ErrTaskNotRegistered, "not made by Define"},
			{"zero task", func() (int64, error) { return new(anchor.Task[letter]).Run(t.Context(), client, nil) }, anchor.ErrTaskNotRegistered, "not made by Define"},
			{"nil client", func() (int64, error) { return task.Run(t.Context(), nil, &letter{}) }, nil, "the client is nil"},
			{"nil tx", func() (int64, error) { return task.RunWithTx(t.Context(), client, nil, &letter{}) }, nil, "tx is nil"},
			{"ended context", func() (int64, error) { return task.Run(ended, client, &letter{}) }, context.Canceled, ""},
			{"ended context, tag", func() (int64, error) { return task.Run(ended, client, &letter{}, anchor.WithUniqueTag("t")) }, context.Canceled, ""},
			{"many with a nil tx", func() (int64, error) {
				_, err := task.RunManyWithTx(t.Context(), client, nil, []*letter{{}})
				return 0, err
			}, nil, "tx is nil"},
		} {
			id, err := c.run()
			if id != 0 || err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: id %d, error %v, want one that is %v with %q", c.name, id, err, c.want, c.text)
			}
			if errors.Is(err, anchor.ErrOutcomeUnknown) {
				t.Errorf("%s: nothing was sent, but the error is %v", c.name, err)
			}
		}
		wantTasks(t, client, anchor.TaskQuery{})
	})
}

// jsonb keeps the last of a key's values, so the stores agree on what a handler is given.
func TestRunKeepsTheLastOfEachKey(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store anchor.Store) {
		client, task := newLetters(t, store)
		raw := `{"b":1e2,"a":"<1>","x":[{"k":1},{"k":2,"\u006b":{"y":1,"z":0,"y":[3]}}],"a":{"a":"","b":12345678901234567890.10}}`
		info := mustTask(t, client, mustRun(t, client, task, letter{Raw: json.RawMessage(raw)}))
		var stored struct {
			Raw struct {
				A, B, X json.RawMessage
			}
		}
		if err := json.Unmarshal(info.Params, &stored); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{`"a"`, `"b"`, `"k"`, `"y"`} {
			want := map[string]int{`"a"`: 2, `"b"`: 2, `"k"`: 2, `"y"`: 1}[key]
			if n := strings.Count(string(info.Params), key); n != want {
				t.Errorf("%s stands %d times in %s, want %d", key, n, info.Params, want)
			}
		}
		for want, got := range map[string]json.RawMessage{
			`{"a":"","b":12345678901234567890.10}`: stored.Raw.A, `[{"k":1},{"k":{"y":[3],"z":0}}]`: stored.Raw.X,
		} {
			if text := strings.ReplaceAll(string(got), " ", ""); text != want {
				t.Errorf("stored %s, want %s", text, want)
			}
		}
	})
}

// A transaction that is none, or of another store, is refused by every method that takes one.
func TestWithTxRefusesATransactionOfAnotherStore(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	memory := anchor.NewMemoryStore()
	inMemory, err := memory.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ofAnother, err := anchor.NewMemoryStore().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var noTx *pgxpool.Tx
	for _, c := range []struct {
		name  string
		store anchor.Store
		tx    pgx.Tx
		want  string
	}{
		{"nil on PostgreSQL", store, nil, "tx is nil"},
		{"nil pointer on PostgreSQL", store, noTx, "tx is nil"},
		{"nil pointer in memory", memory, noTx, "tx is nil"},
		{"in memory on PostgreSQL", store, inMemory, "transaction of the in-memory store, but the client's store is PostgreSQL"},
		{"PostgreSQL in memory", memory, mustBegin(t, pool, pgx.TxOptions{}), "*pgxpool.Tx, is no transaction of the client's store, which is in memory"},
		{"another in memory", memory, ofAnother, "another in-memory store than the client's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, task := newLetters(t, c.store)
			id := mustRun(t, client, task, letter{})
			_, err := task.RunWithTx(t.Context(), client, c.tx, &letter{})
			_, errMany := task.RunManyWithTx(t.Context(), client, c.tx, []*letter{{}})
			for _, err := range []error{err, errMany, client.CancelWithTx(t.Context(), c.tx, id)} {
				wantText(t, err, c.want)
				wantPrefixOnce(t, err)
			}
			if info := mustTask(t, client, id); info.Status != anchor.StatusPending {
				t.Errorf("the task is %s", info.Status)
			}
		})
	}
}

// wantTasks checks which tasks a query finds, in the order of its answer.
func wantTasks(t *testing.T, client *anchor.Client, q anchor.TaskQuery, want ...int64) {
	t.Helper()
	tasks, err := client.Tasks(t.Context(), q)
	if err != nil {
		t.Fatalf("Tasks: %v", err)
	}
	var got []int64
	for _, task := range tasks {
		got = append(got, task.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks of %+v (-want +got):\n%s", q, diff)
	}
}
