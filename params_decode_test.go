package anchor

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type decoded struct {
	Name  string            `json:"name"`
	Count int8              `json:"count"`
	Inner struct{ A []int } `json:"inner"`
	Keys  map[int]string    `json:"keys"`
	Panic *panicking        `json:"panic"`
}

func TestDecodeStrictlyRefuses(t *testing.T) {
	t.Parallel()

	for _, c := range []struct{ name, raw, want string }{
		{"unknown field", `{"name":"s3cr3t","nmae":"s3cr3t"}`, `unknown field "nmae"`},
		{"unknown field, nested", `{"inner":{"B":"s3cr3t"}}`, `unknown field "B"`},
		{"wrong type", `{"count":"s3cr3t"}`, `field "count": a JSON string does not fit Go's int8`},
		{"wrong type, nested", `{"inner":{"A":[1,"s3cr3t"]}}`, `field "inner.A": a JSON string does not fit Go's int`},
		{"too large a number", `{"count":987654321}`, `field "count": a JSON number does not fit Go's int8`},
		{"a map key of another type", `{"keys":{"s3cr3t":"x"}}`, `a JSON number does not fit Go's int`},
		{"trailing data", `{"name":"x"} {"name":"s3cr3t"}`, "more data behind the JSON object"},
		{"trailing rubbish", `{"name":"x"}s3cr3t`, "more data behind the JSON object"},
		{"null", `null`, "is not a JSON object"},
		{"array", `["s3cr3t"]`, "is not a JSON object"},
		{"string", `"s3cr3t"`, "is not a JSON object"},
		{"empty", ``, "is not a JSON object"},
		{"spaces", "  \n", "is not a JSON object"},
		{"cut short", `{"name":"s3cr3t`, "it ends too early"},
		{"no JSON", `{"name":s3cr3t}`, "not valid JSON at offset 9"},
		{"a method panics", `{"panic":{"s3cr3t":1}}`, "panicked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			err := decodeStrictly([]byte(c.raw), new(decoded))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not have %q", err, c.want)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "987654321") {
				t.Errorf("error %q quotes the value", err)
			}
		})
	}
}

func TestDecodeStrictlyAccepts(t *testing.T) {
	t.Parallel()

	for raw, want := range map[string]decoded{
		`{}`:                             {},
		"\n\t {\"name\":\"x\"} \r\n ":    {Name: "x"},
		`{"count":127,"keys":{"1":"a"}}`: {Count: 127, Keys: map[int]string{1: "a"}},
		`{"name":null}`:                  {},
	} {
		var got decoded
		if err := decodeStrictly([]byte(raw), &got); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", raw, diff)
		}
	}
}
