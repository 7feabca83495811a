package anchor

import (
	"fmt"
	"testing"
	"time"
)

// The schema of benchPlain says no more than encoding/json sees to; that of benchTyped has what a typical task has.
type (
	benchPlain struct {
		UserID     int32             `json:"userId"`
		TemplateID string            `json:"templateId"`
		SendAt     time.Time         `json:"sendAt"`
		Labels     map[string]string `json:"labels,omitempty"`
	}
	benchTyped struct {
		UserID     int32     `json:"userId" jsonschema:"minimum=1"`
		TemplateID string    `json:"templateId" jsonschema:"minLength=1,maxLength=64"`
		Locale     string    `json:"locale" jsonschema:"enum=en,enum=de,enum=fr"`
		SendAt     time.Time `json:"sendAt"`
		Retries    int       `json:"retries,omitempty"`
	}
)

func benchTask[P any](tb testing.TB) *registeredTask {
	tb.Helper()
	task := Define[P]("Bench", nil)
	client, err := New(NewMemoryStore(), WithTasks(task))
	if err != nil {
		tb.Fatal(err)
	}
	return client.tasks["Bench"]
}

func TestWhatGoSeesToByItselfIsNotValidatedWhenItIsEnqueued(t *testing.T) {
	t.Parallel()

	for name, task := range map[string]*registeredTask{
		"plain": benchTask[benchPlain](t), "numbers": benchTask[kindNumbers](t), "times": benchTask[kindTimes](t), "nulls": benchTask[kindNulls](t),
		"maps": benchTask[kindMaps](t), "embedded": benchTask[kindEmbedded](t), "generic": benchTask[kindGeneric](t),
	} {
		if task.schema.fresh != nil {
			t.Errorf("%s: something is left to validate of %s", name, task.schema.marked)
		}
	}
	for name, task := range map[string]*registeredTask{
		"typed": benchTask[benchTyped](t), "tags": benchTask[kindTags](t), "recursive": benchTask[kindRecursive](t), "provided": benchTask[kindProvided](t), "same name": benchTask[kindSameName](t),
	} {
		if task.schema.fresh == nil {
			t.Errorf("%s: nothing is left to validate of %s", name, task.schema.marked)
		}
	}
}

// BenchmarkEnqueueValidation is what Run spends on parameters before they go to the store, with validation and
// without it.
func BenchmarkEnqueueValidation(b *testing.B) {
	now := time.Date(2025, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, c := range []struct {
		name   string
		task   *registeredTask
		params any
	}{
		{"plain", benchTask[benchPlain](b), &benchPlain{UserID: 7, TemplateID: "welcome", SendAt: now, Labels: map[string]string{"a": "b"}}},
		{"typed", benchTask[benchTyped](b), &benchTyped{UserID: 7, TemplateID: "welcome", Locale: "de", SendAt: now}},
	} {
		b.Run(fmt.Sprintf("%s/encode", c.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encodeParams("Bench", c.params); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%s/encode and validate", c.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.task.encode(c.params); err != nil {
					b.Fatal(err)
				}
			}
		})
		raw, err := c.task.encode(c.params)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%s/decode", c.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.task.decode(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%s/decode and validate", c.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.task.load(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeclare is what a task costs a program's start.
func BenchmarkDeclare(b *testing.B) {
	for b.Loop() {
		task := Define[benchTyped]("Bench", nil)
		if _, err := New(NewMemoryStore(), WithTasks(task)); err != nil {
			b.Fatal(err)
		}
	}
}

type benchFlat struct {
	N       int64  `json:"n"`
	Email   string `json:"email"`
	Text    string `json:"text"`
	SentAt  int64  `json:"sentAt"`
	SleepMS int64  `json:"sleepMs"`
}

// BenchmarkLoadFlat is what an attempt spends on reading flat parameters.
func BenchmarkLoadFlat(b *testing.B) {
	task := benchTask[benchFlat](b)
	raw := []byte(`{"n": 123456, "text": "0123456789abcdef0123456789abcdef", "email": "somebody@example.com", "sentAt": 1234567890123, "sleepMs": 0}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := task.load(raw); err != nil {
			b.Fatal(err)
		}
	}
}
