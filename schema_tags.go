package anchor

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// fieldTags are a field's jsonschema tags as [jsonschema.Reflector] is to read them.
type fieldTags struct {
	text     string
	nullable bool
}

// The keywords that jsonschema.Reflector understands, by what they apply to. It ignores all others in silence.
var (
	tagKeywords = map[string][]string{
		"": {
			"title", "description", "type", "anchor", "oneof_required", "anyof_required", "oneof_ref", "anyof_ref",
			"oneof_type", "anyof_type",
		},
		"string":  {"minLength", "maxLength", "pattern", "format", "readOnly", "writeOnly", "default", "example", "enum"},
		"number":  {"multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "default", "example", "enum"},
		"boolean": {"default"},
		"array":   {"minItems", "maxItems", "uniqueItems", "default", "format", "pattern"},
	}
	countingKeywords  = []string{"minLength", "maxLength", "minItems", "maxItems"}
	numericKeywords   = []string{"multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
	decorativeKeyword = []string{"title", "description", "readOnly", "writeOnly"}
)

// readTags checks the tags of a field of the schema given, and takes from what the Go type guarantees what they
// change. A "-" hides what is known of the field, not the field: it is written all the same.
func readTags(f jsonField, s *jsonschema.Schema) (fieldTags, error) {
	var tags fieldTags
	var kept []string
	var errs []error
	value := f.tag.Get("jsonschema")
	if value == "-" {
		*s = jsonschema.Schema{}
		return tags, nil
	}
	for _, element := range splitTag(value) {
		key, argument, hasArgument := strings.Cut(element, "=")
		switch {
		case element == "":
			continue
		case element == "nullable":
			tags.nullable = true
			continue
		case element == "required":
		default:
			errs = append(errs, checkKeyword(f, s, key, argument, hasArgument))
			noGuarantee(s, key)
		}
		kept = append(kept, strings.ReplaceAll(element, ",", `\,`))
	}
	tags.text = fmt.Sprintf("jsonschema:%q", strings.Join(kept, ","))
	if description, ok := f.tag.Lookup("jsonschema_description"); ok {
		tags.text += fmt.Sprintf(" jsonschema_description:%q", description)
	}
	if extras, ok := f.tag.Lookup("jsonschema_extras"); ok {
		for _, element := range splitTag(extras) {
			key, _, _ := strings.Cut(element, "=")
			noGuarantee(s, key)
		}
		tags.text += fmt.Sprintf(" jsonschema_extras:%q", extras)
	}
	return tags, errors.Join(errs...)
}

// splitTag splits at commas that no backslash precedes.
func splitTag(tag string) []string {
	const escaped = "\x00"
	elements := strings.Split(strings.ReplaceAll(tag, `\,`, escaped), ",")
	for i := range elements {
		elements[i] = strings.ReplaceAll(elements[i], escaped, ",")
	}
	return elements
}

// checkKeyword refuses what jsonschema.Reflector would pass over.
func checkKeyword(f jsonField, s *jsonschema.Schema, key, argument string, hasArgument bool) error {
	applied := s.Type
	known := slices.Concat(tagKeywords[""], tagKeywords[kindOfTag(s.Type)])
	if s.Type == "array" && s.Items != nil && !slices.Contains(tagKeywords["array"], key) {
		applied = s.Items.Type
		known = slices.Concat(known, tagKeywords[kindOfTag(applied)])
	}
	switch {
	case !hasArgument || argument == "":
		return fmt.Errorf("jsonschema tag %q has no value", key)
	case !slices.Contains(known, key):
		what := s.Type
		if what == "" {
			what = "value of type " + f.typ.String()
		}
		return fmt.Errorf("jsonschema tag %q does not apply to a JSON %s%s", key, what, nearestHint(key, known))
	case f.quoted && !slices.Contains(decorativeKeyword, key):
		return fmt.Errorf("jsonschema tag %q does not apply to a field that the json option \"string\" writes as text", key)
	case key == "pattern":
		if _, err := regexp.Compile(argument); err != nil {
			return fmt.Errorf("jsonschema tag pattern=%q is not a regular expression: %w", argument, err)
		}
	case slices.Contains(countingKeywords, key):
		if _, err := strconv.ParseUint(argument, 10, 31); err != nil {
			return fmt.Errorf("jsonschema tag %s=%q is not a count", key, argument)
		}
	case slices.Contains(numericKeywords, key), kindOfTag(applied) == "number" && (key == "enum" || key == "default" || key == "example"):
		if _, err := strconv.ParseFloat(argument, 64); err != nil || strings.ContainsAny(argument, "xXpP_infINF") {
			return fmt.Errorf("jsonschema tag %s=%q is not a number", key, argument)
		}
	}
	return nil
}

func kindOfTag(jsonType string) string {
	switch jsonType {
	case "integer", "number":
		return "number"
	case "string", "boolean", "array":
		return jsonType
	}
	return ""
}

// noGuarantee notes that a keyword of s, or of its items, is the user's.
func noGuarantee(s *jsonschema.Schema, keyword string) {
	if strings.HasPrefix(keyword, "oneof_") || strings.HasPrefix(keyword, "anyof_") {
		keyword = "type"
	}
	for _, s := range []*jsonschema.Schema{s, s.Items} {
		if s == nil {
			continue
		}
		if keywords, ok := s.Extras[guaranteedKey].([]string); ok {
			s.Extras[guaranteedKey] = slices.DeleteFunc(slices.Clone(keywords), func(k string) bool { return k == keyword })
		}
	}
}
