package anchor_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor/internal/testdb"
)

// exampleProgram is example_test.go behind its imports.
func exampleProgram(t *testing.T) string {
	t.Helper()
	source := readText(t, "example_test.go")
	_, program, found := strings.Cut(source, "\n)\n\n")
	if !found || !strings.HasPrefix(program, "type WelcomeParams struct") {
		t.Fatalf("example_test.go does not begin with its imports and WelcomeParams")
	}
	return program
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadmeShowsTheExample(t *testing.T) {
	t.Parallel()
	readme := readText(t, "README.md")
	_, block, _ := strings.Cut(readme, "```go\n")
	block, rest, _ := strings.Cut(block, "```\n")
	if diff := cmp.Diff(exampleProgram(t), block); diff != "" {
		t.Errorf("README.md's program (-example_test.go +README.md):\n%s", diff)
	}
	if strings.Contains(rest, "```go") {
		t.Error("README.md has a second Go block, which no example holds")
	}
	if lines := strings.Count(readme, "\n"); lines > 150 {
		t.Errorf("README.md has %d lines, more than 150", lines)
	}
}

// TestPackageDocShowsTheExample: the package doc leaves out lines, such as checks of errors, and adds none.
func TestPackageDocShowsTheExample(t *testing.T) {
	t.Parallel()
	doc, _, _ := strings.Cut(readText(t, "anchor.go"), "package anchor\n")
	program := strings.Split(exampleProgram(t), "\n")
	shown := 0
	for line := range strings.Lines(doc) {
		code, isCode := strings.CutPrefix(line, "//\t")
		if !isCode {
			continue
		}
		shown++
		at := slices.IndexFunc(program, func(other string) bool { return strings.TrimSpace(other) == strings.TrimSpace(code) })
		if at < 0 {
			t.Fatalf("the package doc's line %q is not in example_test.go behind the one before it", code)
		}
		program = program[at+1:]
	}
	if shown < 15 {
		t.Errorf("the package doc shows %d lines of the program", shown)
	}
}

// TestTheExampleRuns runs the program that the README shows.
func TestTheExampleRuns(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), "create table users (id integer generated always as identity, welcomed boolean)"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, pool) }()

	var welcomed bool
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !welcomed {
		select {
		case <-ticker.C:
		case err := <-ended:
			t.Fatalf("the program ended before the user was welcomed: %v", err)
		}
		if err := pool.QueryRow(t.Context(), "select exists (select from users where welcomed)").Scan(&welcomed); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
