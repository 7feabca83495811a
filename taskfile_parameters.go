package anchor

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
)

// schemaDiffer finds where a schema in a task file differs from the one of the Go type. What describes the values
// without bounding them may be left out or changed, and what Go's types see to by themselves may be left out:
// formats, additionalProperties, null for a nil slice. All else must be there, and the same.
type schemaDiffer struct {
	declaredRoot, writtenRoot any
	typeName                  string
	report                    func(pointer, message string)
	compared                  map[[2]string]bool // pairs of references
}

const maxSchemaDepth = 200

func (d *schemaDiffer) diff(declared, written any, pointer string, depth int) {
	if depth > maxSchemaDepth {
		return
	}
	declaredSchema, declaredRef, _ := resolveRef(d.declaredRoot, declared)
	writtenSchema, writtenRef, ok := resolveRef(d.writtenRoot, written)
	if !ok {
		d.report(pointer+"/$ref", "the reference does not lead to a schema in these parameters; nothing else is followed")
		return
	}
	if writtenRef != "" {
		pointer = strings.TrimPrefix(writtenRef, "#") // where the schema stands
	}
	if declaredRef != "" && writtenRef != "" {
		pair := [2]string{declaredRef, writtenRef}
		if d.compared[pair] {
			return
		}
		if d.compared == nil {
			d.compared = map[[2]string]bool{}
		}
		d.compared[pair] = true
	}
	if selfContained(d.declaredRoot, declaredSchema) || selfContained(d.writtenRoot, writtenSchema) {
		if !sameJSON(withoutMarks(declaredSchema), writtenSchema) {
			d.report(pointer, "is not the schema that a type within "+d.typeName+" gives of itself")
		}
		return
	}
	declaredForm, writtenForm := formOf(declaredSchema), formOf(writtenSchema)
	if declaredForm.nullable && declaredForm.inner != nil || writtenForm.nullable && writtenForm.inner != nil {
		d.nullable(declaredForm, writtenForm, declaredSchema, writtenSchema, pointer, depth)
		return
	}
	if writtenForm.nullable && !declaredForm.nullable {
		d.report(pointer, "null is allowed, and is not by the Go type "+d.typeName)
	}
	if !slices.Equal(declaredForm.types, writtenForm.types) {
		d.differs(pointer, "type", declaredForm.typeValue(), writtenForm.typeValue())
		return // nothing else can agree
	}
	d.keywords(declaredSchema, writtenSchema, pointer, depth)
}

// nullable compares what stands beside null in anyOf.
func (d *schemaDiffer) nullable(declared, written schemaForm, declaredSchema, writtenSchema map[string]any, pointer string, depth int) {
	if written.nullable && !declared.nullable {
		d.report(pointer, "null is allowed, and is not by the Go type "+d.typeName)
	}
	var inner [2]any
	inner[0], inner[1] = declaredSchema, writtenSchema
	if declared.inner != nil {
		inner[0] = declared.inner
	}
	if written.inner != nil {
		inner[1], pointer = written.inner, pointer+"/anyOf/0"
	}
	d.diff(inner[0], inner[1], pointer, depth+1)
}

func (d *schemaDiffer) keywords(declared, written map[string]any, pointer string, depth int) {
	for _, keyword := range slices.Sorted(maps.Keys(withKeys(declared, written))) {
		if slices.Contains(annotations, keyword) || keyword == "$defs" || keyword == "type" || keyword == "$ref" {
			continue
		}
		inDeclared, isDeclared := declared[keyword]
		inWritten, isWritten := written[keyword]
		at := pointer + pointerOf([]string{keyword})
		switch {
		case !isWritten && isGuaranteed(declared, keyword):
		case keyword == "required":
			d.required(inDeclared, inWritten, at)
		case keyword == "properties":
			d.properties(inDeclared, inWritten, at, depth)
		case keyword == "format" && !isWritten:
		case isDeclared && isWritten && schemaKeywords[keyword] == holdsSchema:
			d.diff(inDeclared, inWritten, at, depth+1)
		case isDeclared && !isWritten && idleSchema(keyword, inDeclared), isWritten && !isDeclared && idleSchema(keyword, inWritten):
		case isDeclared != isWritten, !sameValues(keyword, inDeclared, inWritten):
			d.differs(pointer, keyword, valueText(inDeclared, isDeclared), valueText(inWritten, isWritten))
		}
	}
}

// differs reports at the keyword, or at its schema where the keyword is missing.
func (d *schemaDiffer) differs(pointer, keyword, declared, written string) {
	switch {
	case written == "":
		d.report(pointer, fmt.Sprintf("%s is missing, the Go type %s has %s", keyword, d.typeName, declared))
	case declared == "":
		d.report(pointer+pointerOf([]string{keyword}), fmt.Sprintf("is %s, the Go type %s has none", written, d.typeName))
	default:
		d.report(pointer+pointerOf([]string{keyword}), fmt.Sprintf("is %s, the Go type %s has %s", written, d.typeName, declared))
	}
}

func (d *schemaDiffer) required(declared, written any, pointer string) {
	inDeclared, inWritten := textSet(declared), textSet(written)
	for _, name := range slices.Sorted(maps.Keys(inDeclared)) {
		if !inWritten[name] {
			d.report(pointer, fmt.Sprintf("lacks %q, which the Go type %s requires", name, d.typeName))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inWritten)) {
		if !inDeclared[name] {
			d.report(pointer, fmt.Sprintf("has %q, which the Go type %s does not require", name, d.typeName))
		}
	}
}

func (d *schemaDiffer) properties(declared, written any, pointer string, depth int) {
	inDeclared, _ := declared.(map[string]any)
	inWritten, ok := written.(map[string]any)
	if !ok && written != nil {
		d.report(pointer, "must be an object")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(withKeys(inDeclared, inWritten))) {
		at := pointer + pointerOf([]string{name})
		property, isDeclared := inDeclared[name]
		given, isWritten := inWritten[name]
		switch {
		case !isWritten:
			d.report(pointer, fmt.Sprintf("lacks %q, a field of the Go type %s", name, d.typeName))
		case !isDeclared:
			d.report(at, fmt.Sprintf("is no field of the Go type %s%s", d.typeName, nearestHint(name, slices.Sorted(maps.Keys(inDeclared)))))
		default:
			d.diff(property, given, at, depth+1)
		}
	}
}

// resolveRef follows references within root. ref is where it ended, "" for the schema itself.
func resolveRef(root, schema any) (resolved map[string]any, ref string, ok bool) {
	for range maxSchemaDepth {
		switch s := schema.(type) {
		case bool:
			if s {
				return map[string]any{}, ref, true
			}
			return map[string]any{"not": map[string]any{}}, ref, true
		case map[string]any:
			target, isRef := s["$ref"]
			if !isRef || selfContained(root, s) {
				return s, ref, true
			}
			if ref, ok = target.(string); !ok {
				return nil, "", false
			}
			if schema, ok = lookUp(root, ref); !ok {
				return nil, "", false
			}
		default:
			return nil, "", false
		}
	}
	return nil, "", false
}

// selfContained tells whether a schema within root has an identity of its own, to which its references relate.
func selfContained(root any, schema map[string]any) bool {
	return schema["$id"] != nil && reflect.ValueOf(root).Pointer() != reflect.ValueOf(schema).Pointer()
}

func lookUp(root any, ref string) (any, bool) {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil, false
	}
	if path == "" {
		return root, true
	}
	if !strings.HasPrefix(path, "/") {
		return nil, false
	}
	at := root
	for token := range strings.SplitSeq(path[1:], "/") {
		object, isObject := at.(map[string]any)
		if !isObject {
			return nil, false
		}
		if at, ok = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]; !ok {
			return nil, false
		}
	}
	return at, true
}

// schemaForm is which JSON types a schema allows. The ways to write that null is one of them are the same here.
type schemaForm struct {
	types    []string // sorted, without null; empty is any
	nullable bool
	inner    any // what stands beside null in an anyOf
}

func formOf(s map[string]any) schemaForm {
	var form schemaForm
	if branches, ok := s["anyOf"].([]any); ok && len(branches) == 2 {
		for i, branch := range branches {
			if b, ok := branch.(map[string]any); ok && len(b) == 1 && b["type"] == "null" {
				return schemaForm{nullable: true, inner: branches[1-i]}
			}
		}
	}
	names, isList := s["type"].([]any)
	if !isList && s["type"] != nil {
		names = []any{s["type"]}
	}
	for _, name := range names {
		text, isText := name.(string)
		switch {
		case !isText:
			form.types = append(form.types, valueText(name, true))
		case text == "null" && len(names) > 1:
			form.nullable = true
		default:
			form.types = append(form.types, text)
		}
	}
	slices.Sort(form.types)
	form.types = slices.Compact(form.types)
	return form
}

func (f schemaForm) typeValue() string {
	quoted := make([]string, len(f.types))
	for i, name := range f.types {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, " or ")
}

func isGuaranteed(schema map[string]any, keyword string) bool {
	marked, _ := schema[guaranteedKey].([]any)
	return keyword != "type" && keyword != "required" && slices.Contains(marked, any(keyword))
}

// idleSchema is a schema that allows anything.
func idleSchema(keyword string, value any) bool {
	if schemaKeywords[keyword] != holdsSchema {
		return false
	}
	schema, isObject := value.(map[string]any)
	return value == true || isObject && len(schema) == 0
}

// sameValues compares two values of a keyword. Numbers are the same however they are written; the order of an enum
// does not count, nor does its null, which goes with the type.
func sameValues(keyword string, a, b any) bool {
	if keyword != "enum" {
		return sameJSON(a, b)
	}
	x, isList := a.([]any)
	y, isListToo := b.([]any)
	return isList && isListToo && containsAll(x, y) && containsAll(y, x)
}

func containsAll(list, wanted []any) bool {
	return !slices.ContainsFunc(wanted, func(v any) bool {
		return v != nil && !slices.ContainsFunc(list, func(w any) bool { return sameJSON(v, w) })
	})
}

func sameJSON(a, b any) bool {
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		if !ok {
			return false
		}
		p, isRat := ratOfNumber(x)
		q, isRatToo := ratOfNumber(y)
		return x == y || isRat && isRatToo && p.Cmp(q) == 0
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, sameJSON)
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(unmarked(x), unmarked(y), sameJSON)
	}
	return reflect.DeepEqual(a, b)
}

func unmarked(m map[string]any) map[string]any {
	if _, ok := m[guaranteedKey]; !ok {
		return m
	}
	m = maps.Clone(m)
	delete(m, guaranteedKey)
	return m
}

// ratOfNumber is false for what is too large to compute with.
func ratOfNumber(n json.Number) (*big.Rat, bool) {
	if len(n) > 1000 {
		return nil, false
	}
	return new(big.Rat).SetString(string(n))
}

func withKeys(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return all
}

func textSet(value any) map[string]bool {
	set := map[string]bool{}
	list, _ := value.([]any)
	for _, item := range list {
		if text, ok := item.(string); ok {
			set[text] = true
		}
	}
	return set
}

// valueText writes a keyword's value, cut where it is long. "" is none.
func valueText(value any, there bool) string {
	if !there {
		return ""
	}
	raw, err := json.Marshal(withoutMarks(value))
	if err != nil {
		return "?"
	}
	const most = 200
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "..."
	}
	return string(raw)
}
