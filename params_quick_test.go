package anchor

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type (
	quickParams struct {
		Text  string `json:"text"`
		Flag  bool
		Whole int    `json:"whole,omitempty"`
		Small int8   `json:"small"`
		Size  uint16 `json:"size"`
		Large uint64 `json:"large"`
	}
	quickNamed string
)

// UnmarshalJSON reads everything as the same.
func (n *quickNamed) UnmarshalJSON([]byte) error { *n = "read"; return nil }

func TestQuickDecoderIsForFlatTypesOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		of   any
		want bool
	}{
		"flat":       {quickParams{}, true},
		"none":       {struct{}{}, true},
		"named":      {struct{ A quickNamed }{}, false},
		"pointer":    {struct{ A *int }{}, false},
		"float":      {struct{ A float64 }{}, false},
		"embedded":   {struct{ quickParams }{}, false},
		"unexported": {struct{ a int }{}, false},
		"as a string": {struct {
			A int `json:"a,string"`
		}{}, false},
		"left out": {struct {
			A int `json:"-"`
		}{}, false},
		"two of a name": {reflect.Zero(reflect.StructOf([]reflect.StructField{
			{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"x"`}, {Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"x"`},
		})).Interface(), false},
		"reads itself": {readsItself{}, false},
		"list":         {struct{ A []string }{}, false},
	} {
		if got := newQuickDecoder(reflect.TypeOf(c.of)) != nil; got != c.want {
			t.Errorf("%s: quick is %t, want %t", name, got, c.want)
		}
	}
}

type readsItself struct{ A int }

func (r *readsItself) UnmarshalJSON([]byte) error { r.A = 1; return nil }

// agrees checks that what the quick decoder takes is what encoding/json makes of it.
func agrees(t interface{ Errorf(string, ...any) }, raw []byte) (quick bool) {
	var got, want quickParams
	complete, quick := newQuickDecoder(reflect.TypeFor[quickParams]()).decode(raw, &got)
	if !quick {
		return false
	}
	if err := decodeStrictly(raw, &want); err != nil {
		t.Errorf("%q is taken, although %v", raw, err)
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q (-encoding/json +quick):\n%s", raw, diff)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || complete != (len(fields) == reflect.TypeFor[quickParams]().NumField()) {
		t.Errorf("%q: complete is %t (%v)", raw, complete, err)
	}
	return true
}

func TestQuickDecoderReadsWhatGoWrites(t *testing.T) {
	t.Parallel()
	for _, p := range []quickParams{{}, {"text ü😀", true, -5, -128, 65535, 1<<64 - 1}, {Whole: 1<<63 - 1, Small: 127}} {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if !agrees(t, raw) {
			t.Errorf("%s is not taken", raw)
		}
	}
	if !agrees(t, []byte(" { \"small\" : -1 ,\n\t\"Flag\":false } ")) || !agrees(t, []byte("{ }")) {
		t.Error("white space is not taken")
	}
}

// Pieces of JSON, good and bad, in any order.
func TestQuickDecoderAgreesWithEncodingJSON(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"{", "}", ",", ":", " ", "\n", `"text"`, `"Text"`, `"Flag"`, `"flag"`, `"whole"`, `"small"`, `"size"`, `"large"`, `"other"`,
		"0", "-0", "-", "01", "7", "-7", "127", "128", "65536", "1.5", "1e3", "18446744073709551615", "18446744073709551616", "9223372036854775808",
		"true", "false", "null", "truely", `"a"`, `"\\n"`, `"\u0041"`, "\"\xff\"", "\"ü\"", "\"\x01\"", `"`, "[]", "{}",
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte("{")
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			if rapid.IntRange(0, 9).Draw(t, "form") > 0 { // mostly a field
				raw = append(raw, rapid.SampledFrom(pieces[6:15]).Draw(t, "name")+":"+rapid.SampledFrom(pieces[15:]).Draw(t, "value")+","...)
			} else {
				raw = append(raw, rapid.SampledFrom(pieces).Draw(t, "piece")...)
			}
		}
		if n := len(raw); raw[n-1] == ',' && rapid.IntRange(0, 9).Draw(t, "end") > 0 {
			raw = raw[:n-1]
		}
		agrees(t, append(raw, rapid.SampledFrom([]string{"}", "} ", "", "}}", "} 1"}).Draw(t, "close")...))
	})
}
