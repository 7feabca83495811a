package anchor

import (
	"encoding"
	"encoding/json"
	"math/bits"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// quickDecoder reads flat parameters, strings, integers and booleans by their exact names, straight from their bytes,
// in a third of the time that encoding/json takes. It never reads anything differently; what it is not sure of it
// leaves to encoding/json. It never changes once it is made.
type quickDecoder struct {
	fields map[string]int
}

// newQuickDecoder is nil for a type that has other fields, or too many.
func newQuickDecoder(t reflect.Type) *quickDecoder {
	if t.NumField() > 64 || implements(t, jsonUnmarshalerType) || implements(t, textUnmarshalerType) {
		return nil
	}
	d := &quickDecoder{fields: make(map[string]int, t.NumField())}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		_, twice := d.fields[name]
		if !field.IsExported() || field.Anonymous || name == "-" || strings.Contains(options, "string") || twice || !quickKind(field.Type) {
			return nil
		}
		d.fields[name] = i
	}
	return d
}

func quickKind(t reflect.Type) bool {
	if t.PkgPath() != "" { // a named type may have methods of its own
		return false
	}
	return t.Kind() == reflect.String || t.Kind() == reflect.Bool ||
		t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64 || t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64
}

// decode reads raw into a pointer to a new value of the type. It is not ok when it is not sure; what it has written by
// then is to be thrown away. It is complete when every field of the type was there.
func (d *quickDecoder) decode(raw []byte, into any) (complete, ok bool) {
	v := reflect.ValueOf(into).Elem()
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return false, false
	}
	if i = skipSpace(raw, i+1); i < len(raw) && raw[i] == '}' {
		return len(d.fields) == 0, skipSpace(raw, i+1) == len(raw)
	}
	var seen uint64
	for {
		key, end := quickText(raw, i)
		if end < 0 {
			return false, false
		}
		field, known := d.fields[string(key)]
		i = skipSpace(raw, end)
		if !known || i >= len(raw) || raw[i] != ':' {
			return false, false
		}
		seen |= 1 << field
		if i = quickValue(raw, skipSpace(raw, i+1), v.Field(field)); i < 0 {
			return false, false
		}
		if i = skipSpace(raw, i); i >= len(raw) {
			return false, false
		}
		switch raw[i] {
		case ',':
			i = skipSpace(raw, i+1)
		case '}':
			return bits.OnesCount64(seen) == len(d.fields), skipSpace(raw, i+1) == len(raw)
		default:
			return false, false
		}
	}
}

// quickValue sets v to the value at i and returns where it ends, -1 when it is not sure.
func quickValue(raw []byte, i int, v reflect.Value) int {
	switch kind := v.Kind(); {
	case kind == reflect.String:
		text, end := quickText(raw, i)
		if end >= 0 {
			v.SetString(string(text))
		}
		return end
	case kind == reflect.Bool:
		for _, word := range [...]string{"true", "false"} {
			if end := i + len(word); end <= len(raw) && string(raw[i:end]) == word {
				v.SetBool(word == "true")
				return end
			}
		}
		return -1
	}
	digits := i
	if digits < len(raw) && raw[digits] == '-' {
		digits++
	}
	end := digits
	for end < len(raw) && raw[end] >= '0' && raw[end] <= '9' {
		end++
	}
	if end == digits || end < len(raw) && (raw[end] == '.' || raw[end] == 'e' || raw[end] == 'E') || raw[digits] == '0' && end > digits+1 {
		return -1
	}
	if v.CanInt() {
		n, err := strconv.ParseInt(string(raw[i:end]), 10, 64)
		if err != nil || v.OverflowInt(n) {
			return -1
		}
		v.SetInt(n)
		return end
	}
	n, err := strconv.ParseUint(string(raw[i:end]), 10, 64)
	if err != nil || v.OverflowUint(n) {
		return -1
	}
	v.SetUint(n)
	return end
}

// quickText is the string at i without its quotes, and where it ends: -1 for one with escapes, or that is none.
func quickText(raw []byte, i int) (text []byte, end int) {
	if i >= len(raw) || raw[i] != '"' {
		return nil, -1
	}
	plain := true
	for end = i + 1; end < len(raw); end++ {
		switch c := raw[end]; {
		case c == '"':
			text = raw[i+1 : end]
			if !plain && !utf8.Valid(text) {
				return nil, -1
			}
			return text, end + 1
		case c == '\\' || c < ' ':
			return nil, -1
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return nil, -1
}
