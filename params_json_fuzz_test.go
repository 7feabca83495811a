package anchor

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	stringToken = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"`)
	escapeToken = regexp.MustCompile(`(?s)\\(?:u[0-9a-fA-F]{4}|.)`)
	pairOrUnit  = regexp.MustCompile(`(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\u[0-9a-f]{4}`)
)

// simplyBadText is what makes a string bad, by regular expressions.
func simplyBadText(token string) bool {
	if !utf8.ValidString(token) {
		return true
	}
	// Escapes that are no code unit go first, so that a backslash before a u is not taken for one.
	token = escapeToken.ReplaceAllStringFunc(token, func(escape string) string {
		if escape[1] == 'u' {
			return escape
		}
		return "."
	})
	for _, unit := range pairOrUnit.FindAllString(token, -1) {
		unit = strings.ToLower(unit)
		if len(unit) == 6 && (unit == `\u0000` || unit == `\ufffd` || unit[2] == 'd' && unit[3] >= '8') {
			return true
		}
	}
	return false
}

// pointersOf lists the JSON pointers of every value in raw.
func pointersOf(raw []byte) (pointers map[string]bool, deepest int) {
	pointers = map[string]bool{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var walk func(pointer string, depth int)
	walk = func(pointer string, depth int) {
		pointers[pointer] = true
		token, err := decoder.Token()
		if err != nil && err != io.EOF {
			panic(err)
		}
		delim, _ := token.(json.Delim)
		if delim != 0 {
			deepest = max(deepest, depth+1)
		}
		for i := 0; delim != 0 && decoder.More(); i++ {
			key := strconv.Itoa(i)
			if delim == '{' {
				token, _ := decoder.Token()
				key = strings.ReplaceAll(strings.ReplaceAll(token.(string), "~", "~0"), "/", "~1")
			}
			walk(pointer+"/"+key, depth+1)
		}
		if delim != 0 {
			_, _ = decoder.Token()
		}
	}
	walk("", 0)
	return pointers, deepest
}

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `{"a":"\u0000"}`, `{"a~b/c":{"":["x",{"\ufffd":1}]}}`, `{"a":"\\u0000"}`, `{"a":"\\\u0000"}`, `{"\\":"\uD800\uDC00"}`,
		`{"a":["\ud800",1.5e5,true]}`, "{\"a\":\"\xff\"}", `{"a":[[[[{"b":"]"}]]]],"c":"\ufffd"}`, `{"a":"x\u0000","a":{"b":"\u0000"}}`,
		`{"a":1e400000}`, `{"a":[0,-1E-5,{"n":1e999999}]}`, `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var compact bytes.Buffer
		if !json.Valid(raw) || json.Compact(&compact, raw) != nil {
			return // checkJSON is given what encoding/json wrote
		}
		raw = compact.Bytes()
		pointer, what := checkJSON(raw)

		pointers, deepest := pointersOf(raw)
		wantBad := raw[0] != '{' || deepest > maxParamsDepth
		for _, token := range stringToken.FindAllString(string(raw), -1) {
			wantBad = wantBad || simplyBadText(token)
		}
		isNumber := strings.Contains(what, "number")
		if !isNumber && wantBad != (what != "") {
			t.Fatalf("%q: checkJSON says %q, the reference %v", raw, what, wantBad)
		}
		if what != "" && !pointers[pointer] {
			t.Fatalf("%q: there is no %q", raw, pointer)
		}
		if isNumber && !bytes.ContainsAny(raw, "eE") && len(raw) < maxPlainDigits {
			t.Fatalf("%q: no number in it is long", raw)
		}
	})
}
