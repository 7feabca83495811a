package anchor

import (
	"encoding/json"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/anchor-go/anchor/internal/samename/billing"
	"github.com/anchor-go/anchor/internal/samename/shipping"
)

// The types below are one for each kind that a schema must describe. They are also the tasks of the round trip.

type kindNumbers struct {
	Int     int     `json:"int"`
	Int8    int8    `json:"int8"`
	Int16   int16   `json:"int16"`
	Int32   int32   `json:"int32"`
	Int64   int64   `json:"int64"`
	Uint    uint    `json:"uint"`
	Uint8   uint8   `json:"uint8"`
	Uint64  uint64  `json:"uint64"`
	Float32 float32 `json:"float32"`
	Float64 float64 `json:"float64"`
	Quoted  int64   `json:"quoted,string"`
	Number  json.Number
}

type kindTags struct {
	Count    int32    `json:"count" jsonschema:"minimum=1,maximum=10"`
	Even     int      `json:"even" jsonschema:"multipleOf=2,exclusiveMinimum=-10,exclusiveMaximum=10"`
	Ratio    float64  `json:"ratio" jsonschema:"minimum=0.5,maximum=1.5"`
	Level    string   `json:"level" jsonschema:"enum=low,enum=high" jsonschema_description:"How loud, and why"`
	Code     string   `json:"code" jsonschema:"pattern=^[a-z]{2\\,3}$"`
	Name     string   `json:"name" jsonschema:"minLength=1,maxLength=5,title=The name"`
	Email    string   `json:"email,omitempty" jsonschema:"format=email,example=a@example.org"`
	Tags     []string `json:"tags" jsonschema:"minItems=1,maxItems=3,uniqueItems=true"`
	Sizes    []int    `json:"sizes,omitempty" jsonschema:"maximum=3"`
	Choice   *string  `json:"choice" jsonschema:"enum=a,enum=b"`
	Optional string   `json:"optional,omitempty" jsonschema:"required"`
}

type kindTimes struct {
	At    time.Time     `json:"at"`
	Maybe *time.Time    `json:"maybe"`
	After time.Duration `json:"after"`
	Note  time.Duration `json:"note,omitzero" jsonschema_description:"a description of its own"`
}

type kindNulls struct {
	Pointer  *int              `json:"pointer"`
	Slice    []string          `json:"slice"`
	Map      map[string]int    `json:"map"`
	Bytes    []byte            `json:"bytes"`
	Pointers []*int            `json:"pointers,omitempty"`
	Nested   map[string][]bool `json:"nested,omitempty"`
	Double   **string          `json:"double,omitempty"`
	Struct   *kindTimes        `json:"struct"`
	Absent   *kindTimes        `json:"absent,omitempty"`
	Any      any               `json:"any"`
	Array    [2]int            `json:"array"`
}

type kindTexts struct {
	IP     net.IP                     `json:"ip"`
	Addr   netip.Addr                 `json:"addr"`
	Maybe  *netip.Addr                `json:"maybe"`
	Keys   map[netip.Addr]int         `json:"keys,omitempty"`
	URL    url.URL                    `json:"url"`
	Raw    json.RawMessage            `json:"raw,omitempty"`
	Big    *big.Int                   `json:"big,omitempty"`
	Level  kindLevel                  `json:"level"`
	Inside map[string]kindPointerText `json:"inside,omitempty"`
}

// kindLevel is an enum by its methods.
type kindLevel int

func (l kindLevel) MarshalText() ([]byte, error) { return []byte([]string{"low", "high"}[l]), nil }

func (l *kindLevel) UnmarshalText(text []byte) error {
	*l = 0
	if string(text) == "high" {
		*l = 1
	}
	return nil
}

// kindPointerText has its method on the pointer, which encoding/json does not find for the values of a map.
type kindPointerText struct{ Text string }

func (p *kindPointerText) MarshalText() ([]byte, error) { return []byte(p.Text), nil }

func (p *kindPointerText) UnmarshalText(text []byte) error { p.Text = string(text); return nil }

type kindMaps struct {
	Ints    map[int32]string          `json:"ints"`
	Uints   map[uint8]bool            `json:"uints,omitempty"`
	Anys    map[string]any            `json:"anys,omitempty"`
	Structs map[string]kindTimes      `json:"structs,omitempty"`
	Deep    map[string]map[string]int `json:"deep,omitempty"`
}

type kindBase struct {
	ID     int64  `json:"id"`
	Shared string `json:"shared,omitempty"`
	//lint:ignore U1000 JSON does not see it, nor may the schema
	hidden int
}

type kindMaybe struct{ Note string }

type kindEmbedded struct {
	kindBase
	*kindMaybe
	Shared int      `json:"shared"`
	Named  kindBase `json:"named"`
	Hidden string   `json:"-"`
	//lint:ignore SA5008 a field named "-" is what is tested
	Dash  string    `json:"-,"`
	Quiet chan bool `json:"-"`
}

type kindRecursive struct {
	Name string                    `json:"name" jsonschema:"minLength=1"`
	Next *kindRecursive            `json:"next,omitempty"`
	Kids []kindRecursive           `json:"kids"`
	Tree kindTree                  `json:"tree"`
	By   map[string]*kindRecursive `json:"by,omitempty"`
}

type kindTree map[string]kindTree

type kindPage[T any] struct {
	Items []T `json:"items"`
	Next  int `json:"next,omitempty"`
}

type kindGeneric struct {
	Times  kindPage[kindTimes]           `json:"times"`
	Addrs  kindPage[netip.Addr]          `json:"addrs"`
	Nested kindPage[kindPage[*kindTree]] `json:"nested"`
}

type kindSameName struct {
	Billing  billing.Address  `json:"billing"`
	Shipping shipping.Address `json:"shipping"`
}

type kindProvided struct {
	Own      kindOwnSchema `json:"own"`
	Extended kindExtended  `json:"extended"`
	Hidden   int           `json:"hidden" jsonschema:"-"`
	Null     int           `json:"null,omitempty" jsonschema:"nullable"`
}

// kindOwnSchema gives its schema itself, with a definition of its own.
type kindOwnSchema struct{ kindBase }

func (kindOwnSchema) MarshalJSON() ([]byte, error) { return []byte(`"v1"`), nil }

func (*kindOwnSchema) UnmarshalJSON([]byte) error { return nil }

func (kindOwnSchema) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Ref:         "#/$defs/version",
		Definitions: jsonschema.Definitions{"version": {Type: "string", Pattern: "^v[0-9]+$"}},
	}
}

type kindExtended struct {
	From int `json:"from"`
	To   int `json:"to"`
}

func (kindExtended) JSONSchemaExtend(s *jsonschema.Schema) { s.Description = "a range" }
