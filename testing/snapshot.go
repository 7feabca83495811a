package anchortest

import (
	"reflect"
	"time"
	"unsafe"
)

// snapshot copies a value with all that it refers to, fields that are not exported included, so that no change of the
// original shows in it. Functions, channels, the keys of maps, times, locations and types are shared.
func snapshot[O any](original O) O {
	c := copier{}
	c.detach(reflect.ValueOf(&original).Elem())
	return original
}

// reference is something that a value may refer to more than once, or from within itself.
type reference struct {
	address unsafe.Pointer
	length  int // of a slice
	typ     reflect.Type
}

// copier has the copies that were made.
type copier map[reference]reflect.Value

var (
	timeType = reflect.TypeFor[time.Time]()
	zoneType = reflect.TypeFor[*time.Location]() // time.Local is filled in when it is first used
	typeType = reflect.TypeFor[reflect.Type]()
)

// detach replaces what v, which can be set, refers to by copies.
func (c copier) detach(v reflect.Value) {
	if v.Type() == timeType || v.Type() == zoneType || v.Type().Implements(typeType) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		c.once(v, 0, func() reflect.Value { return reflect.New(v.Type().Elem()) },
			func(fresh reflect.Value) {
				fresh.Elem().Set(v.Elem())
				c.detach(fresh.Elem())
			})
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		c.once(v, v.Len(), func() reflect.Value { return reflect.MakeSlice(v.Type(), v.Len(), v.Len()) },
			func(fresh reflect.Value) {
				reflect.Copy(fresh, v)
				c.detachElements(fresh)
			})
	case reflect.Map:
		if v.IsNil() {
			return
		}
		c.once(v, 0, func() reflect.Value { return reflect.MakeMapWithSize(v.Type(), v.Len()) },
			func(fresh reflect.Value) {
				for entries := v.MapRange(); entries.Next(); {
					value := reflect.New(v.Type().Elem()).Elem()
					value.Set(entries.Value())
					c.detach(value)
					fresh.SetMapIndex(entries.Key(), value)
				}
			})
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		value := reflect.New(v.Elem().Type()).Elem()
		value.Set(v.Elem())
		c.detach(value)
		v.Set(value)
	case reflect.Array:
		c.detachElements(v)
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Field(i)
			if !field.CanSet() { // it is not exported
				field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
			}
			c.detach(field)
		}
	}
}

// once sets v to the copy of what it refers to, which is made and filled the first time.
func (c copier) once(v reflect.Value, length int, make func() reflect.Value, fill func(fresh reflect.Value)) {
	key := reference{v.UnsafePointer(), length, v.Type()}
	fresh, known := c[key]
	if !known {
		fresh = make()
		c[key] = fresh
		fill(fresh)
	}
	v.Set(fresh.Convert(v.Type()))
}

func (c copier) detachElements(v reflect.Value) {
	if v.Type().Elem().Kind() < reflect.Array || v.Type().Elem().Kind() == reflect.String {
		return // they refer to nothing
	}
	for i := range v.Len() {
		c.detach(v.Index(i))
	}
}
