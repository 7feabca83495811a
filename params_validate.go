package anchor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// encode writes params, a non-nil pointer to the task's P, as the JSON object that is stored. The error is a
// [*ValidationError].
func (r *registeredTask) encode(params any) ([]byte, error) {
	raw, err := encodeParams(r.name, params)
	if err != nil {
		return nil, err
	}
	if violations := r.schema.fresh.validate(raw); len(violations) > 0 {
		return nil, &ValidationError{Task: r.name, Violations: violations}
	}
	return raw, nil
}

// load reads stored parameters into a pointer to the task's P. Those that today's type forbids go through the task's
// upcaster, where it has one. The error is a [*ValidationError] with all that is wrong.
func (r *registeredTask) load(raw []byte) (any, error) {
	params, err := r.read(raw)
	if err == nil || r.options.upcaster == nil {
		return params, err
	}
	upcast, upcastErr := callUpcaster(r.options.upcaster, raw)
	if upcastErr != nil {
		return nil, errors.Join(err, upcastErr)
	}
	if params, err = r.read(upcast); err != nil {
		return nil, fmt.Errorf("after the upcaster: %w", err)
	}
	return params, nil
}

// read decodes and validates.
func (r *registeredTask) read(raw []byte) (any, error) {
	params, complete, err := r.decode(raw)
	if complete && r.schema.fresh == nil {
		return params, nil // the schema asks for no more
	}
	if err == nil {
		violations := r.schema.stored.validate(raw)
		if len(violations) == 0 {
			return params, nil
		}
		return nil, &ValidationError{Task: r.name, Violations: violations}
	}
	// The decoder stops at the first mistake; the whole schema knows all of them.
	var violations []Violation
	if !errors.Is(err, errNotAnObject) {
		violations = r.schema.full.validate(raw)
	}
	if len(violations) == 0 {
		violations = []Violation{{Message: err.Error()}}
	}
	return nil, &ValidationError{Task: r.name, Violations: violations}
}

// validate lists what of raw, which is valid JSON, the schema forbids, in order of the pointers.
func (v *paramsValidator) validate(raw []byte) (violations []Violation) {
	if v == nil || v.quick.valid(raw) {
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // a number such as 1e9999999, which is past what can be computed with
			violations = []Violation{{Message: "cannot be validated"}}
		}
	}()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return []Violation{{Message: "is not valid JSON"}}
	}
	return validateValue(v.whole, value)
}

func validateValue(schema *jsonschema.Schema, value any) []Violation {
	err := schema.Validate(value)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []Violation{{Message: "cannot be validated"}}
	}
	var violations []Violation
	collectViolations(invalid, &violations)
	slices.SortFunc(violations, func(a, b Violation) int {
		if c := strings.Compare(a.Pointer, b.Pointer); c != 0 {
			return c
		}
		return strings.Compare(a.Message, b.Message)
	})
	return slices.Compact(violations)
}

// notAField is said of what stands beside the fields.
const notAField = "is not a field of the type"

// collectViolations appends the leaves of a tree of errors.
func collectViolations(e *jsonschema.ValidationError, to *[]Violation) {
	causes := e.Causes
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		causes = slices.DeleteFunc(slices.Clone(causes), wantsNull)
	case *kind.PropertyNames:
		causes = nil
	}
	if len(causes) > 0 {
		for _, cause := range causes {
			collectViolations(cause, to)
		}
		return
	}
	at := pointerOf(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			*to = append(*to, Violation{Pointer: at, Message: fmt.Sprintf("the required field %q is missing", name)})
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			*to = append(*to, Violation{Pointer: at + pointerOf([]string{name}), Message: notAField})
		}
	default:
		*to = append(*to, Violation{Pointer: at, Message: violationMessage(e.ErrorKind)})
	}
}

// wantsNull is true of the branch that only null could have taken.
func wantsNull(e *jsonschema.ValidationError) bool {
	k, ok := e.ErrorKind.(*kind.Type)
	return ok && len(k.Want) == 1 && k.Want[0] == "null"
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// pointerOf writes a JSON pointer (RFC 6901).
func pointerOf(tokens []string) string {
	var b strings.Builder
	for _, token := range tokens {
		b.WriteByte('/')
		b.WriteString(pointerEscapes.Replace(token))
	}
	return b.String()
}

// violationMessage says which rule is broken, in the schema's words alone: never the value.
func violationMessage(broken jsonschema.ErrorKind) string {
	switch k := broken.(type) {
	case *kind.Type:
		return fmt.Sprintf("is of type %s, must be %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Enum:
		return "must be one of " + listValues(k.Want)
	case *kind.Const:
		return "must be " + listValues([]any{k.Want})
	case *kind.Format:
		if _, numeric := formatRanges[k.Want]; numeric {
			return fmt.Sprintf("is out of the range of %s", k.Want)
		}
		return fmt.Sprintf("is not a valid %s", k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("does not match the pattern %q", k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("is shorter than %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("is longer than %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("has fewer than %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("has more than %d items", k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("the items %d and %d are equal", k.Duplicates[0], k.Duplicates[1])
	case *kind.MinProperties:
		return fmt.Sprintf("has fewer than %d entries", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("has more than %d entries", k.Want)
	case *kind.Minimum:
		return "is less than " + ratText(k.Want)
	case *kind.Maximum:
		return "is greater than " + ratText(k.Want)
	case *kind.ExclusiveMinimum:
		return "is not greater than " + ratText(k.Want)
	case *kind.ExclusiveMaximum:
		return "is not less than " + ratText(k.Want)
	case *kind.MultipleOf:
		return "is not a multiple of " + ratText(k.Want)
	case *kind.PropertyNames:
		return "has a key that is not allowed"
	case *kind.DependentRequired:
		return fmt.Sprintf("with the field %q, %s must be there too", k.Prop, strings.Join(k.Missing, ", "))
	case *kind.FalseSchema:
		return "is not allowed"
	}
	return fmt.Sprintf("breaks the rule %q", strings.Join(broken.KeywordPath(), "/"))
}

// listValues writes values of a schema as JSON.
func listValues(values []any) string {
	texts := make([]string, len(values))
	for i, value := range values {
		raw, err := json.Marshal(value)
		if err != nil {
			raw = []byte("?")
		}
		texts[i] = string(raw)
	}
	return strings.Join(texts, ", ")
}

func ratText(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	return strings.TrimRight(r.FloatString(20), "0")
}
