package anchor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
)

// Incompatibility is one change that breaks tasks which are in the queue already.
type Incompatibility struct {
	// Task is the task's name in the old file.
	Task string
	// Pointer is the place within the task's parameters schema, such as "/properties/userId". It is "" for the task
	// as a whole.
	Pointer string
	// Message says what has changed.
	Message string
}

// String writes "SendWelcomeEmail: /properties/userId: ...".
func (i Incompatibility) String() string {
	if i.Pointer == "" {
		return i.Task + ": " + i.Message
	}
	return i.Task + ": " + i.Pointer + ": " + i.Message
}

// CheckCompatible compares two files that [Client.ExportYAML] wrote, before and after a change of the code, and lists
// what breaks tasks that are in the queue already, in order of name and place: a task that is gone or renamed, a new
// required field, a field that is gone where others are forbidden, a narrowed type, range or enum. What only allows
// more does not: a new optional field, a widened type, a dropped bound. Where two schemas cannot be compared, a change
// counts as one that breaks. Upcasters ([WithUpcaster]) are not known here.
//
// In a rolling deploy, workers of both versions share the queue, and those of the old one refuse what only the new one
// allows: even a new optional field fails new tasks for good where an old worker takes them. Call it a second time
// with the files swapped to find that; it goes away by deploying the workers before what enqueues.
//
// The error is about files that are no such export, one of them with a task without parameters, say.
func CheckCompatible(old, new []byte) ([]Incompatibility, error) {
	before, errBefore := exportedParameters("old", old)
	after, errAfter := exportedParameters("new", new)
	if err := errors.Join(errBefore, errAfter); err != nil {
		return nil, fmt.Errorf("anchor: CheckCompatible: %w", err)
	}
	var found []Incompatibility
	for _, name := range slices.Sorted(maps.Keys(before)) {
		schema, ok := after[name]
		if !ok {
			found = append(found, Incompatibility{Task: name, Message: "the task is gone or renamed" + renamedTo(before, after, before[name])})
			continue
		}
		c := compatibilityCheck{task: name, before: before[name], after: schema}
		c.compare(c.before, c.after, "", 0)
		slices.SortStableFunc(c.found, func(a, b Incompatibility) int { return strings.Compare(a.Pointer, b.Pointer) })
		found = append(found, slices.Compact(c.found)...)
	}
	return found, nil
}

// exportedParameters are the parameters' schemas of an exported file, by task.
func exportedParameters(which string, text []byte) (map[string]any, error) {
	r := &taskFileReader{path: which}
	if len(text) > maxTaskFile {
		return nil, fmt.Errorf("%s: the file has more than %d bytes", which, maxTaskFile)
	}
	tree := r.parse(text)
	if tree != nil {
		r.checkShape(tree)
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.sorted()...)
	}
	schemas := map[string]any{}
	for i, task := range tree.(map[string]any)["tasks"].([]any) {
		members := task.(map[string]any)
		name := members["name"].(string)
		parameters, ok := members["parameters"]
		pointer := fmt.Sprintf("/tasks/%d", i)
		switch {
		case !ok:
			r.failAt(pointer, "the parameters are left out; an exported file has them")
		case schemas[name] != nil:
			r.failAt(pointer+"/name", "the task %q stands here twice", name)
		default:
			schemas[name] = parameters
		}
	}
	return schemas, errors.Join(r.sorted()...)
}

// renamedTo guesses the new name of a task by its parameters.
func renamedTo(before, after map[string]any, schema any) string {
	var candidates []string
	for name, other := range after {
		if _, known := before[name]; !known && sameJSON(schema, other) {
			candidates = append(candidates, name)
		}
	}
	if len(candidates) == 0 {
		return ""
	}
	slices.Sort(candidates)
	return fmt.Sprintf(" (%q has the same parameters)", candidates[0])
}

// compatibilityCheck asks whether all that one schema allows is allowed by another.
type compatibilityCheck struct {
	task          string
	before, after any // the roots
	compared      map[comparedSchemas]bool
	found         []Incompatibility
}

// comparedSchemas are two schemas, by identity; 0 is the one that allows anything.
type comparedSchemas struct {
	before, after uintptr
	nullSettled   bool
}

func identityOf(schema map[string]any) uintptr {
	if len(schema) == 0 {
		return 0
	}
	return reflect.ValueOf(schema).Pointer()
}

func (c *compatibilityCheck) report(pointer, format string, args ...any) {
	c.found = append(c.found, Incompatibility{Task: c.task, Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

func (c *compatibilityCheck) compare(before, after any, pointer string, depth int) {
	c.compareAll(before, after, pointer, depth, false)
}

// compareAll compares two schemas. With nullSettled, what becomes of null is known already.
func (c *compatibilityCheck) compareAll(before, after any, pointer string, depth int, nullSettled bool) {
	old, oldRef, isOld := resolveRef(c.before, before)
	now, _, isNow := resolveRef(c.after, after)
	if !isOld || !isNow || selfContained(c.before, old) || selfContained(c.after, now) {
		if isOld && isNow {
			before, after = old, now
		}
		if !sameJSON(before, after) {
			c.report(pointer, "a schema that cannot be compared has changed")
		}
		return
	}
	if oldRef != "" {
		pointer = strings.TrimPrefix(oldRef, "#") // where the schema stands
	}
	key := comparedSchemas{identityOf(old), identityOf(now), nullSettled}
	if c.compared[key] {
		return
	}
	if c.compared == nil {
		c.compared = map[comparedSchemas]bool{}
	}
	c.compared[key] = true
	if depth > maxSchemaDepth {
		c.report(pointer, "the schema nests too deep to be compared")
		return
	}
	oldForm, nowForm := formOf(old), formOf(now)
	if oldForm.nullable && !nullSettled && !allowsNull(nowForm, now) {
		c.report(pointer, "null is no longer allowed")
	}
	if oldForm.inner == nil && nowForm.inner == nil {
		if c.compareTypes(oldForm, nowForm, pointer) {
			c.compareKeywords(old, now, pointer, depth)
		}
		return
	}
	var inner [2]any
	inner[0], inner[1] = old, now
	if oldForm.inner != nil {
		inner[0] = oldForm.inner
	}
	if nowForm.inner != nil {
		inner[1] = nowForm.inner
	}
	c.compareAll(inner[0], inner[1], pointer, depth+1, true)
}

func allowsNull(form schemaForm, schema map[string]any) bool {
	return form.nullable || slices.Contains(form.types, "null") || len(form.types) == 0 && schema["enum"] == nil && schema["anyOf"] == nil
}

// compareTypes is false where nothing else is worth comparing.
func (c *compatibilityCheck) compareTypes(old, now schemaForm, pointer string) (same bool) {
	if len(now.types) == 0 {
		return true
	}
	if len(old.types) == 0 {
		c.report(pointer, "the type is now bound to %s", now.typeValue())
		return false
	}
	for _, t := range old.types {
		if !slices.Contains(now.types, t) && (t != "integer" || !slices.Contains(now.types, "number")) {
			c.report(pointer, "the type was %s and is now %s", old.typeValue(), now.typeValue())
			return false
		}
	}
	return true
}

func (c *compatibilityCheck) compareKeywords(old, now map[string]any, pointer string, depth int) {
	c.compareRange(old, now, pointer)
	c.compareRequired(old, now, pointer)
	c.compareProperties(old, now, pointer, depth)
	for _, keyword := range slices.Sorted(maps.Keys(withKeys(old, now))) {
		before, was := old[keyword]
		after, is := now[keyword]
		at := pointer + pointerOf([]string{keyword})
		if slices.Contains(annotations, keyword) || was && is && sameJSON(before, after) && !strings.Contains(valueText(after, true), `"$ref"`) {
			continue
		}
		switch keyword {
		case "$ref", "$defs", "$id", "type", "required", "properties", "additionalProperties",
			"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		case "items", "propertyNames":
			if is {
				c.compare(orTrue(before, was), after, at, depth+1)
			}
		case "minLength", "minItems", "minProperties":
			c.compareCount(before, after, is, at, -1)
		case "maxLength", "maxItems", "maxProperties":
			c.compareCount(before, after, is, at, 1)
		case "enum":
			c.compareEnum(before, was, after, is, at)
		case "multipleOf":
			if is && !dividedBy(before, after) {
				c.report(at, "must now be a multiple of %s", valueText(after, true))
			}
		case "format":
			_, numeric := formatRanges[fmt.Sprint(after)]
			if is && !numeric && before != after {
				c.report(at, "the format is now %s", valueText(after, true))
			}
		case "uniqueItems":
			if after == true {
				c.report(at, "items must now differ from each other")
			}
		default:
			if is {
				c.report(at, "is now %s", valueText(after, true))
			}
		}
	}
}

func orTrue(schema any, there bool) any {
	if !there {
		return true
	}
	return schema
}

// compareCount compares bounds of a length: sign says in which direction they widen.
func (c *compatibilityCheck) compareCount(before, after any, is bool, pointer string, sign int) {
	if !is {
		return
	}
	old, was := ratOfValue(before)
	now, ok := ratOfValue(after)
	if !ok || was && now.Cmp(old)*sign >= 0 || sign < 0 && now.Sign() == 0 {
		return
	}
	c.report(pointer, "is now %s%s", valueText(after, true), wasText(before))
}

func wasText(before any) string {
	if before == nil {
		return ""
	}
	return ", was " + valueText(before, true)
}

func ratOfValue(value any) (*big.Rat, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return nil, false
	}
	return ratOfNumber(number)
}

func (c *compatibilityCheck) compareEnum(before any, was bool, after any, is bool, pointer string) {
	if !is {
		return
	}
	now, _ := after.([]any)
	old, _ := before.([]any)
	if !was {
		c.report(pointer, "is now bound to %s", valueText(after, true))
		return
	}
	for _, value := range old {
		if !slices.ContainsFunc(now, func(v any) bool { return sameJSON(v, value) }) {
			c.report(pointer, "no longer allows %s", valueText(value, true))
		}
	}
}

func dividedBy(before, after any) bool {
	old, was := ratOfValue(before)
	now, ok := ratOfValue(after)
	return was && ok && now.Sign() != 0 && new(big.Rat).Quo(old, now).IsInt()
}

func (c *compatibilityCheck) compareRequired(old, now map[string]any, pointer string) {
	was, is := textSet(old["required"]), textSet(now["required"])
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if !was[name] {
			c.report(pointer, "the field %q is now required", name)
		}
	}
}

// compareProperties compares fields, named or not.
func (c *compatibilityCheck) compareProperties(old, now map[string]any, pointer string, depth int) {
	was, _ := old["properties"].(map[string]any)
	is, _ := now["properties"].(map[string]any)
	oldRest, hadRest := old["additionalProperties"]
	nowRest, hasRest := now["additionalProperties"]
	oldRest, nowRest = orTrue(oldRest, hadRest), orTrue(nowRest, hasRest)
	for _, name := range slices.Sorted(maps.Keys(withKeys(was, is))) {
		at := pointer + "/properties" + pointerOf([]string{name})
		before, named := was[name]
		after, stillNamed := is[name]
		switch {
		case !named && oldRest == false:
		case !named:
			c.compare(oldRest, after, at, depth+1)
		case stillNamed:
			c.compare(before, after, at, depth+1)
		case nowRest == false:
			c.report(at, "the field is gone, and others are not allowed")
		default:
			c.compare(before, nowRest, at, depth+1)
		}
	}
	switch {
	case oldRest == false || nowRest == true:
	case nowRest == false:
		if allowsObjects(old) {
			c.report(pointer+"/additionalProperties", "other fields are no longer allowed")
		}
	default:
		c.compare(oldRest, nowRest, pointer+"/additionalProperties", depth+1)
	}
}

// allowsObjects is false of a schema for which additionalProperties means nothing.
func allowsObjects(schema map[string]any) bool {
	types := formOf(schema).types
	return len(types) == 0 || slices.Contains(types, "object")
}

// numberRange is what a schema allows of numbers. A nil end is open.
type numberRange struct {
	least, most         *big.Rat
	openLeast, openMost bool // the end itself is not allowed
}

func (c *compatibilityCheck) compareRange(old, now map[string]any, pointer string) {
	was, is := rangeOf(old), rangeOf(now)
	if is.least != nil && (was.least == nil || was.least.Cmp(is.least) < 0 || was.least.Cmp(is.least) == 0 && is.openLeast && !was.openLeast) {
		c.report(pointer, "the least value allowed is now %s%s", ratText(is.least), exclusive(is.openLeast))
	}
	if is.most != nil && (was.most == nil || was.most.Cmp(is.most) > 0 || was.most.Cmp(is.most) == 0 && is.openMost && !was.openMost) {
		c.report(pointer, "the greatest value allowed is now %s%s", ratText(is.most), exclusive(is.openMost))
	}
}

func exclusive(open bool) string {
	if open {
		return ", exclusive"
	}
	return ""
}

func rangeOf(schema map[string]any) numberRange {
	var r numberRange
	raise := func(value *big.Rat, open bool) {
		if r.least == nil || value.Cmp(r.least) > 0 || value.Cmp(r.least) == 0 && open {
			r.least, r.openLeast = value, open
		}
	}
	lower := func(value *big.Rat, open bool) {
		if r.most == nil || value.Cmp(r.most) < 0 || value.Cmp(r.most) == 0 && open {
			r.most, r.openMost = value, open
		}
	}
	if format, ok := schema["format"].(string); ok {
		if bounds, numeric := formatRanges[format]; numeric {
			raise(bounds.least, false)
			lower(bounds.most, false)
		}
	}
	for keyword, set := range map[string]func(*big.Rat, bool){"minimum": raise, "exclusiveMinimum": raise, "maximum": lower, "exclusiveMaximum": lower} {
		if value, ok := ratOfValue(schema[keyword]); ok {
			set(value, strings.HasPrefix(keyword, "exclusive"))
		}
	}
	return r
}
