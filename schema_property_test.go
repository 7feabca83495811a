package anchor

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// registerType declares a task whose parameters are of type t, as Define does of its type parameter.
func registerType(t reflect.Type) (*registeredTask, error) {
	schema, err := newParamsSchema(t)
	if err != nil {
		return nil, err
	}
	if err := schema.compile(); err != nil {
		return nil, err
	}
	def := &taskDefinition{name: "Generated", params: t, schema: schema, options: taskOptions{taskPolicy: defaultTaskPolicy()}}
	def.decode = func(raw []byte) (any, bool, error) {
		params := reflect.New(t).Interface()
		return params, false, decodeStrictly(raw, params)
	}
	return &registeredTask{taskDefinition: def, policy: def.options.taskPolicy}, nil
}

// generatedRecursive is what a generated type may refer to.
type generatedRecursive struct {
	Name  string                         `json:"name"`
	Next  *generatedRecursive            `json:"next"`
	Kids  []generatedRecursive           `json:"kids,omitempty"`
	Named map[string]*generatedRecursive `json:"named,omitempty"`
}

type generatedText string

var generatedLeaves = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[string](), reflect.TypeFor[generatedText](), reflect.TypeFor[int](), reflect.TypeFor[int8](),
	reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](), reflect.TypeFor[uint](), reflect.TypeFor[uint8](),
	reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[[]byte](), reflect.TypeFor[any](),
	reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[generatedRecursive](),
}

// drawType draws a type that encoding/json can hold.
func drawType(t *rapid.T, depth int) reflect.Type {
	const leaf, pointer, slice, array, textMap, intMap, object = 0, 1, 2, 3, 4, 5, 6
	kind := leaf
	if depth > 0 {
		kind = rapid.SampledFrom([]int{leaf, leaf, leaf, pointer, slice, array, textMap, intMap, object}).Draw(t, "kind")
	}
	switch kind {
	case pointer:
		return reflect.PointerTo(drawType(t, depth-1))
	case slice:
		return reflect.SliceOf(drawType(t, depth-1))
	case array:
		return reflect.ArrayOf(rapid.IntRange(0, 3).Draw(t, "length"), drawType(t, depth-1))
	case textMap:
		return reflect.MapOf(reflect.TypeFor[string](), drawType(t, depth-1))
	case intMap:
		return reflect.MapOf(rapid.SampledFrom([]reflect.Type{reflect.TypeFor[int16](), reflect.TypeFor[uint8](), reflect.TypeFor[netip.Addr]()}).Draw(t, "key"), drawType(t, depth-1))
	case object:
		return drawStruct(t, depth-1)
	}
	return rapid.SampledFrom(generatedLeaves).Draw(t, "leaf")
}

func drawStruct(t *rapid.T, depth int) reflect.Type {
	fields := make([]reflect.StructField, rapid.IntRange(0, 4).Draw(t, "fields"))
	for i := range fields {
		fields[i] = reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: drawType(t, depth),
			Tag: reflect.StructTag(fmt.Sprintf(`json:"%s%s"`,
				rapid.SampledFrom([]string{"", fmt.Sprintf("f%d", i), fmt.Sprintf("$f/%d~", i)}).Draw(t, "name"),
				rapid.SampledFrom([]string{"", "", ",omitempty", ",omitzero", ",string", ",omitempty,string"}).Draw(t, "options"))),
		}
	}
	return reflect.StructOf(fields)
}

// drawValue fills v with what Go can hold and JSON can carry.
func drawValue(t *rapid.T, v reflect.Value, depth int) {
	zero := depth < 0 || rapid.IntRange(0, 4).Draw(t, "zero") == 0
	switch v.Interface().(type) {
	case time.Time:
		if !zero {
			zone := time.FixedZone("", 60*rapid.IntRange(-12*60, 14*60).Draw(t, "zone"))
			v.Set(reflect.ValueOf(time.Unix(rapid.Int64Range(-60_000_000_000, 253_000_000_000).Draw(t, "unix"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).In(zone)))
		}
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{127, 0, 0, rapid.Byte().Draw(t, "address")})))
		return
	case json.RawMessage:
		v.SetBytes([]byte(rapid.SampledFrom([]string{`null`, `{"a":[1,"x",null]}`, `-1.5e3`, `"é\n"`}).Draw(t, "raw")))
		return
	case json.Number:
		v.SetString(rapid.SampledFrom([]string{"", "0", "-12.5", "1e9"}).Draw(t, "number"))
		return
	}
	if zero {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.String:
		v.SetString(drawText(t))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		bits := v.Type().Bits()
		v.SetInt(rapid.Int64Range(-1<<(bits-1), 1<<(bits-1)-1).Draw(t, "int"))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, ^uint64(0)>>(64-v.Type().Bits())).Draw(t, "uint"))
	case reflect.Float32:
		v.SetFloat(float64(rapid.Float32().Draw(t, "float32")))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float64"))
	case reflect.Interface:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]any{1.5, "x", true, []any{"y"}, map[string]any{"z": nil}}).Draw(t, "any")))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		drawValue(t, v.Elem(), depth-1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			drawValue(t, v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 2).Draw(t, "entries") {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			drawValue(t, key, depth-1)
			drawValue(t, value, depth-1)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			drawValue(t, v.Field(i), depth-1)
		}
	}
}

// drawText leaves out what encodeParams refuses: NUL, and U+FFFD, which stands for invalid text.
func drawText(t *rapid.T) string {
	text := strings.ToValidUTF8(rapid.String().Draw(t, "text"), "")
	return strings.NewReplacer("\x00", "", string(utf8.RuneError), "").Replace(text)
}

func TestSchemaAllowsWhatGoWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		paramsType := drawStruct(t, 3)
		task, err := registerType(paramsType)
		if err != nil {
			t.Fatalf("the schema of %v: %v", paramsType, err)
		}
		params := reflect.New(paramsType)
		drawValue(t, params.Elem(), 6)
		raw, err := task.encode(params.Interface())
		if err != nil {
			t.Fatalf("%v is refused: %v\n%s", paramsType, err, task.schema.marked)
		}
		if violations := task.schema.full.validate(raw); len(violations) > 0 {
			t.Fatalf("%v: %s\nviolates: %v\n%s", paramsType, raw, violations, task.schema.marked)
		}
		if _, err := task.load(raw); err != nil {
			t.Fatalf("%v: %s\ndoes not load: %v\n%s", paramsType, raw, err, task.schema.marked)
		}
	})
}

func TestSchemaOfGeneratedTypesSurvivesTheTaskFile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		task, err := registerType(drawStruct(t, 3))
		if err != nil {
			t.Fatal(err)
		}
		task.description, task.policy.queue = drawText(t), "q"+drawText(t)
		if len(task.description) > maxDescription || len(task.policy.queue) > maxQueueLength {
			t.Skip("longer than allowed")
		}
		first := exportOf(t, task)
		again, err := registerType(task.params)
		if err != nil {
			t.Fatal(err)
		}
		client := &Client{tasks: map[string]*registeredTask{again.name: again}}
		if errs := client.applyTaskText("tasks.yaml", first); len(errs) > 0 {
			t.Fatalf("the export does not load: %v\n%s", errs, first)
		}
		if second := exportOf(t, again); string(second) != string(first) {
			t.Fatalf("the second export differs:\n%s\nfirst:\n%s", second, first)
		}
	})
}

func exportOf(t interface{ Fatal(...any) }, task *registeredTask) []byte {
	var b strings.Builder
	if err := (&Client{tasks: map[string]*registeredTask{task.name: task}}).ExportYAML(&b); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}
