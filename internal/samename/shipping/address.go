// Package shipping has a type of the same name as package billing, for tests.
package shipping

// Address is where the parcel goes.
type Address struct {
	Street string `json:"street" jsonschema:"minLength=1"`
}
