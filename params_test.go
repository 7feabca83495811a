package anchor

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// secret stands for a value that no error may quote.
const secret = "s3cr3t"

type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic(secret) }
func (*panicking) UnmarshalJSON([]byte) error  { panic(secret) }

type refusing struct{}

func (refusing) MarshalJSON() ([]byte, error) { return nil, errors.New(secret) }

type zeroPanics struct{}

func (zeroPanics) IsZero() bool { panic(secret) }

type arrayed struct{}

func (arrayed) MarshalJSON() ([]byte, error) { return []byte(`["` + secret + `"]`), nil }

type nulled struct{}

func (nulled) MarshalJSON() ([]byte, error) { return []byte(`null`), nil }

type cyclic struct {
	Name string  `json:"name"`
	Next *cyclic `json:"next"`
}

type floats struct {
	F       float64            `json:"f"`
	Small   float32            `json:"small"`
	List    []float64          `json:"list"`
	Map     map[string]float64 `json:"map"`
	Numbers map[int]float64    `json:"numbers"`
	Any     any                `json:"any"`
	Pointer *float64           `json:"pointer"`
	//lint:ignore SA5008 the name "-" is meant
	Dash    float64 `json:"-,"`
	Skipped float64 `json:"-"`
	Untaged float64
	Inlined
	Named `json:"named"`
	Inner struct{ Deep []*floats } `json:"inner"`
}

type (
	Inlined struct{ In float64 }
	Named   struct{ Na float64 }
)

// nest is text in depth arrays, in an object: depth+1 levels.
func nest(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}

func TestEncodeParamsRefuses(t *testing.T) {
	t.Parallel()

	nan := math.NaN()
	loop := &cyclic{Name: secret}
	loop.Next = loop
	for _, c := range []struct {
		name    string
		params  any
		pointer string
		message string
	}{
		{"NaN", &floats{F: nan}, "/f", "NaN"},
		{"infinite", &floats{F: math.Inf(-1)}, "/f", "infinite"},
		{"float32", &floats{Small: float32(math.Inf(1))}, "/small", "NaN"},
		{"in a list", &floats{List: []float64{1, 2, nan}}, "/list/2", "NaN"},
		{"in a map", &floats{Map: map[string]float64{"a": 1, "a~b/c": nan}}, "/map/a~0b~1c", "NaN"},
		{"the first in a map", &floats{Map: map[string]float64{"z": nan, "b": nan, "y": nan}}, "/map/b", "NaN"},
		{"in a map of numbers", &floats{Numbers: map[int]float64{-7: nan}}, "/numbers/-7", "NaN"},
		{"in any", &floats{Any: map[string]any{"x": []any{1, nan}}}, "/any/x/1", "NaN"},
		{"behind a pointer", &floats{Pointer: &nan}, "/pointer", "NaN"},
		{"named -", &floats{Dash: nan}, "/-", "NaN"},
		{"without a tag", &floats{Untaged: nan}, "/Untaged", "NaN"},
		{"embedded", &floats{Inlined: Inlined{nan}}, "/In", "NaN"},
		{"embedded with a name", &floats{Named: Named{nan}}, "/named/Na", "NaN"},
		{"deep", &floats{Inner: struct{ Deep []*floats }{[]*floats{nil, {F: nan}}}}, "/inner/Deep/1/f", "NaN"},

		{"NUL", &struct{ S string }{secret + "\x00"}, "/S", "NUL"},
		{"NUL, escaped by hand", &struct{ R json.RawMessage }{json.RawMessage(`"` + secret + `\u0000"`)}, "/R", "NUL"},
		{"NUL in a list", &struct{ L []any }{[]any{"a", []string{"b", "\x00"}}}, "/L/1/1", "NUL"},
		{"NUL in a key", &struct{ M map[string]any }{map[string]any{"a": 1, "b": map[string]int{"x\x00": 1}}}, "/M/b", "a key holds a NUL"},
		{"NUL below ~ and /", &struct{ M map[string]string }{map[string]string{"a~1/b": "\x00"}}, "/M/a~01~1b", "NUL"},
		{"NUL below a quote", &struct{ M map[string]string }{map[string]string{`a"\`: "\x00"}}, `/M/a"\`, "NUL"},
		{"NUL below an empty key", &struct{ M map[string]string }{map[string]string{"": "\x00"}}, "/M/", "NUL"},
		{"invalid UTF-8", &struct{ S string }{secret + "\xff"}, "/S", "invalid UTF-8"},
		{"invalid UTF-8, written by hand", &struct{ R json.RawMessage }{json.RawMessage("[\"" + secret + "\xff\"]")}, "/R/0", "invalid UTF-8"},
		{"invalid UTF-8 in a key", &struct{ M map[string]any }{map[string]any{"x": map[string]int{"\xc3\x28": 1}}}, "/M/x", "a key holds invalid UTF-8"},
		{"half of a surrogate pair", &struct{ R json.RawMessage }{json.RawMessage(`["` + secret + `\ud800"]`)}, "/R/0", "surrogate"},
		{"surrogates in the wrong order", &struct{ R json.RawMessage }{json.RawMessage(`["\udc00\ud800"]`)}, "/R/0", "surrogate"},
		{"surrogate and no surrogate", &struct{ R json.RawMessage }{json.RawMessage(`["\ud800\u0041"]`)}, "/R/0", "surrogate"},
		{"too large a number", &struct{ R json.RawMessage }{json.RawMessage(`{"a":[1,1e400000]}`)}, "/R/a/1", "number"},
		{"too small a number", &struct{ R json.RawMessage }{json.RawMessage(`-1e-400000`)}, "/R", "number"},
		{"too long a number", &struct{ N json.Number }{json.Number("1" + strings.Repeat("0", 131072))}, "/N", "number"},

		{"over 1 MiB", &struct{ S string }{strings.Repeat("x", 1<<20)}, "", "1048584 bytes of JSON, at most 1048576"},
		{"too deep", &struct{ R json.RawMessage }{nest(64)}, "", "nested 65 deep, at most 64"},
		{"a cycle", loop, "", "nested without end"},
		{"MarshalJSON panics", &struct{ P panicking }{}, "/P", "method of anchor.panicking panicked"},
		{"MarshalJSON fails", &struct{ P []refusing }{[]refusing{{}}}, "/P/0", "method of anchor.refusing failed"},
		{"MarshalJSON fails in a map", &struct{ M map[string]any }{map[string]any{"a": refusing{}}}, "/M/a", "method of anchor.refusing failed"},
		{"MarshalJSON fails behind a pointer", &struct{ P *refusing }{&refusing{}}, "/P", "method of anchor.refusing failed"},
		{"MarshalJSON of the parameters fails", &refusing{}, "", "method of anchor.refusing failed"},
		{"chan in any", &struct{ A any }{map[string]any{"x": []any{1, make(chan int)}}}, "/A/x/1", "is a chan int, which JSON cannot hold"},
		{"func in any", &struct{ A any }{func() {}}, "/A", "is a func(), which JSON cannot hold"},
		{"complex in any", &struct{ A any }{complex(1, 2)}, "/A", "is a complex128, which JSON cannot hold"},
		{"MarshalJSON writes an array", &arrayed{}, "", "is not a JSON object"},
		{"MarshalJSON writes null", &nulled{}, "", "is not a JSON object"},
		{"not JSON", &struct{ R json.RawMessage }{json.RawMessage(`{` + secret)}, "/R", "is a json.RawMessage that is not valid JSON"},
		{"not JSON in any", &struct{ A any }{[]any{json.RawMessage(secret)}}, "/A/0", "is a json.RawMessage that is not valid JSON"},
		{"no number", &struct{ N json.Number }{json.Number(secret)}, "/N", "is a json.Number that is not valid JSON"},
		{"IsZero panics", &struct {
			P zeroPanics `json:"p,omitzero"`
		}{}, "", "panicked"},
		{"a time out of range", &struct{ L []time.Time }{[]time.Time{{}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}}, "/L/1", "method of time.Time failed"},
		{"behind a pointer and any", &struct{ A any }{&struct{ P *refusing }{&refusing{}}}, "/A/P", "method of anchor.refusing failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			raw, err := encodeParams("Letter", c.params)
			if raw != nil {
				t.Errorf("encoded as %.100s", raw)
			}
			var invalid *ValidationError
			if !errors.Is(err, ErrInvalidParams) || !errors.As(err, &invalid) {
				t.Fatalf("error %v is no *ValidationError", err)
			}
			if invalid.Task != "Letter" || len(invalid.Violations) != 1 {
				t.Fatalf("task %q, violations %v", invalid.Task, invalid.Violations)
			}
			got := invalid.Violations[0]
			if diff := cmp.Diff(c.pointer, got.Pointer); diff != "" {
				t.Errorf("pointer (-want +got):\n%s", diff)
			}
			if !strings.Contains(got.Message, c.message) {
				t.Errorf("message %q does not have %q", got.Message, c.message)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q quotes the value", err)
			}
		})
	}
}

func TestEncodeParamsAccepts(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		params any
		want   string
	}{
		{"nothing", &struct{}{}, `{}`},
		{"a character that stands for another", &struct{ S string }{"\uFFFD"}, `{"S":"` + "\uFFFD" + `"}`},
		{"a surrogate pair by hand", &struct{ R json.RawMessage }{json.RawMessage(`"\ud83d\ude00"`)}, `{"R":"\ud83d\ude00"}`},
		{"a backslash before u0000", &struct{ S string }{`\u0000`}, `{"S":"\\u0000"}`},
		{"a backslash before ufffd", &struct{ S string }{`\ufffd`}, `{"S":"\\ufffd"}`},
		{"brackets in a string", &struct{ S string }{strings.Repeat("[", 70)}, `{"S":"` + strings.Repeat("[", 70) + `"}`},
		{"64 deep", &struct{ R json.RawMessage }{nest(63)}, `{"R":` + string(nest(63)) + `}`},
		{"1 MiB", &struct{ S string }{strings.Repeat("x", 1<<20-8)}, `{"S":"` + strings.Repeat("x", 1<<20-8) + `"}`},
		{"numbers", &struct{ R json.RawMessage }{json.RawMessage(`[1e300,-0.5E-20,12,0]`)}, `{"R":[1e300,-0.5E-20,12,0]}`},
		{"the largest number", &struct{ R json.RawMessage }{json.RawMessage(`1e131071`)}, `{"R":1e131071}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			raw, err := encodeParams("Letter", c.params)
			if err != nil {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(c.want, string(raw)); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidationErrorPrints(t *testing.T) {
	t.Parallel()

	err := &ValidationError{Task: "Letter", Violations: []Violation{{"", "is null"}, {"/a/0", "is wrong"}}}
	want := `anchor: invalid parameters of task "Letter": is null; /a/0: is wrong`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}
