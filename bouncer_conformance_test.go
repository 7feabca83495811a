//go:build unix

package anchor_test

import (
	"testing"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

func TestStoreConformsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	anchortest.TestStore(t, func(t *testing.T) anchor.Store {
		return anchor.NewPGStore(openPool(t, anchor.BouncedDatabase(t)), anchor.WithPollingOnly())
	})
}
