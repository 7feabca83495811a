package anchor

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
)

// schemaText is the schema of a type without the marks, as compact JSON.
func schemaText(t *testing.T, of reflect.Type) string {
	t.Helper()
	schema, err := newParamsSchema(of)
	if err != nil {
		t.Fatal(err)
	}
	document, err := schema.document()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(withoutMarks(document))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func validatorOf(t *testing.T, of reflect.Type) *paramsValidator {
	t.Helper()
	schema, err := newParamsSchema(of)
	if err == nil {
		err = schema.compile()
	}
	if err != nil {
		t.Fatal(err)
	}
	return schema.full
}

func TestRecursiveTypesAreFollowedToAnyDepth(t *testing.T) {
	t.Parallel()

	v := validatorOf(t, reflect.TypeFor[kindRecursive]())
	const valid, deep = `{"name":"a","kids":null,"tree":null}`, `{"name":"a","tree":{"x":{"y":null}},"kids":[{"name":"b","tree":null,"kids":[{"name":"","tree":null,"kids":[]}]}]}`
	if got := v.validate([]byte(valid)); len(got) > 0 {
		t.Errorf("%s: %v", valid, got)
	}
	want := []Violation{{"/kids/0/kids/0/name", "is shorter than 1 characters"}}
	if diff := cmp.Diff(want, v.validate([]byte(deep))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTypesOfOneNameAreKeptApart(t *testing.T) {
	t.Parallel()

	type Address struct{ Local bool }
	local := reflect.TypeFor[Address]()
	other := func() reflect.Type {
		type Address struct{ Other int }
		return reflect.TypeFor[Address]()
	}()
	if local.PkgPath() != other.PkgPath() || local.Name() != other.Name() {
		t.Fatal("the types are told apart by package and name, so that this test shows nothing")
	}
	both := reflect.StructOf([]reflect.StructField{{Name: "A", Type: local}, {Name: "B", Type: other}})
	v := validatorOf(t, both)
	if got := v.validate([]byte(`{"A":{"Local":true},"B":{"Other":1}}`)); len(got) > 0 {
		t.Errorf("two types in one package: %v", got)
	}
	v = validatorOf(t, reflect.TypeFor[kindSameName]())
	if got := v.validate([]byte(`{"billing":{"vat":"x"},"shipping":{"street":"y"}}`)); len(got) > 0 {
		t.Errorf("two types in two packages: %v", got)
	}
	if got := v.validate([]byte(`{"billing":{"street":"x"},"shipping":{"vat":"y"}}`)); len(got) != 4 {
		t.Errorf("exchanged: %v, want two violations of each", got)
	}
}

func TestTypesThatMarshalThemselvesAreNotLookedInto(t *testing.T) {
	t.Parallel()

	v := validatorOf(t, reflect.TypeFor[kindTexts]())
	params := kindTexts{IP: net.ParseIP("2001:db8::1"), Inside: map[string]kindPointerText{"a": {"b"}}, Level: 1}
	raw, err := json.Marshal(&params)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.validate(raw); len(got) > 0 {
		t.Errorf("%s: %v", raw, got)
	}
	if want := `"level":"high"`; !strings.Contains(string(raw), want) {
		t.Fatalf("%s has no %s", raw, want)
	}
}

func TestTagsOfAFieldDoNotReachOthersOfItsType(t *testing.T) {
	t.Parallel()

	type shared struct{ N int }
	type P struct {
		A shared   `json:"a" jsonschema:"title=first" jsonschema_description:"the first"`
		B shared   `json:"b"`
		C any      `json:"c" jsonschema_description:"anything"`
		D any      `json:"d"`
		E []string `json:"e" jsonschema:"maxItems=1"`
		F []string `json:"f"`
	}
	const want = `{"$defs":{"shared":{"additionalProperties":false,"properties":{"N":{"format":"int64","type":"integer"}},` +
		`"required":["N"],"type":"object"}},"$schema":"https://json-schema.org/draft/2020-12/schema","additionalProperties":false,` +
		`"properties":{"a":{"$ref":"#/$defs/shared","description":"the first","title":"first"},"b":{"$ref":"#/$defs/shared"},` +
		`"c":{"description":"anything"},"d":true,"e":{"items":{"type":"string"},"maxItems":1,"type":["array","null"]},` +
		`"f":{"items":{"type":"string"},"type":["array","null"]}},"required":["a","b","c","d","e","f"],"type":"object"}`
	for range 2 {
		if diff := cmp.Diff(want, schemaText(t, reflect.TypeFor[P]())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

type panickingSchema struct{ A int }

func (panickingSchema) JSONSchema() *jsonschema.Schema { panic("no schema today") }

type nilSchema struct{ A int }

func (nilSchema) JSONSchema() *jsonschema.Schema { return nil }

type unwritableSchema struct{ A int }

func (unwritableSchema) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Default: func() {}}
}

type badPointer *badPointer

func TestDefineReportsWhatNoSchemaCanBeMadeOf(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		task AnyTask
		want string
	}{
		"a panic":                  {Define[struct{ P panickingSchema }]("Bad", nil), "no schema today"},
		"a value that is not JSON": {Define[struct{ P unwritableSchema }]("Bad", nil), "cannot be written"},
		"a pattern": {Define[struct {
			S string `jsonschema:"pattern=["`
		}]("Bad", nil), `S: jsonschema tag pattern="[" is not a regular expression`},
		"an unknown keyword": {Define[struct {
			S string `json:"s" jsonschema:"minLenght=1"`
		}]("Bad", nil), `S: jsonschema tag "minLenght" does not apply to a JSON string; did you mean "minLength"?`},
		"a keyword of another type": {Define[struct {
			N int `jsonschema:"minLength=1"`
		}]("Bad", nil), `N: jsonschema tag "minLength" does not apply to a JSON integer`},
		"no number": {Define[struct {
			N int `jsonschema:"minimum=one"`
		}]("Bad", nil), `N: jsonschema tag minimum="one" is not a number`},
		"no count": {Define[struct {
			S []int `jsonschema:"minItems=-1"`
		}]("Bad", nil), `S: jsonschema tag minItems="-1" is not a count`},
		"no value": {Define[struct {
			S []int `jsonschema:"uniqueItems"`
		}]("Bad", nil), `S: jsonschema tag "uniqueItems" has no value`},
		"a number written as text": {Define[struct {
			N int `json:",string" jsonschema:"minimum=1"`
		}]("Bad", nil), `N: jsonschema tag "minimum" does not apply`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, err := New(NewMemoryStore(), WithTasks(c.task))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "schema_traps_test.go:") {
				t.Errorf("error %v, want one with %q and the place of Define", err, c.want)
			}
		})
	}
}

func TestOddTypesHaveASchema(t *testing.T) {
	t.Parallel()

	for _, task := range []AnyTask{
		Define[struct{ P nilSchema }]("Nil", nil), Define[struct{ P badPointer }]("Pointer", nil), Define[struct{ L []badPointer }]("Pointers", nil),
	} {
		if _, err := New(NewMemoryStore(), WithTasks(task)); err != nil {
			t.Errorf("%s: %v", task.Name(), err)
		}
	}
}

type foreignSchema struct{ A int }

// foreignURL is where foreignSchema refers to.
var foreignURL atomic.Pointer[string]

func (foreignSchema) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Ref: *foreignURL.Load()}
}

func TestNoReferenceIsEverFetched(t *testing.T) {
	t.Parallel()

	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = w.Write([]byte(`{"type": "object"}`))
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type": "object"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{server.URL + "/schema.json", "file://" + file, file} {
		foreignURL.Store(&url)
		_, err := New(NewMemoryStore(), WithTasks(Define[struct{ P foreignSchema }]("Foreign", nil)))
		if err == nil || !strings.Contains(err.Error(), "nothing is fetched") {
			t.Errorf("%s in a type's schema: error %v, want that nothing is fetched", url, err)
		}
		path := filepath.Join(t.TempDir(), "tasks.yaml")
		text := "tasks:\n  - name: Plain\n    parameters: {$ref: '" + url + "'}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = New(NewMemoryStore(), WithTasks(Define[struct{ A int }]("Plain", nil)), WithTaskFile(path))
		if err == nil || !strings.Contains(err.Error(), "nothing else is followed") {
			t.Errorf("%s in a task file: error %v, want that nothing is followed", url, err)
		}
		if found, err := CheckCompatible([]byte(text), []byte(text)); len(found) > 0 || err != nil {
			t.Errorf("%s, compared with itself: %v, %v", url, found, err)
		}
	}
	if n := requests.Load(); n > 0 {
		t.Errorf("%d requests reached the server", n)
	}
	if response, err := http.Get(server.URL); err != nil || requests.Load() != 1 {
		t.Errorf("the server does not count: %v", err)
	} else {
		response.Body.Close()
	}
}
