package sluice_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var targetFormat = regexp.MustCompile("`([\\w/]+\\.Fuzz\\w+)`")

// TestFuzzTargets: every fuzz target tries mutants of its seeds, and docs/security.md
// says of which input each is.
func TestFuzzTargets(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	require.NoError(t, err)
	var named []string
	for _, match := range targetFormat.FindAllStringSubmatch(string(page), -1) {
		named = append(named, match[1])
	}
	var targets []string
	require.NoError(t, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{"bin", "bench", "dev", "internal", ".git"}, file) {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			targets = append(targets, path.Dir(filepath.ToSlash(file))+"."+f.Name.Name)
			assert.True(t, triesMutants(f), "%s: %s does not begin with f := mutants.New(ff)", file, f.Name.Name)
		}
		return nil
	}))
	assert.NotEmpty(t, targets)
	assert.ElementsMatch(t, targets, named)
}

// triesMutants reports whether a target wraps its testing.F before anything else.
func triesMutants(f *ast.FuncDecl) bool {
	if len(f.Body.List) == 0 {
		return false
	}
	first, ok := f.Body.List[0].(*ast.AssignStmt)
	if !ok || len(first.Rhs) != 1 {
		return false
	}
	call, ok := first.Rhs[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	name, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	in, ok := name.X.(*ast.Ident)
	return ok && in.Name == "mutants" && name.Sel.Name == "New"
}
