package anchor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// paramsSchema is the JSON Schema (draft 2020-12) of a task's parameters. It is made by Define, compiled by the first
// New and safe for concurrent use from then on.
type paramsSchema struct {
	// marked is the schema as JSON, its keywords and fields in order, with what Go guarantees marked.
	marked []byte

	once sync.Once
	err  error
	full *paramsValidator
	// fresh is what is left to check of what encoding/json has just written, nil when nothing is.
	fresh *paramsValidator
	// stored is what is left to check of what decodeStrictly has taken, nil when nothing is.
	stored *paramsValidator
}

// paramsValidator is a compiled schema. A nil one allows anything.
type paramsValidator struct {
	quick *quickSchema
	whole *jsonschema.Schema
}

func newParamsValidator(document any) (*paramsValidator, error) {
	whole, err := compileSchema(document)
	if err != nil {
		return nil, err
	}
	return &paramsValidator{quick: newQuickSchema(document), whole: whole}, nil
}

func newParamsSchema(t reflect.Type) (*paramsSchema, error) {
	reflected, err := reflectSchema(t)
	if err != nil {
		return nil, err
	}
	marked, err := marshalSchema(reflected)
	if err != nil {
		return nil, fmt.Errorf("the JSON Schema of %v cannot be written: %w", t, err)
	}
	return &paramsSchema{marked: marked}, nil
}

// marshalSchema outlives what a type's own schema may hold.
func marshalSchema(schema any) (marked []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return json.Marshal(schema)
}

// compile makes the schemas that parameters are validated by, once.
func (s *paramsSchema) compile() error {
	s.once.Do(func() { s.err = s.compileAll() })
	return s.err
}

func (s *paramsSchema) compileAll() error {
	document, err := s.document()
	if err != nil {
		return err
	}
	if s.full, err = newParamsValidator(withoutMarks(document)); err != nil {
		return err
	}
	if fresh, left := reduceSchema(document, guaranteedByEncoding); left {
		if s.fresh, err = newParamsValidator(fresh); err != nil {
			return err
		}
	}
	if stored, left := reduceSchema(document, guaranteedByDecoding); left {
		s.stored, err = newParamsValidator(stored)
	}
	return err
}

// document is the marked schema as a tree of JSON values.
func (s *paramsSchema) document() (any, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(s.marked))
	if err != nil {
		return nil, fmt.Errorf("the JSON Schema cannot be read back: %w", err)
	}
	return document, nil
}
