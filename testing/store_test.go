package anchortest_test

import (
	"testing"

	"github.com/anchor-go/anchor"
	anchortest "github.com/anchor-go/anchor/testing"
)

func TestMemoryStoreConforms(t *testing.T) {
	t.Parallel()
	anchortest.TestStore(t, func(*testing.T) anchor.Store { return anchor.NewMemoryStore() })
}

func TestPGStoreConforms(t *testing.T) {
	t.Parallel()
	anchortest.TestStore(t, func(t *testing.T) anchor.Store { return anchor.NewPGStore(anchortest.Postgres(t)) })
}
