package anchor

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// compatBase is what does not change.
type compatBase struct {
	ID int64 `json:"id"`
}

func exportType[P any](t *testing.T, name string) string {
	t.Helper()
	return export(t, newClientOf(t, []AnyTask{Define[P](name, nil)}))
}

// compare lists what breaks when a task's parameters become New from Old.
func compare[Old, New any](t *testing.T) []string {
	t.Helper()
	found, err := CheckCompatible([]byte(exportType[Old](t, "Task")), []byte(exportType[New](t, "Task")))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, i := range found {
		texts = append(texts, strings.TrimPrefix(i.String(), "Task: "))
	}
	return texts
}

func TestChangesThatBreakQueuedTasks(t *testing.T) {
	t.Parallel()

	type (
		node struct{ Next *node }
		list struct {
			Next *list
			Name string
		}
	)
	for name, c := range map[string]struct{ got, want []string }{
		"a new required field": {compare[compatBase, struct {
			compatBase
			X string `json:"x"`
		}](t), []string{`the field "x" is now required`}},
		"an optional field becomes required": {
			compare[struct {
				X string `json:"x,omitempty"`
			}, struct {
				X string `json:"x"`
			}](t),
			[]string{`the field "x" is now required`},
		},
		"a removed field": {compare[struct {
			compatBase
			X string `json:"x"`
		}, compatBase](t), []string{"/properties/x: the field is gone, and others are not allowed"}},
		"another type":       {compare[struct{ X string }, struct{ X int }](t), []string{`/properties/X: the type was "string" and is now "integer"`}},
		"a narrower integer": {compare[struct{ X int64 }, struct{ X int32 }](t), []string{"/properties/X: the least value allowed is now -2147483648", "/properties/X: the greatest value allowed is now 2147483647"}},
		"no sign":            {compare[struct{ X int64 }, struct{ X uint64 }](t), []string{"/properties/X: the least value allowed is now 0"}},
		"a sign":             {compare[struct{ X uint64 }, struct{ X int64 }](t), []string{"/properties/X: the greatest value allowed is now 9223372036854775807"}},
		"no fraction":        {compare[struct{ X float64 }, struct{ X int64 }](t), []string{`/properties/X: the type was "number" and is now "integer"`}},
		"no null":            {compare[struct{ X *int }, struct{ X int }](t), []string{"/properties/X: null is no longer allowed"}},
		"no null struct":     {compare[struct{ X *compatBase }, struct{ X compatBase }](t), []string{"/properties/X: null is no longer allowed"}},
		"no null, and another type": {compare[struct{ X []int }, struct{ X [2]int }](t), []string{
			"/properties/X: null is no longer allowed", "/properties/X/maxItems: is now 2", "/properties/X/minItems: is now 2",
		}},
		"an enum": {
			compare[struct{ X string }, struct {
				X string `jsonschema:"enum=a"`
			}](t),
			[]string{`/properties/X/enum: is now bound to ["a"]`},
		},
		"a narrower enum": {
			compare[struct {
				X string `jsonschema:"enum=a,enum=b"`
			}, struct {
				X string `jsonschema:"enum=b,enum=c"`
			}](t),
			[]string{`/properties/X/enum: no longer allows "a"`},
		},
		"a minimum": {
			compare[struct {
				X int `jsonschema:"minimum=1"`
			}, struct {
				X int `jsonschema:"exclusiveMinimum=1,maximum=5"`
			}](t),
			[]string{"/properties/X: the least value allowed is now 1, exclusive", "/properties/X: the greatest value allowed is now 5"},
		},
		"lengths": {
			compare[struct {
				X string `jsonschema:"maxLength=5"`
			}, struct {
				X string `jsonschema:"maxLength=4,minLength=1"`
			}](t),
			[]string{"/properties/X/maxLength: is now 4, was 5", "/properties/X/minLength: is now 1"},
		},
		"a pattern": {
			compare[struct{ X string }, struct {
				X string `jsonschema:"pattern=^a"`
			}](t),
			[]string{`/properties/X/pattern: is now "^a"`},
		},
		"a format": {compare[struct{ X string }, struct{ X time.Time }](t), []string{`/properties/X/format: the format is now "date-time"`}},
		"items":    {compare[struct{ X []string }, struct{ X []int }](t), []string{`/properties/X/items: the type was "string" and is now "integer"`}},
		"values":   {compare[struct{ X map[string]string }, struct{ X map[string]int }](t), []string{`/properties/X/additionalProperties: the type was "string" and is now "integer"`}},
		"keys":     {compare[struct{ X map[string]int }, struct{ X map[int]int }](t), []string{`/properties/X/propertyNames/pattern: is now "^-?[0-9]+$"`}},
		"a closed map": {compare[struct{ X map[string]any }, struct{ X *compatBase }](t), []string{
			"/properties/X: the field \"id\" is now required", "/properties/X/additionalProperties: other fields are no longer allowed",
			`/properties/X/properties/id: the type is now bound to "integer"`,
		}},
		"no longer anything":       {compare[struct{ X any }, struct{ X string }](t), []string{`/properties/X: the type is now bound to "string"`}},
		"deep in a recursive type": {compare[struct{ X node }, struct{ X list }](t), []string{`/$defs/node: the field "Name" is now required`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestChangesThatBreakNothing(t *testing.T) {
	t.Parallel()

	for name, got := range map[string][]string{
		"nothing": compare[kindTags, kindTags](t),
		"a new optional field": compare[compatBase, struct {
			compatBase
			X string `json:"x,omitempty" jsonschema:"minLength=3"`
		}](t),
		"a required field becomes optional": compare[struct {
			X string `json:"x"`
		}, struct {
			X string `json:"x,omitempty"`
		}](t),
		"a wider integer":              compare[struct{ X int32 }, struct{ X int64 }](t),
		"an integer may be any number": compare[struct{ X int64 }, struct{ X float64 }](t),
		"null is allowed":              compare[struct{ X int }, struct{ X *int }](t),
		"null is allowed, a struct":    compare[struct{ X compatBase }, struct{ X *compatBase }](t),
		"a wider enum": compare[struct {
			X string `jsonschema:"enum=a"`
		}, struct {
			X string `jsonschema:"enum=b,enum=a"`
		}](t),
		"no enum, no bounds, no pattern, no format": compare[kindTags, struct {
			kindTags
			Count    int64    `json:"count"`
			Even     int      `json:"even"`
			Ratio    float64  `json:"ratio"`
			Level    string   `json:"level" jsonschema_description:"said otherwise"`
			Code     string   `json:"code"`
			Name     string   `json:"name"`
			Email    string   `json:"email,omitempty"`
			Tags     []string `json:"tags"`
			Sizes    []int    `json:"sizes,omitempty"`
			Choice   *string  `json:"choice"`
			Optional string   `json:"optional,omitempty"`
		}](t),
		"a wider range": compare[struct {
			X int `jsonschema:"minimum=1,maximum=5,multipleOf=4"`
		}, struct {
			X int `jsonschema:"minimum=0,exclusiveMaximum=6,multipleOf=2"`
		}](t),
		"a time as text":           compare[struct{ X time.Time }, struct{ X string }](t),
		"another name of the type": compare[struct{ X kindBase }, struct{ X compatSame }](t),
		"anything":                 compare[kindNulls, map1](t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if len(got) > 0 {
				t.Errorf("found %q", got)
			}
		})
	}
}

type compatSame kindBase

// map1 allows any value for what kindNulls has.
type map1 struct {
	Pointer, Slice, Map, Bytes, Struct, Any, Array any `json:",omitempty"`
	P1                                             any `json:"pointer"`
	P2                                             any `json:"slice"`
	P3                                             any `json:"map"`
	P4                                             any `json:"bytes"`
	P5                                             any `json:"pointers,omitempty"`
	P6                                             any `json:"nested,omitempty"`
	P7                                             any `json:"double,omitempty"`
	P8                                             any `json:"struct"`
	P9                                             any `json:"absent,omitempty"`
	P10                                            any `json:"any"`
	P11                                            any `json:"array"`
}

func TestTaskThatIsGoneOrRenamedBreaks(t *testing.T) {
	t.Parallel()

	old := export(t, newClientOf(t, []AnyTask{Define[kindTags]("Gone", nil), Define[kindTimes]("OldName", nil), Define[compatBase]("Kept", nil)}))
	now := export(t, newClientOf(t, []AnyTask{Define[kindTimes]("NewName", nil), Define[compatBase]("Kept", nil, WithTimeout("1s")), Define[compatBase]("New", nil)}))
	found, err := CheckCompatible([]byte(old), []byte(now))
	if err != nil {
		t.Fatal(err)
	}
	want := []Incompatibility{
		{Task: "Gone", Message: "the task is gone or renamed"},
		{Task: "OldName", Message: `the task is gone or renamed ("NewName" has the same parameters)`},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckCompatibleRefusesWhatIsNoExport(t *testing.T) {
	t.Parallel()

	good := exportType[compatBase](t, "Task")
	for name, c := range map[string]struct{ old, now, want string }{
		"no YAML":        {"[", good, "old:2:1: "},
		"no parameters":  {good, "tasks:\n  - name: Task\n", "new:2:5: tasks/0: the parameters are left out"},
		"an unknown key": {good, "task: []\n", `new:1:1: task: unknown key "task"; did you mean "tasks"?`},
		"a name twice":   {good + strings.TrimPrefix(good, "tasks:\n"), good, `the task "Task" stands here twice`},
		"too large":      {good + strings.Repeat("#", maxTaskFile), good, "old: the file has more than"},
		"both":           {"", "", "new: the task file is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			found, err := CheckCompatible([]byte(c.old), []byte(c.now))
			if err == nil || !strings.Contains(err.Error(), c.want) || found != nil {
				t.Errorf("%v, error %v, want one with %q", found, err, c.want)
			}
		})
	}
}

// What CheckCompatible passes must not break a task: a value of the old type is valid under the new one's schema.
func TestCompatibleTypesTakeEachOthersValues(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		oldType := drawStruct(t, 1)
		newType := alterType(t, oldType)
		old, err := registerType(oldType)
		if err != nil {
			t.Fatal(err)
		}
		now, err := registerType(newType)
		if err != nil {
			t.Fatal(err)
		}
		found, err := CheckCompatible(exportOf(t, old), exportOf(t, now))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			return
		}
		params := reflect.New(oldType)
		drawValue(t, params.Elem(), 4)
		raw := mustMarshal(t, params.Interface())
		if violations := now.schema.full.validate(raw); len(violations) > 0 {
			t.Fatalf("%v is said to be compatible with %v, which refuses %s: %v", newType, oldType, raw, violations)
		}
	})
}

// alterType changes one field of a struct, removes it or adds one.
func alterType(t *rapid.T, of reflect.Type) reflect.Type {
	fields := reflect.VisibleFields(of)
	if len(fields) == 0 || rapid.IntRange(0, 3).Draw(t, "add") == 0 {
		return reflect.StructOf(append(fields, reflect.StructField{
			Name: "Added", Type: drawType(t, 1), Tag: reflect.StructTag(rapid.SampledFrom([]string{"", `json:",omitempty"`}).Draw(t, "tag")),
		}))
	}
	i := rapid.IntRange(0, len(fields)-1).Draw(t, "field")
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		fields = append(fields[:i], fields[i+1:]...)
	case 1:
		fields[i].Tag = `json:"renamed"`
	default:
		fields[i].Type = drawType(t, 1)
	}
	return reflect.StructOf(fields)
}
