package anchor

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const paramsSchemaURL = "anchor:///parameters.json"

// compileSchema compiles a JSON Schema given as a tree of JSON values. Formats are asserted. Nothing is ever fetched.
func compileSchema(document any) (compiled *jsonschema.Schema, err error) {
	defer func() {
		if r := recover(); r != nil {
			compiled, err = nil, fmt.Errorf("the JSON Schema does not compile: %v", r)
		}
	}()
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	compiler.UseLoader(refusingLoader{})
	for name, bounds := range formatRanges {
		compiler.RegisterFormat(&jsonschema.Format{Name: name, Validate: bounds.check})
	}
	if err := compiler.AddResource(paramsSchemaURL, document); err != nil {
		return nil, fmt.Errorf("the JSON Schema does not compile: %w", err)
	}
	if compiled, err = compiler.Compile(paramsSchemaURL); err != nil {
		return nil, fmt.Errorf("the JSON Schema does not compile: %w", err)
	}
	return compiled, nil
}

// refusingLoader keeps references within the schema that they stand in: neither a network nor a file is read.
type refusingLoader struct{}

var errForeignReference = errors.New("a $ref must stay within its schema, nothing is fetched")

func (refusingLoader) Load(string) (any, error) { return nil, errForeignReference }

// numericRange is what a numeric format allows, both ends included.
type numericRange struct{ least, most *big.Rat }

// formatRanges are the formats that bound numbers as Go's types do.
var formatRanges = func() map[string]numericRange {
	one := big.NewInt(1)
	ranges := map[string]numericRange{}
	// The largest float of a format, and what is rounded to it: half of its last bit more.
	for format, bits := range map[string][2]uint{"float": {128, 24}, "double": {1024, 53}} {
		most := new(big.Int).Sub(new(big.Int).Lsh(one, bits[0]), new(big.Int).Lsh(one, bits[0]-bits[1]-1))
		ranges[format] = numericRange{ratOf(new(big.Int).Neg(most)), ratOf(most)}
	}
	for _, bits := range []uint{8, 16, 32, 64} {
		half := new(big.Int).Lsh(one, bits-1)
		whole := new(big.Int).Lsh(one, bits)
		ranges[fmt.Sprintf("int%d", bits)] = numericRange{ratOf(new(big.Int).Neg(half)), ratOf(new(big.Int).Sub(half, one))}
		ranges[fmt.Sprintf("uint%d", bits)] = numericRange{new(big.Rat), ratOf(new(big.Int).Sub(whole, one))}
	}
	return ranges
}()

func ratOf(n *big.Int) *big.Rat { return new(big.Rat).SetInt(n) }

var errOutOfRange = errors.New("out of range")

// check refuses a number outside of the range. Other values are not its business.
func (r numericRange) check(v any) error {
	n, ok := v.(json.Number)
	if !ok {
		return nil
	}
	if rat, ok := new(big.Rat).SetString(string(n)); !ok || rat.Cmp(r.least) < 0 || rat.Cmp(r.most) > 0 {
		return errOutOfRange
	}
	return nil
}
