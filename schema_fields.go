package anchor

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// jsonField is a member of the JSON object that encoding/json writes for a struct.
type jsonField struct {
	name   string
	path   string // as in Go: Outer.Field
	typ    reflect.Type
	tag    reflect.StructTag
	index  []int
	tagged bool
	// omitted tells that the member may be left out; quoted that the value is written inside a string.
	omitted, quoted bool
	omitempty       bool
	omitzero        bool
	// viaPointer tells that a pointer to an embedded struct leads to it.
	viaPointer bool
}

// jsonFields lists the members that encoding/json writes for the struct t, in its order and by its rules for
// embedded structs: the shallowest field of a name wins, among those one with a tag; a tie writes none.
func jsonFields(t reflect.Type) []jsonField {
	type embedded struct {
		typ     reflect.Type
		index   []int
		path    string
		omitted bool
	}
	level := []embedded{{typ: t, path: t.Name()}}
	visited := map[reflect.Type]bool{}
	settled := map[string]bool{}
	var fields []jsonField
	for len(level) > 0 {
		var next []embedded
		here := map[string][]jsonField{}
		count := map[reflect.Type]int{}
		for _, e := range level {
			count[e.typ]++
		}
		for _, e := range level {
			if visited[e.typ] {
				continue
			}
			visited[e.typ] = true
			for i := range e.typ.NumField() {
				field := e.typ.Field(i)
				index := append(slices.Clone(e.index), i)
				inner := field.Type
				if inner.Kind() == reflect.Pointer && inner.Name() == "" {
					inner = inner.Elem()
				}
				isStruct := inner.Kind() == reflect.Struct
				tag := field.Tag.Get("json")
				if tag == "-" || !field.IsExported() && (!field.Anonymous || !isStruct) {
					continue
				}
				name, options, _ := strings.Cut(tag, ",")
				if !usableName(name) {
					name = ""
				}
				path := strings.TrimPrefix(e.path+"."+field.Name, ".")
				if field.Anonymous && isStruct && name == "" {
					next = append(next, embedded{inner, index, path, e.omitted || field.Type.Kind() == reflect.Pointer})
					continue
				}
				f := jsonField{name: name, path: path, typ: field.Type, tag: field.Tag, index: index, tagged: name != ""}
				if name == "" {
					f.name = field.Name
				}
				for option := range strings.SplitSeq(options, ",") {
					f.omitempty = f.omitempty || option == "omitempty"
					f.omitzero = f.omitzero || option == "omitzero"
					f.quoted = f.quoted || option == "string" && quotable(inner) && !marshals(inner)
				}
				f.omitted, f.viaPointer = e.omitted || f.omitempty || f.omitzero, e.omitted
				for range count[e.typ] { // a struct embedded twice at one depth ties with itself
					here[f.name] = append(here[f.name], f)
				}
			}
		}
		for name, candidates := range here {
			if settled[name] {
				continue
			}
			settled[name] = true
			if f, ok := dominant(candidates); ok {
				fields = append(fields, f)
			}
		}
		level = next
	}
	slices.SortFunc(fields, func(a, b jsonField) int { return slices.Compare(a.index, b.index) })
	return fields
}

// dominant picks the one field among those of a name and a depth.
func dominant(candidates []jsonField) (jsonField, bool) {
	slices.SortStableFunc(candidates, func(a, b jsonField) int {
		return -cmp.Compare(btoi(a.tagged), btoi(b.tagged))
	})
	if len(candidates) > 1 && candidates[0].tagged == candidates[1].tagged {
		return jsonField{}, false
	}
	return candidates[0], true
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// usableName tells whether encoding/json takes a tag's name; it ignores others in silence.
func usableName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return name != ""
}

// quotable tells whether the ",string" option applies.
func quotable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64:
		return true
	}
	return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uintptr
}
