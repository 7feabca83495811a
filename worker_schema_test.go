package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// mailV2 is what a task's parameters have become: they were {"user": "7"} once.
type mailV2 struct {
	UserID int    `json:"userId" jsonschema:"minimum=1"`
	Locale string `json:"locale" jsonschema:"enum=en,enum=de"`
}

func mailTask(opts ...TaskOption) *Task[mailV2] {
	return Define("Mail", func(ctx context.Context, tx pgx.Tx, p *mailV2) error {
		return noteEffect(ctx, tx, "handler "+p.Locale)
	}, append(opts, WithRetryPolicy("1ms", 3))...).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, p *mailV2) error {
			return noteEffect(ctx, tx, "hook "+p.Locale)
		})
}

func TestStoredParametersThatTodaysSchemaForbidsFailTheTaskWithAllViolations(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	client := rig.newClient(mailTask())
	rig.startWork(client, WithPollInterval(10*time.Millisecond))
	for spec, want := range map[string][]string{
		`{"userId": 0, "locale": "s3cr3t"}`:      {"/userId: is less than 1", `/locale: must be one of "en", "de"`},
		`{"locale": "en"}`:                       {`the required field "userId" is missing`},
		`{"userId": null, "locale": "en"}`:       {"/userId: is of type null, must be integer"},
		`{"user": "s3cr3t", "userId": "s3cr3t"}`: {"/user: is not a field", "/userId: is of type string, must be integer", `the required field "locale" is missing`},
	} {
		info := rig.ended(client, readOne[int64](rig, insertRaw, "Mail", spec, nil))
		if info.Status != StatusFailed || info.Attempts != 1 || len(info.Errors) != 1 {
			t.Errorf("%s: status %s after %d attempts, errors %v, want failed after 1 with an error", spec, info.Status, info.Attempts, info.Errors)
			continue
		}
		for _, violation := range want {
			if !strings.Contains(info.Errors[0].Message, violation) {
				t.Errorf("%s: error %q, want one with %q", spec, info.Errors[0].Message, violation)
			}
		}
		if strings.Contains(info.Errors[0].Message, "s3cr3t") {
			t.Errorf("%s: the error quotes a value: %s", spec, info.Errors[0].Message)
		}
		if got := rig.effectsOf(info.ID); len(got) > 0 {
			t.Errorf("%s: effects %q, want none", spec, got)
		}
	}
}

func TestUpcasterMendsStoredParametersBeforeTheyFail(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	upcaster := WithUpcaster(func(old json.RawMessage) (json.RawMessage, error) {
		var v1 struct{ User, Locale string }
		if err := json.Unmarshal(old, &v1); err != nil {
			return nil, err
		}
		switch v1.User {
		case "":
			return nil, errors.New("no user")
		case "panic":
			panic("at the upcaster")
		}
		return json.RawMessage(`{"userId": ` + v1.User + `, "locale": "de"}`), nil
	})
	client := rig.newClient(mailTask(upcaster))
	rig.startWork(client, WithPollInterval(10*time.Millisecond))
	for spec, want := range map[string]struct {
		status  Status
		effects []string
		message string
	}{
		`{"locale": "en", "userId": 7}`: {StatusCompleted, []string{"handler en"}, ""},
		`{"user": "7"}`:                 {StatusCompleted, []string{"handler de"}, ""},
		`{"user": "0"}`:                 {StatusFailed, nil, "/userId: is less than 1"},
		`{"user": "]"}`:                 {StatusFailed, nil, "not valid JSON"},
		`{"locale": "en", "userId": 0}`: {StatusFailed, nil, "no user"},
		`{"user": "panic"}`:             {StatusFailed, nil, "the upcaster panicked"},
	} {
		info := rig.ended(client, readOne[int64](rig, insertRaw, "Mail", spec, nil))
		if info.Status != want.status || info.Attempts != 1 {
			t.Errorf("%s: status %s after %d attempts, want %s after 1: %v", spec, info.Status, info.Attempts, want.status, info.Errors)
		}
		if want.message != "" && (len(info.Errors) != 1 || !strings.Contains(info.Errors[0].Message, want.message)) {
			t.Errorf("%s: errors %v, want one with %q", spec, info.Errors, want.message)
		}
		if diff := cmp.Diff(want.effects, rig.effectsOf(info.ID), equateEmpty); diff != "" {
			t.Errorf("%s: effects (-want +got):\n%s", spec, diff)
		}
		if got := string(info.Params); got != spec {
			t.Errorf("stored are %s, want %s as before", got, spec)
		}
	}
}

func TestFailureHookGetsUpcastParameters(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	upcaster := WithUpcaster(func(json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"userId":1,"locale":"de"}`), nil
	})
	task := Define("Mail", func(context.Context, pgx.Tx, *mailV2) error { return Fatal(errors.New("no")) }, upcaster).
		OnFailed(func(ctx context.Context, tx pgx.Tx, _ Failure, p *mailV2) error {
			return noteEffect(ctx, tx, "hook "+p.Locale)
		})
	client := rig.newClient(task)
	rig.startWork(client, WithPollInterval(10*time.Millisecond))
	info := rig.ended(client, readOne[int64](rig, insertRaw, "Mail", `{"user": "7"}`, nil))
	if diff := cmp.Diff([]string{"hook de"}, rig.effectsOf(info.ID)); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestUpcasterThatIsNilIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := New(NewMemoryStore(), WithTasks(Define[mailV2]("Mail", nil, WithUpcaster(nil)))); err == nil || !strings.Contains(err.Error(), "WithUpcaster: the function is nil") {
		t.Errorf("error %v", err)
	}
}

func TestInvalidParametersWriteNothing(t *testing.T) {
	t.Parallel()
	rig := newPG(t)
	task := mailTask()
	client := rig.newClient(task)
	bad := &mailV2{UserID: 0, Locale: "fr"}
	want := []Violation{{"/locale", `must be one of "en", "de"`}, {"/userId", "is less than 1"}}
	check := func(how string, err error) {
		t.Helper()
		var invalid *ValidationError
		if !errors.As(err, &invalid) || !errors.Is(err, ErrInvalidParams) {
			t.Fatalf("%s: error %v, want a *ValidationError", how, err)
		}
		if diff := cmp.Diff(want, invalid.Violations); diff != "" {
			t.Errorf("%s (-want +got):\n%s", how, diff)
		}
	}
	_, err := task.Run(t.Context(), client, bad)
	check("Run", err)
	_, err = task.RunMany(t.Context(), client, []*mailV2{{1, "en"}, bad})
	check("RunMany", err)
	tx, err := rig.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = task.RunWithTx(t.Context(), client, tx, bad)
	check("RunWithTx", err)
	_, err = task.RunManyWithTx(t.Context(), client, tx, []*mailV2{bad, {1, "en"}})
	check("RunManyWithTx", err)
	if _, err := task.RunWithTx(t.Context(), client, tx, &mailV2{1, "en"}); err != nil {
		t.Errorf("the transaction is not usable any more: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := readOne[int](rig, "select count(*) from anchor_tasks"); n != 1 {
		t.Errorf("%d tasks, want only the valid one", n)
	}
}
