// Package billing has a type of the same name as package shipping, for tests.
package billing

// Address is where the bill goes.
type Address struct {
	VAT string `json:"vat"`
}
