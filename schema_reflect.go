package anchor

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// guaranteedKey marks, in a schema under construction, the keywords that Go's types see to by themselves. It is
// never shown.
const guaranteedKey = "\x00guaranteed"

// schemaProvider and schemaExtender are how a type gives its own schema, or adds to the reflected one.
type (
	schemaProvider interface{ JSONSchema() *jsonschema.Schema }
	schemaExtender interface{ JSONSchemaExtend(*jsonschema.Schema) }
)

var (
	timeType       = reflect.TypeFor[time.Time]()
	durationType   = reflect.TypeFor[time.Duration]()
	numberType     = reflect.TypeFor[json.Number]()
	byteType       = reflect.TypeFor[byte]()
	schemaProvides = reflect.TypeFor[schemaProvider]()
	schemaExtends  = reflect.TypeFor[schemaExtender]()
	zeroReports    = reflect.TypeFor[interface{ IsZero() bool }]()
)

// reflectSchema describes what encoding/json writes for a t, as a JSON Schema with the guaranteed keywords marked.
// It never panics: what goes wrong in a method of the type is an error.
func reflectSchema(t reflect.Type) (schema *jsonschema.Schema, err error) {
	defer func() {
		if r := recover(); r != nil {
			schema, err = nil, fmt.Errorf("the JSON Schema of %v cannot be made: %v", t, r)
		}
	}()
	r := &schemaReflector{
		root: t, names: map[reflect.Type]string{}, taken: map[string]bool{},
		building: map[reflect.Type]bool{}, definitions: jsonschema.Definitions{},
	}
	r.name(t)
	schema = r.describe(t, true)
	schema.Version = jsonschema.Version
	if len(r.definitions) > 0 {
		schema.Definitions = r.definitions
	}
	return schema, errors.Join(r.errs...)
}

// schemaReflector follows a type. Struct tags are read by [jsonschema.Reflector], one flat struct at a time; what the
// types themselves say, and what refers to what, is settled here.
type schemaReflector struct {
	root        reflect.Type
	names       map[reflect.Type]string // of definitions
	taken       map[string]bool
	building    map[reflect.Type]bool
	definitions jsonschema.Definitions
	errs        []error
}

// schemaOf is the schema of a value of type t; addressable tells whether methods of *t are found by encoding/json.
// The result is the caller's own.
func (r *schemaReflector) schemaOf(t reflect.Type, addressable bool) *jsonschema.Schema {
	if t.Kind() == reflect.Pointer {
		if r.building[t] { // type P *P
			return &jsonschema.Schema{}
		}
		r.building[t] = true
		defer delete(r.building, t)
		return nullable(r.schemaOf(t.Elem(), true))
	}
	if t == r.root && !r.provides(t) && !marshals(t) {
		return &jsonschema.Schema{Ref: "#"}
	}
	if t.Name() == "" || !r.defined(t) {
		return r.describe(t, addressable)
	}
	name, known := r.name(t)
	if !known {
		r.definitions[name] = nil // it may refer to itself
		r.definitions[name] = r.describe(t, addressable)
	}
	return &jsonschema.Schema{Ref: "#/$defs/" + name}
}

// defined tells whether a named type has a definition of its own, to which others refer: a struct, and whatever
// holds itself.
func (r *schemaReflector) defined(t reflect.Type) bool {
	if r.provides(t) {
		return true
	}
	if marshals(t) {
		return false
	}
	return t.Kind() == reflect.Struct || holds(t, t, map[reflect.Type]bool{})
}

func (r *schemaReflector) provides(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(schemaProvides)
}

// marshals tells whether a type writes itself.
func marshals(t reflect.Type) bool {
	return implements(t, jsonMarshalerType) || implements(t, textMarshalerType)
}

// holds tells whether values of t may hold values of target.
func holds(t, target reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || marshals(t) {
		return false
	}
	seen[t] = true
	inner := []reflect.Type{}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		inner = append(inner, t.Elem())
	case reflect.Struct:
		for _, f := range jsonFields(t) {
			inner = append(inner, f.typ)
		}
	}
	return slices.ContainsFunc(inner, func(t reflect.Type) bool { return t == target || holds(t, target, seen) })
}

// describe writes the schema of t itself.
func (r *schemaReflector) describe(t reflect.Type, addressable bool) *jsonschema.Schema {
	if r.provides(t) {
		return r.provided(t)
	}
	switch t {
	case timeType:
		return guaranteed(&jsonschema.Schema{Type: "string", Format: "date-time"}, "type", "format")
	case numberType:
		return guaranteed(&jsonschema.Schema{Type: "number"}, "type")
	case durationType:
		return guaranteed(&jsonschema.Schema{Type: "integer", Format: "int64", Description: "nanoseconds"}, "type", "format")
	}
	switch {
	case implements(t, jsonMarshalerType):
		if t == r.root {
			return guaranteed(&jsonschema.Schema{Type: "object"}, "type")
		}
		return &jsonschema.Schema{}
	case t.Implements(textMarshalerType), addressable && implements(t, textMarshalerType):
		return guaranteed(&jsonschema.Schema{Type: "string"}, "type")
	case implements(t, textMarshalerType):
		return &jsonschema.Schema{} // written field by field, but read as text
	}
	switch kind := t.Kind(); kind {
	case reflect.Bool:
		return guaranteed(&jsonschema.Schema{Type: "boolean"}, "type")
	case reflect.String:
		return guaranteed(&jsonschema.Schema{Type: "string"}, "type")
	case reflect.Float32:
		return guaranteed(&jsonschema.Schema{Type: "number", Format: "float"}, "type", "format")
	case reflect.Float64:
		return guaranteed(&jsonschema.Schema{Type: "number", Format: "double"}, "type", "format")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return guaranteed(&jsonschema.Schema{Type: "integer", Format: fmt.Sprintf("int%d", t.Bits())}, "type", "format")
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return guaranteed(&jsonschema.Schema{Type: "integer", Format: fmt.Sprintf("uint%d", t.Bits()), Minimum: "0"}, "type", "format", "minimum")
	case reflect.Slice, reflect.Array:
		return r.list(t, addressable)
	case reflect.Map:
		return r.mapping(t)
	case reflect.Struct:
		return r.object(t, addressable)
	}
	return &jsonschema.Schema{}
}

func guaranteed(s *jsonschema.Schema, keywords ...string) *jsonschema.Schema {
	s.Extras = map[string]any{guaranteedKey: keywords}
	return s
}

// provided asks the type for its schema. References within it stay within it.
func (r *schemaReflector) provided(t reflect.Type) *jsonschema.Schema {
	given := reflect.New(t).Interface().(schemaProvider).JSONSchema()
	if given == nil {
		return &jsonschema.Schema{}
	}
	schema := *given
	schema.Version = ""
	if t != r.root && schema.ID == jsonschema.EmptyID && len(schema.Definitions) > 0 {
		name, _ := r.name(t)
		schema.ID = jsonschema.ID(providedID + name)
	}
	return &schema
}

// providedID is where schemas of their own, with definitions of their own, are.
const providedID = "anchor:///types/"

func (r *schemaReflector) list(t reflect.Type, addressable bool) *jsonschema.Schema {
	if t.Kind() == reflect.Slice && byteSlice(t) {
		return nullable(guaranteed(&jsonschema.Schema{Type: "string", ContentEncoding: "base64"}, "type", "contentEncoding"))
	}
	schema := guaranteed(&jsonschema.Schema{Type: "array"}, "type")
	if t.Kind() == reflect.Array {
		length := uint64(t.Len())
		schema.MinItems, schema.MaxItems = &length, &length
		guaranteed(schema, "type", "minItems", "maxItems")
		schema.Items = r.schemaOf(t.Elem(), addressable)
		return schema
	}
	schema.Items = r.schemaOf(t.Elem(), true)
	return nullable(schema)
}

// byteSlice tells whether encoding/json writes a slice as base64.
func byteSlice(t reflect.Type) bool {
	return t.Elem().Kind() == byteType.Kind() && !implements(t.Elem(), jsonMarshalerType) && !implements(t.Elem(), textMarshalerType)
}

func (r *schemaReflector) mapping(t reflect.Type) *jsonschema.Schema {
	schema := guaranteed(&jsonschema.Schema{Type: "object"}, "type", "propertyNames")
	switch key := t.Key(); {
	case key.Kind() == reflect.String, implements(key, textMarshalerType):
	case key.Kind() >= reflect.Int && key.Kind() <= reflect.Int64:
		schema.PropertyNames = &jsonschema.Schema{Pattern: `^-?[0-9]+$`}
	default:
		schema.PropertyNames = &jsonschema.Schema{Pattern: `^[0-9]+$`}
	}
	if elem := r.schemaOf(t.Elem(), false); !reflect.DeepEqual(elem, &jsonschema.Schema{}) {
		schema.AdditionalProperties = elem
	}
	return nullable(schema)
}

// nullable adds null to what a schema allows.
func nullable(s *jsonschema.Schema) *jsonschema.Schema {
	switch {
	case s.Type != "":
		s.Extras = withExtra(s.Extras, "type", []string{s.Type, "null"})
		s.Type = ""
		if s.Enum != nil {
			s.Enum = append(s.Enum, nil)
		}
		return s
	case s.Ref != "":
		annotated := &jsonschema.Schema{Description: s.Description, Title: s.Title}
		s.Description, s.Title = "", ""
		annotated.AnyOf = []*jsonschema.Schema{s, {Type: "null"}}
		return annotated
	}
	return s // it allows null already, or anything
}

// notNullable undoes nullable.
func notNullable(s *jsonschema.Schema) *jsonschema.Schema {
	if types, ok := s.Extras["type"].([]string); ok && len(types) == 2 && types[1] == "null" {
		delete(s.Extras, "type")
		s.Type = types[0]
		if n := len(s.Enum); n > 0 && s.Enum[n-1] == nil {
			s.Enum = s.Enum[:n-1]
		}
	}
	if len(s.AnyOf) == 2 && s.AnyOf[1].Type == "null" && s.AnyOf[0].Ref != "" {
		return s.AnyOf[0]
	}
	return s
}

func withExtra(extras map[string]any, key string, value any) map[string]any {
	if extras == nil {
		extras = map[string]any{}
	}
	extras[key] = value
	return extras
}

// fieldMarker stands for a field's type while tags are read: the length of an array of it says which field.
type fieldMarker struct{}

// object describes a struct. Its fields are known by encoding/json's rules; [jsonschema.Reflector] reads their tags
// from a struct made of them, whose types are markers, so that it never follows a type itself.
func (r *schemaReflector) object(t reflect.Type, addressable bool) *jsonschema.Schema {
	fields := jsonFields(t)
	types := make([]*jsonschema.Schema, len(fields))
	notes := make([]string, len(fields))
	nulls, wanted := make([]bool, len(fields)), make([]bool, len(fields))
	flat := make([]reflect.StructField, len(fields))
	names := make(map[string]string, len(fields))
	for i, f := range fields {
		types[i] = notNullable(r.schemaOf(f.typ, addressable || f.viaPointer))
		notes[i] = types[i].Description
		nulls[i] = f.writesNull()
		tags, err := readTags(f, types[i])
		if err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s: %w", f.path, err))
		}
		wanted[i] = tags.nullable
		placeholder := "F" + strconv.Itoa(i)
		names[placeholder] = f.name
		flat[i] = reflect.StructField{
			Name: placeholder, Type: reflect.ArrayOf(i, reflect.TypeFor[fieldMarker]()),
			Tag: reflect.StructTag(fmt.Sprintf("json:%q ", placeholder+onlyIf(f.omitted, ",omitempty")) + tags.text),
		}
	}
	reader := &jsonschema.Reflector{
		Anonymous: true,
		KeyNamer:  func(placeholder string) string { return names[placeholder] },
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t.Kind() == reflect.Array && t.Elem() == reflect.TypeFor[fieldMarker]() {
				return types[t.Len()]
			}
			return nil
		},
	}
	schema := reader.ReflectFromType(reflect.StructOf(flat))
	schema.Version, schema.Definitions = "", nil
	guaranteed(schema, "type", "required", "additionalProperties")
	if slices.ContainsFunc(fields, func(f jsonField) bool { return f.omitted && slices.Contains(schema.Required, f.name) }) {
		noGuarantee(schema, "required")
	}
	for i, f := range fields {
		property, _ := schema.Properties.Get(f.name)
		if property.Description == "" {
			property.Description = notes[i]
		}
		if f.quoted {
			property = quoted(property, f.typ)
		}
		if nulls[i] && f.typ.Kind() == reflect.Slice && (isAtLeastOne(property.MinItems) || isAtLeastOne(property.MinLength)) {
			nulls[i] = false // a nil slice is an empty one, and that is too short
			noGuarantee(property, "type")
		}
		if nulls[i] || wanted[i] {
			property = nullable(property)
		}
		schema.Properties.Set(f.name, property)
	}
	if reflect.PointerTo(t).Implements(schemaExtends) {
		reflect.New(t).Interface().(schemaExtender).JSONSchemaExtend(schema)
	}
	return schema
}

func isAtLeastOne(bound *uint64) bool { return bound != nil && *bound > 0 }

func onlyIf(condition bool, s string) string {
	if condition {
		return s
	}
	return ""
}

// writesNull tells whether encoding/json may write null for the field.
func (f jsonField) writesNull() bool {
	if f.omitempty || f.omitzero && !implements(f.typ, zeroReports) {
		return f.typ.Kind() == reflect.Pointer && writesNull(f.typ.Elem()) // a pointer to nil
	}
	return writesNull(f.typ)
}

// writesNull tells whether encoding/json may write null for a t.
func writesNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer:
		return true
	case reflect.Slice, reflect.Map:
		return !marshals(t)
	}
	return false
}

// quoted is the schema of a value that the ",string" option writes inside a string.
func quoted(s *jsonschema.Schema, t reflect.Type) *jsonschema.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	written := &jsonschema.Schema{Type: "string", Title: s.Title, Description: s.Description}
	switch kind := t.Kind(); {
	case kind == reflect.Bool:
		written.Enum = []any{"true", "false"}
		return guaranteed(written, "type", "enum")
	case kind == reflect.String && t != numberType:
		written.Pattern = `^"`
	case t == numberType, kind == reflect.Float32, kind == reflect.Float64:
		written.Pattern = `^-?[0-9]`
	case kind >= reflect.Uint && kind <= reflect.Uintptr:
		written.Pattern = `^[0-9]+$`
	default:
		written.Pattern = `^-?[0-9]+$`
	}
	return guaranteed(written, "type", "pattern")
}

var (
	unsafeInName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
	packagePath  = regexp.MustCompile(`[^\[\],*]*/`)
)

// name is what the definition of t is called: its own name, with its package or a number only where two types of one
// name meet. known tells that it was called before.
func (r *schemaReflector) name(t reflect.Type) (name string, known bool) {
	if name, known := r.names[t]; known {
		return name, true
	}
	// The full path of a package stands in the name of a generic type's arguments.
	short := packagePath.ReplaceAllString(t.Name(), "")
	short = strings.Trim(unsafeInName.ReplaceAllString(short, "_"), "_")
	if short == "" {
		short = "type"
	}
	name = short
	if r.taken[name] {
		path := strings.Trim(unsafeInName.ReplaceAllString(t.PkgPath(), "."), ".")
		name = path + "." + short
	}
	for n := 2; r.taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", short, n)
	}
	r.names[t], r.taken[name] = name, true
	return name, false
}
