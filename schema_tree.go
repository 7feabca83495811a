package anchor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Schemas are shown with their keywords and fields in order, which Go's maps do not keep: as YAML nodes.

const (
	stringTag = "!!str"
	intTag    = "!!int"
	floatTag  = "!!float"
	boolTag   = "!!bool"
	nullTag   = "!!null"
	mapTag    = "!!map"
	listTag   = "!!seq"
)

// nodeOfJSON reads JSON into a tree of nodes, in order.
func nodeOfJSON(raw []byte) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	node, err := nextNode(decoder)
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more data behind the JSON value")
	}
	return node, nil
}

func nextNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: mapTag}
		if token == '[' {
			node = &yaml.Node{Kind: yaml.SequenceNode, Tag: listTag}
		}
		for decoder.More() {
			inner, err := nextNode(decoder) // a key is a string, too
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, inner)
			if token == '{' {
				if inner, err = nextNode(decoder); err != nil {
					return nil, err
				}
				node.Content = append(node.Content, inner)
			}
		}
		_, err := decoder.Token()
		return node, err
	case string:
		return stringNode(token), nil
	case json.Number:
		if _, err := token.Int64(); err == nil {
			return scalarNode(intTag, token.String()), nil
		}
		return scalarNode(floatTag, yamlFloat(token.String())), nil
	case bool:
		return scalarNode(boolTag, fmt.Sprint(token)), nil
	}
	return scalarNode(nullTag, "null"), nil
}

func scalarNode(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func stringNode(value string) *yaml.Node {
	node := scalarNode(stringTag, value)
	if strings.ContainsFunc(value, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r <= 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff'
	}) {
		node.Style = yaml.DoubleQuotedStyle // the block styles cannot hold all of them
	}
	return node
}

// yamlFloat writes a JSON number as YAML knows floats: integers beyond 64 bits are the only ones without a point or
// an exponent, and are kept as they are.
func yamlFloat(number string) string { return number }

// mappingNode makes a mapping of keys and values that take turns. Nil values are left out with their keys.
func mappingNode(pairs ...any) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: mapTag}
	for i := 0; i < len(pairs); i += 2 {
		if value, ok := pairs[i+1].(*yaml.Node); ok && value != nil {
			node.Content = append(node.Content, stringNode(pairs[i].(string)), value)
		}
	}
	return node
}

// schemaKeywordOrder puts what a reader looks for first. Other keywords follow in their own order.
var schemaKeywordOrder = []string{
	"$schema", "$id", "title", "description", "$ref", "type", "format", "enum", "const", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum",
	"multipleOf", "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "items", "required",
	"properties", "propertyNames", "additionalProperties",
}

// tidySchema leaves the marks out of a schema and puts its keywords in order.
func tidySchema(schema *yaml.Node) {
	if schema.Kind != yaml.MappingNode {
		return
	}
	type member struct{ key, value *yaml.Node }
	var members []member
	for i := 0; i < len(schema.Content); i += 2 {
		key, value := schema.Content[i], schema.Content[i+1]
		if key.Value == guaranteedKey {
			continue
		}
		members = append(members, member{key, value})
		switch schemaKeywords[key.Value] {
		case holdsSchema:
			tidySchema(value)
		case holdsSchemas, holdsNamedSchemas:
			for _, inner := range value.Content {
				tidySchema(inner) // names are scalars, which this leaves alone
			}
		}
	}
	slices.SortStableFunc(members, func(a, b member) int { return keywordRank(a.key.Value) - keywordRank(b.key.Value) })
	schema.Content = schema.Content[:0:0]
	for _, m := range members {
		schema.Content = append(schema.Content, m.key, m.value)
	}
}

func keywordRank(keyword string) int {
	if keyword == "$defs" {
		return len(schemaKeywordOrder) + 1
	}
	if i := slices.Index(schemaKeywordOrder, keyword); i >= 0 {
		return i
	}
	return len(schemaKeywordOrder)
}

type keywordContent uint8

const (
	holdsValue keywordContent = iota
	holdsSchema
	holdsSchemas
	holdsNamedSchemas
)

// schemaKeywords are the keywords that hold schemas; the others hold values.
var schemaKeywords = map[string]keywordContent{
	"items": holdsSchema, "additionalProperties": holdsSchema, "propertyNames": holdsSchema, "not": holdsSchema,
	"contains": holdsSchema, "if": holdsSchema, "then": holdsSchema, "else": holdsSchema, "contentSchema": holdsSchema,
	"unevaluatedItems": holdsSchema, "unevaluatedProperties": holdsSchema,
	"allOf": holdsSchemas, "anyOf": holdsSchemas, "oneOf": holdsSchemas, "prefixItems": holdsSchemas,
	"properties": holdsNamedSchemas, "patternProperties": holdsNamedSchemas, "$defs": holdsNamedSchemas, "dependentSchemas": holdsNamedSchemas,
}

// node is the schema in order, to be shown.
func (s *paramsSchema) node() (*yaml.Node, error) {
	node, err := nodeOfJSON(s.marked)
	if err != nil {
		return nil, fmt.Errorf("the JSON Schema cannot be read back: %w", err)
	}
	tidySchema(node)
	return node, nil
}

// appendJSON writes a tree that nodeOfJSON could have made as JSON, indented by two spaces.
func appendJSON(to []byte, node *yaml.Node, indent string) []byte {
	opening, closing, step := "[", "]", 1
	switch node.Kind {
	case yaml.MappingNode:
		opening, closing, step = "{", "}", 2
	case yaml.SequenceNode:
	default:
		if node.Tag != stringTag {
			return append(to, node.Value...)
		}
		return appendJSONString(to, node.Value)
	}
	to = append(to, opening...)
	for i := 0; i < len(node.Content); i += step {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(append(to, '\n'), indent+"  "...)
		to = appendJSON(to, node.Content[i], indent+"  ")
		if step == 2 {
			to = append(to, ": "...)
			to = appendJSON(to, node.Content[i+1], indent+"  ")
		}
	}
	if len(node.Content) > 0 {
		to = append(append(to, '\n'), indent...)
	}
	return append(to, closing...)
}

func appendJSONString(to []byte, s string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string always can be
	return append(to, bytes.TrimRight(b.Bytes(), "\n")...)
}
