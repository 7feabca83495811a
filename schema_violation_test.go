package anchor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// validTags satisfies every constraint of kindTags.
func validTags(t *rapid.T) map[string]any {
	text := rapid.StringMatching(`[a-z]{1,5}`)
	v := map[string]any{
		"count":  rapid.IntRange(1, 10).Draw(t, "count"),
		"even":   2 * rapid.IntRange(-4, 4).Draw(t, "even"),
		"ratio":  rapid.Float64Range(0.5, 1.5).Draw(t, "ratio"),
		"level":  rapid.SampledFrom([]string{"low", "high"}).Draw(t, "level"),
		"code":   rapid.StringMatching(`[a-z]{2,3}`).Draw(t, "code"),
		"name":   text.Draw(t, "name"),
		"tags":   rapid.SliceOfNDistinct(text, 1, 3, rapid.ID).Draw(t, "tags"),
		"choice": rapid.SampledFrom([]any{"a", "b", nil}).Draw(t, "choice"),
		// Go would leave an empty one out, and the tag requires it.
		"optional": text.Draw(t, "optional"),
	}
	if rapid.Bool().Draw(t, "with sizes") {
		v["sizes"] = rapid.SliceOfN(rapid.IntRange(-5, 3), 1, 3).Draw(t, "sizes")
	}
	if rapid.Bool().Draw(t, "with email") {
		v["email"] = "a@example.org"
	}
	return v
}

// violations of kindTags: what to put where, and the pointer that must be named. Those with a rule are of a kind that
// Go can hold, so that Run must find them.
var tagViolations = map[string]struct {
	field   string
	value   func(t *rapid.T) any // nil: the field is left out
	pointer string
	inGo    bool
}{
	"minimum":          {"count", func(t *rapid.T) any { return rapid.IntRange(-1<<31, 0).Draw(t, "bad") }, "/count", true},
	"maximum":          {"count", func(t *rapid.T) any { return rapid.IntRange(11, 1<<31-1).Draw(t, "bad") }, "/count", true},
	"int32":            {"count", func(t *rapid.T) any { return rapid.IntRange(1<<31, 1<<40).Draw(t, "bad") }, "/count", false},
	"fraction":         {"count", func(*rapid.T) any { return 1.5 }, "/count", false},
	"type":             {"count", func(t *rapid.T) any { return rapid.SampledFrom([]any{"1", true, nil, []any{}}).Draw(t, "bad") }, "/count", false},
	"missing":          {"count", nil, "", false},
	"multipleOf":       {"even", func(t *rapid.T) any { return 2*rapid.IntRange(-4, 4).Draw(t, "bad") + 1 }, "/even", true},
	"exclusiveMinimum": {"even", func(*rapid.T) any { return -10 }, "/even", true},
	"exclusiveMaximum": {"even", func(t *rapid.T) any { return 10 + 2*rapid.IntRange(0, 100).Draw(t, "bad") }, "/even", true},
	"float minimum":    {"ratio", func(t *rapid.T) any { return rapid.Float64Range(-1e300, 0.4999).Draw(t, "bad") }, "/ratio", true},
	"float maximum":    {"ratio", func(t *rapid.T) any { return rapid.Float64Range(1.5001, 1e300).Draw(t, "bad") }, "/ratio", true},
	"double":           {"ratio", func(*rapid.T) any { return json.Number("1e400") }, "/ratio", false},
	"enum":             {"level", func(t *rapid.T) any { return rapid.StringMatching(`[a-z]{5,9}`).Draw(t, "bad") }, "/level", true},
	"pattern":          {"code", func(t *rapid.T) any { return rapid.StringMatching(`[a-z]?|[A-Z]{2}|[a-z]{4,9}`).Draw(t, "bad") }, "/code", true},
	"minLength":        {"name", func(*rapid.T) any { return "" }, "/name", true},
	"maxLength":        {"name", func(t *rapid.T) any { return rapid.StringMatching(`[äöü]{6,20}`).Draw(t, "bad") }, "/name", true},
	"format":           {"email", func(*rapid.T) any { return "nobody" }, "/email", true},
	"minItems":         {"tags", func(*rapid.T) any { return []string{} }, "/tags", true},
	"null items":       {"tags", func(*rapid.T) any { return nil }, "/tags", true},
	"maxItems":         {"tags", func(*rapid.T) any { return []string{"a", "b", "c", "d"} }, "/tags", true},
	"uniqueItems":      {"tags", func(*rapid.T) any { return []string{"a", "a"} }, "/tags", true},
	"items":            {"sizes", func(t *rapid.T) any { return []int{1, rapid.IntRange(4, 1<<40).Draw(t, "bad")} }, "/sizes/1", true},
	"enum or null":     {"choice", func(*rapid.T) any { return "c" }, "/choice", true},
	"unknown":          {"nobody", func(*rapid.T) any { return 1 }, "/nobody", false},
	"required by tag":  {"optional", nil, "", true},
}

func TestOneViolatedConstraintIsFoundAndNamed(t *testing.T) {
	t.Parallel()

	task, err := registerType(reflect.TypeFor[kindTags]())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range tagViolations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			rapid.Check(t, func(t *rapid.T) {
				value := validTags(t)
				raw := mustMarshal(t, value)
				params, err := task.load(raw)
				if err != nil {
					t.Fatalf("%s is valid: %v", raw, err)
				}
				if _, err := task.encode(params); err != nil {
					t.Fatalf("%s is valid, written by Go: %v", raw, err)
				}
				if c.value == nil {
					delete(value, c.field)
				} else {
					value[c.field] = c.value(t)
				}
				raw = mustMarshal(t, value)
				_, err = task.load(raw)
				checkViolation(t, "stored", raw, c.pointer, err)
				if c.inGo {
					params := new(kindTags)
					if err := json.Unmarshal(raw, params); err != nil {
						t.Fatal(err)
					}
					_, err := task.encode(params)
					checkViolation(t, "run", raw, c.pointer, err)
				}
			})
		})
	}
}

func mustMarshal(t *rapid.T, value any) []byte {
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func checkViolation(t *rapid.T, when string, raw []byte, pointer string, err error) {
	var invalid *ValidationError
	if !errors.As(err, &invalid) || !errors.Is(err, ErrInvalidParams) {
		t.Fatalf("%s %s: error %v, want a *ValidationError", when, raw, err)
	}
	if len(invalid.Violations) != 1 || invalid.Violations[0].Pointer != pointer {
		t.Fatalf("%s %s: %v, want one violation at %q", when, raw, invalid.Violations, pointer)
	}
}

func TestEveryViolationIsListedWithoutAValue(t *testing.T) {
	t.Parallel()

	task, err := registerType(reflect.TypeFor[kindTags]())
	if err != nil {
		t.Fatal(err)
	}
	_, err = task.load([]byte(`{"count":987654,"even":-12345,"ratio":987.5,"level":"s3cr3t","code":"S3CR3T","name":"s3cr3t text","email":"s3cr3t",
		"tags":["s3cr3t","s3cr3t"],"sizes":[987654,"s3cr3t"],"choice":"s3cr3t"}`))
	var invalid *ValidationError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	want := []Violation{
		{"", `the required field "optional" is missing`},
		{"/choice", `must be one of "a", "b", null`},
		{"/code", `does not match the pattern "^[a-z]{2,3}$"`},
		{"/count", "is greater than 10"},
		{"/email", "is not a valid email"},
		{"/even", "is not a multiple of 2"},
		{"/even", "is not greater than -10"},
		{"/level", `must be one of "low", "high"`},
		{"/name", "is longer than 5 characters"},
		{"/ratio", "is greater than 1.5"},
		{"/sizes/0", "is greater than 3"},
		{"/sizes/1", "is of type string, must be integer"},
		{"/tags", "the items 0 and 1 are equal"},
	}
	if diff := cmp.Diff(want, invalid.Violations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, value := range []string{"987", "12345", "s3cr3t", "S3CR3T"} {
		if strings.Contains(err.Error(), value) {
			t.Errorf("the error quotes %q: %v", value, err)
		}
	}
}

// alterJSON changes one thing of a JSON value at random.
func alterJSON(t *rapid.T, value any) any {
	replacement := func() any {
		return rapid.SampledFrom([]any{
			nil, true, "", "x", "é", 0, -1, 300, 1.5, json.Number("1e400"), json.Number("9007199254740993"), []any{}, []any{1, "x"}, map[string]any{}, map[string]any{"a": nil},
		}).Draw(t, "replacement")
	}
	switch v := value.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 || rapid.IntRange(0, 4).Draw(t, "add") == 0 {
			v[rapid.SampledFrom([]string{"extra", "F0", "f1"}).Draw(t, "key")] = replacement()
			return v
		}
		key := rapid.SampledFrom(keys).Draw(t, "key")
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			delete(v, key)
		case 1:
			v[key] = replacement()
		default:
			v[key] = alterJSON(t, v[key])
		}
		return v
	case []any:
		if len(v) == 0 || rapid.Bool().Draw(t, "append") {
			return append(v, replacement())
		}
		i := rapid.IntRange(0, len(v)-1).Draw(t, "item")
		v[i] = alterJSON(t, v[i])
		return v
	}
	return replacement()
}

// The quick judge must never call valid what the whole schema refuses, and what the worker takes must be valid.
func TestQuickJudgeAgreesWithTheWholeSchema(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		paramsType := reflect.TypeFor[kindTags]()
		if rapid.IntRange(0, 3).Draw(t, "tags") > 0 {
			paramsType = drawStruct(t, 3)
		}
		task, err := registerType(paramsType)
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if paramsType == reflect.TypeFor[kindTags]() {
			value = validTags(t)
			err = json.Unmarshal(mustMarshal(t, value), &value)
		} else {
			params := reflect.New(paramsType)
			drawValue(t, params.Elem(), 6)
			decoder := json.NewDecoder(strings.NewReader(string(mustMarshal(t, params.Interface()))))
			decoder.UseNumber()
			err = decoder.Decode(&value)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			value = alterJSON(t, value)
		}
		raw := mustMarshal(t, value)
		for name, v := range map[string]*paramsValidator{"fresh": task.schema.fresh, "stored": task.schema.stored, "full": task.schema.full} {
			if v == nil {
				continue
			}
			whole := (&paramsValidator{quick: &quickSchema{unsure: true}, whole: v.whole}).validate(raw)
			if v.quick.valid(raw) && len(whole) > 0 {
				t.Fatalf("%s: %s is valid to the quick judge, and violates %v\n%s", name, raw, whole, task.schema.marked)
			}
		}
		if _, err := task.load(raw); err == nil {
			if violations := task.schema.full.validate(raw); len(violations) > 0 {
				t.Fatalf("%s loads, and violates %v\n%s", raw, violations, task.schema.marked)
			}
		}
	})
}

func FuzzQuickJudge(f *testing.F) {
	task, err := registerType(reflect.TypeFor[kindTags]())
	if err != nil {
		f.Fatal(err)
	}
	recursive, err := registerType(reflect.TypeFor[kindRecursive]())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"count":1,"even":2,"ratio":1.0,"level":"low","code":"ab","name":"x","tags":["a"],"choice":null,"optional":"y"}`))
	f.Add([]byte(`{"name":"a","kids":[{"name":"\u0041","kids":null,"tree":{}}],"tree":null}`))
	f.Add([]byte(`{"a":[1,{"b":"}"}],"c":-1.5e3} `))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, r := range []*registeredTask{task, recursive} {
			for _, v := range []*paramsValidator{r.schema.stored, r.schema.fresh, r.schema.full} {
				if valid := v.quick.valid(raw); valid && json.Valid(raw) {
					whole := (&paramsValidator{quick: &quickSchema{unsure: true}, whole: v.whole}).validate(raw)
					if len(whole) > 0 {
						t.Fatalf("%q is valid to the quick judge, and violates %v", raw, whole)
					}
				}
			}
			if _, err := r.load(raw); err != nil && strings.TrimSpace(fmt.Sprint(err)) == "" {
				t.Fatal("an error without text")
			}
		}
	})
}
