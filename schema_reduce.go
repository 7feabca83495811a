package anchor

import (
	"maps"
	"strings"
)

// Reducing a schema drops what need not be checked, because Go has seen to it, and what cannot be violated, such as
// descriptions. What is left is cheap, and often nothing.

// guaranteedByEncoding tells which marked keywords hold of everything that encoding/json writes.
func guaranteedByEncoding(string) bool { return true }

// guaranteedByDecoding tells which marked keywords hold of everything that decodeStrictly takes. It takes null for
// anything and names in any case, and does not miss what is left out.
func guaranteedByDecoding(keyword string) bool {
	switch keyword {
	case "type", "required", "additionalProperties", "minItems", "maxItems":
		return false
	}
	return true
}

var annotations = []string{
	"$schema", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
	"contentEncoding", "contentMediaType", guaranteedKey,
}

// reduceSchema returns a schema that allows what document allows, of all that keeps the guarantees. left is false
// when it allows anything.
func reduceSchema(document any, drop func(keyword string) bool) (reduced any, left bool) {
	r := schemaReducer{drop: drop, idle: map[string]bool{"#": true}}
	root, ok := document.(map[string]any)
	if !ok {
		return document, document != true
	}
	definitions, _ := root["$defs"].(map[string]any)
	for name := range definitions {
		r.idle["#/$defs/"+name] = true
	}
	// Recursive definitions are idle together or not at all: from all being idle, down to what holds.
	for changed := true; changed; {
		changed = false
		for ref, schema := range withRoot(definitions, root) {
			if r.idle[ref] && r.reduce(schema) != true {
				r.idle[ref], changed = false, true
			}
		}
	}
	if r.idle["#"] {
		return true, false
	}
	top := r.reduce(root).(map[string]any)
	if len(definitions) > 0 {
		kept := map[string]any{}
		for name, schema := range definitions {
			kept[name] = r.reduce(schema)
		}
		top["$defs"] = kept
	}
	return top, true
}

func withRoot(definitions, root map[string]any) map[string]any {
	all := map[string]any{"#": root}
	for name, schema := range definitions {
		all["#/$defs/"+name] = schema
	}
	return all
}

type schemaReducer struct {
	drop func(keyword string) bool
	idle map[string]bool // by reference: allows anything
}

// reduce returns true for a schema that allows anything. The definitions of the root are left out.
func (r *schemaReducer) reduce(schema any) any {
	original, ok := schema.(map[string]any)
	if !ok {
		return schema
	}
	if original["$id"] != nil {
		return withoutMarks(schema)
	}
	s := maps.Clone(original)
	delete(s, "$defs")
	if marked, ok := s[guaranteedKey].([]any); ok {
		for _, keyword := range marked {
			if keyword, ok := keyword.(string); ok && r.drop(keyword) {
				delete(s, keyword)
			}
		}
	}
	for _, annotation := range annotations {
		delete(s, annotation)
	}
	for keyword, value := range s {
		switch keyword {
		case "properties":
			s[keyword] = r.reduceAll(value, s["additionalProperties"] == nil)
			if properties, ok := s[keyword].(map[string]any); ok && len(properties) == 0 {
				delete(s, keyword)
			}
		case "items", "additionalProperties":
			s[keyword] = r.reduce(value)
			if s[keyword] == true && keyword == "items" {
				delete(s, keyword)
			}
		case "anyOf":
			branches, idle := r.reduceBranches(value)
			if s[keyword] = branches; idle {
				delete(s, keyword)
			}
		case "$ref":
			if ref, ok := value.(string); ok && r.idle[ref] {
				delete(s, keyword)
			}
		default:
			s[keyword] = withoutMarks(value)
		}
	}
	if s["additionalProperties"] == true {
		delete(s, "additionalProperties")
	}
	if len(s) == 0 {
		return true
	}
	return s
}

// reduceAll reduces properties. Idle ones are left out where nothing depends on their being named.
func (r *schemaReducer) reduceAll(value any, leaveOut bool) any {
	properties, ok := value.(map[string]any)
	if !ok {
		return value
	}
	reduced := make(map[string]any, len(properties))
	for name, property := range properties {
		if p := r.reduce(property); p != true || !leaveOut {
			reduced[name] = p
		}
	}
	return reduced
}

func (r *schemaReducer) reduceBranches(value any) (branches any, idle bool) {
	list, ok := value.([]any)
	if !ok {
		return value, false
	}
	reduced := make([]any, len(list))
	for i, branch := range list {
		reduced[i] = r.reduce(branch)
		idle = idle || reduced[i] == true
	}
	return reduced, idle
}

// withoutMarks copies a schema and leaves the marks out.
func withoutMarks(value any) any {
	switch value := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(value))
		for key, inner := range value {
			if !strings.HasPrefix(key, "\x00") {
				copied[key] = withoutMarks(inner)
			}
		}
		return copied
	case []any:
		copied := make([]any, len(value))
		for i, inner := range value {
			copied[i] = withoutMarks(inner)
		}
		return copied
	}
	return value
}
