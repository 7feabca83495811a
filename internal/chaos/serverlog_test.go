//go:build unix

package chaos

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/google/go-cmp/cmp"
)

func TestErrorsInTheServersLogAreFound(t *testing.T) {
	t.Parallel()
	s := suiteOf(t)
	c, err := s.newScene(t.Context(), s.ground, "log")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	conn, err := pgx.Connect(t.Context(), c.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "select 1/0"); err == nil {
		t.Fatal("a division by zero had an answer")
	}
	if err := c.checkDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"I10"}, checksOf(c.verdict)); diff != "" {
		t.Errorf("checks that found something (-want +got):\n%s\n%v", diff, c.verdict.violations)
	}
}
