package sluice_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxLines is the longest a function may be, in lines.
const maxLines = 80

// TestStyle holds what go vet and staticcheck do not look for: functions that
// are too long, init functions, and packages without a comment.
func TestStyle(t *testing.T) {
	documented := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == "bin" || d.Name() == ".git" || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return err
		}
		if filepath.Ext(file) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") {
			return nil // tables make tests long, and easy to read
		}
		documented[filepath.Dir(file)] = documented[filepath.Dir(file)] || parsed.Doc != nil
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
			if lines > maxLines {
				t.Errorf("%s: %s has %d lines, at most %d", set.Position(f.Pos()), f.Name.Name, lines, maxLines)
			}
			if f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: an init function: let main wire what it does", set.Position(f.Pos()))
			}
		}
		return nil
	}))
	require.NotEmpty(t, documented)
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: the package has no comment: say what to call first and what it never does", dir)
		}
	}
}
