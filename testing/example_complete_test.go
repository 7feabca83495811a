package anchortest_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// parsed are the files of this folder, its tests or all else.
func parsed(t *testing.T, fset *token.FileSet, tests bool) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// exported are the names of a package by which examples are called: Run, Harness, Harness_Drain.
func exported(p *doc.Package) []string {
	var names []string
	values := func(all []*doc.Value) {
		for _, value := range all {
			names = append(names, value.Names...)
		}
	}
	functions := func(prefix string, all []*doc.Func) {
		for _, function := range all {
			names = append(names, prefix+function.Name)
		}
	}
	values(p.Consts)
	values(p.Vars)
	functions("", p.Funcs)
	for _, typ := range p.Types {
		names = append(names, typ.Name)
		values(typ.Consts)
		values(typ.Vars)
		functions("", typ.Funcs)
		functions(typ.Name+"_", typ.Methods)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !ast.IsExported(name) })
}

func TestEveryExportedIdentifierHasAnExampleWithOutput(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	files := parsed(t, fset, false)
	p, err := doc.NewFromFiles(fset, files, "github.com/anchor-go/anchor/testing")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, example := range doc.Examples(parsed(t, fset, true)...) {
		if example.Output != "" {
			shown[example.Name] = true
		}
	}
	names := exported(p)
	if len(names) < 30 {
		t.Errorf("found %d exported identifiers: %v", len(names), names)
	}
	for _, name := range names {
		if !shown[name] {
			t.Errorf("there is no func Example%s with an output", name)
		}
	}
}
