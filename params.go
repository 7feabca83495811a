package anchor

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	maxParamsSize  = 1 << 20
	maxParamsDepth = 64
)

var (
	jsonMarshalerType = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// checkParamsType refuses a P that encoding/json cannot carry there and back as an object.
func checkParamsType(t reflect.Type) error {
	switch {
	case t.Kind() != reflect.Struct:
		return fmt.Errorf("the parameters' type %v is not a struct", t)
	case marshals(t):
		return checkWrittenAsObject(t)
	case allHidden(t):
		return fmt.Errorf("the parameters' type %v has no exported field: JSON would lose what it holds", t)
	}
	return checkFieldType(t, t.String(), map[reflect.Type]bool{})
}

// checkWrittenAsObject tries what the methods of t, or of what it embeds, write for a zero value. null says nothing
// of other values, nor does a failure.
func checkWrittenAsObject(t reflect.Type) error {
	if raw, err := marshalSafely(reflect.New(t).Interface()); err == nil && raw[0] != '{' && string(raw) != "null" {
		return fmt.Errorf("the parameters' type %v writes itself as JSON that is no object (a MarshalJSON or MarshalText method, perhaps of an embedded type)", t)
	}
	return nil
}

// allHidden tells whether all of a struct's fields, and at least one, are unexported.
func allHidden(t reflect.Type) bool {
	hidden := 0
	for i := range t.NumField() {
		field := t.Field(i)
		if field.IsExported() || field.Anonymous {
			return false
		}
		if field.Name != "_" {
			hidden++
		}
	}
	return hidden > 0
}

func checkFieldType(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	if implements(t, jsonMarshalerType) || implements(t, textMarshalerType) {
		return nil
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		return fmt.Errorf("%s is a %v, which JSON cannot hold", path, t.Kind())
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("%s is the interface %v, which JSON cannot be decoded into", path, t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return checkFieldType(t.Elem(), path, seen)
	case reflect.Map:
		switch key := t.Key(); {
		case implements(key, textMarshalerType), key.Kind() == reflect.String, key.Kind() >= reflect.Int && key.Kind() <= reflect.Uint64:
		default:
			return fmt.Errorf("%s is a map with keys of type %v, which JSON cannot hold", path, key)
		}
		return checkFieldType(t.Elem(), path, seen)
	case reflect.Struct:
		var errs []error
		for i := range t.NumField() {
			field := t.Field(i)
			if (!field.IsExported() && !field.Anonymous) || field.Tag.Get("json") == "-" {
				continue
			}
			errs = append(errs, checkFieldType(field.Type, path+"."+field.Name, seen))
		}
		return errors.Join(errs...)
	}
	return nil
}

func implements(t, iface reflect.Type) bool {
	return t.Implements(iface) || reflect.PointerTo(t).Implements(iface)
}

// encodeParams writes params, a non-nil pointer to the task's P, as the JSON object that is stored.
func encodeParams(task string, params any) ([]byte, error) {
	raw, err := marshalSafely(params)
	if err != nil {
		return nil, unwritable(task, params, err)
	}
	if len(raw) > maxParamsSize {
		return nil, invalidParams(task, "", fmt.Sprintf("%d bytes of JSON, at most %d are allowed", len(raw), maxParamsSize))
	}
	if pointer, what := checkJSON(raw); what != "" {
		return nil, invalidParams(task, pointer, what)
	}
	return raw, nil
}

var errMarshalPanicked = errors.New("a MarshalJSON or MarshalText method panicked")

func marshalSafely(v any) (raw []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			raw, err = nil, errMarshalPanicked
		}
	}()
	return json.Marshal(v)
}

func invalidParams(task, pointer, message string) *ValidationError {
	return &ValidationError{Task: task, Violations: []Violation{{Pointer: pointer, Message: message}}}
}

// unwritable says what json.Marshal refused and where, in so far as it can be found. The text of its error may quote
// values.
func unwritable(task string, params any, err error) *ValidationError {
	pointer, what := unsupportedValue(reflect.ValueOf(params), "", 0)
	switch {
	case what != "":
	case errors.Is(err, errMarshalPanicked):
		what = err.Error()
	default:
		what = "cannot be written as JSON"
	}
	return invalidParams(task, pointer, what)
}

// unsupportedValue finds the first value that json.Marshal refuses.
func unsupportedValue(v reflect.Value, pointer string, depth int) (string, string) {
	if depth > 1000 {
		return "", "nested without end"
	}
	if what, decided := unsupportedByItself(v); decided {
		return pointer, what
	}
	switch v.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return pointer, fmt.Sprintf("is a %v, which JSON cannot hold", v.Type())
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return pointer, "is NaN or infinite, which JSON cannot hold"
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return unsupportedValue(v.Elem(), pointer, depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if at, what := unsupportedValue(v.Index(i), pointer+"/"+strconv.Itoa(i), depth+1); what != "" {
				return at, what
			}
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(mapKey(a), mapKey(b)) })
		for _, key := range keys {
			if at, what := unsupportedValue(v.MapIndex(key), pointer+"/"+escapePointer(mapKey(key)), depth+1); what != "" {
				return at, what
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			tag := field.Tag.Get("json")
			if (!field.IsExported() && !field.Anonymous) || tag == "-" {
				continue
			}
			name, _, _ := strings.Cut(tag, ",")
			at := pointer
			switch {
			case name != "":
				at += "/" + escapePointer(name)
			case !field.Anonymous:
				at += "/" + escapePointer(field.Name)
			}
			if at, what := unsupportedValue(v.Field(i), at, depth+1); what != "" {
				return at, what
			}
		}
	}
	return "", ""
}

// unsupportedByItself judges a value whose type writes itself. decided is false of any other.
func unsupportedByItself(v reflect.Value) (what string, decided bool) {
	isPointer := v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface
	if !v.IsValid() || isPointer || !v.CanInterface() || !marshals(v.Type()) && v.Type() != numberType {
		return "", false // what a pointer points to is judged instead
	}
	if v.CanAddr() {
		v = v.Addr()
	}
	_, err := marshalSafely(v.Interface())
	written := reflect.Indirect(v).Type()
	switch {
	case err == nil:
		return "", true
	case errors.Is(err, errMarshalPanicked):
		return fmt.Sprintf("the MarshalJSON or MarshalText method of %v panicked", written), true
	case written == reflect.TypeFor[json.RawMessage](), written == numberType:
		return fmt.Sprintf("is a %v that is not valid JSON", written), true
	}
	return fmt.Sprintf("the MarshalJSON or MarshalText method of %v failed, or wrote no valid JSON", written), true
}

// mapKey is the name that encoding/json gives a key, "*" for one that writes itself.
func mapKey(key reflect.Value) string {
	switch {
	case key.Kind() == reflect.String:
		return key.String()
	case key.Type().Implements(textMarshalerType):
		return "*"
	}
	return fmt.Sprint(key)
}

var errNotAnObject = errors.New("is not a JSON object")

// decodeStrictly reads raw into a pointer to P: an object, no unknown fields, nothing behind it. Its errors
// name fields and types, never values.
func decodeStrictly(raw []byte, into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("an UnmarshalJSON or UnmarshalText method of %T panicked", into)
		}
	}()
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return errNotAnObject
	}
	decoder := strictDecoders.Get().(*strictDecoder)
	decoder.source.Reset(raw)
	began := decoder.json.InputOffset()
	if err := decoder.json.Decode(into); err != nil {
		return decodeError(err, into) // what is left in this decoder must not meet the next document
	}
	switch read := int(decoder.json.InputOffset() - began); {
	case read == len(raw):
		strictDecoders.Put(decoder)
	case len(bytes.TrimSpace(raw[read:])) > 0:
		return errors.New("more data behind the JSON object")
	}
	return nil
}

// strictDecoder is used for one document after the other, as if they were one stream.
type strictDecoder struct {
	source bytes.Reader
	json   *json.Decoder
}

var strictDecoders = sync.Pool{New: func() any {
	d := &strictDecoder{}
	d.json = json.NewDecoder(&d.source)
	d.json.DisallowUnknownFields()
	return d
}}

func decodeError(err error, into any) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType):
		kind, _, _ := strings.Cut(wrongType.Value, " ")
		return fmt.Errorf("field %q: a JSON %s does not fit Go's %v", wrongType.Field, kind, wrongType.Type)
	case errors.As(err, &syntax):
		return fmt.Errorf("not valid JSON at offset %d", syntax.Offset)
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not valid JSON: it ends too early")
	}
	return fmt.Errorf("does not decode into %v", reflect.TypeOf(into).Elem())
}
