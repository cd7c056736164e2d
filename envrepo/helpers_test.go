package envrepo

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
)

const (
	image   = "registry.example.com/shop/api"
	digestA = "sha256:1111aaaa22220000000000000000000000000000000000000000000000000000"
	digestB = "sha256:1111bbbb22220000000000000000000000000000000000000000000000000000"
	digestC = "sha256:3333cccc44440000000000000000000000000000000000000000000000000000"
	digestN = "sha256:9999ffff00000000000000000000000000000000000000000000000000000000" // no record
)

// shop is the project of testdata/shop.txtar with some files changed: content
// by path, "-" removes.
func shop(t testing.TB, changes ...string) fstest.MapFS {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "shop.txtar"))
	require.NoError(t, err)
	fsys := fstest.MapFS{}
	for _, f := range archive.Files {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			delete(fsys, changes[i])
			continue
		}
		fsys[changes[i]] = &fstest.MapFile{Data: []byte(changes[i+1]), Mode: 0o644}
	}
	return fsys
}

func openShop(t testing.TB, changes ...string) *Repo {
	t.Helper()
	repo, err := Open(shop(t, changes...))
	require.NoError(t, err)
	return repo
}

// hint is what cmd prints below an error.
func hint(err error) string {
	if h, ok := err.(interface{ Hint() string }); ok {
		return h.Hint()
	}
	return ""
}

// diff renders what an edit did to a tree: each file with its removed and
// added lines.
func diff(t testing.TB, tree *Tree, base fs.FS) string {
	t.Helper()
	var out strings.Builder
	names := tree.Deletes()
	writes := tree.Writes()
	for name := range writes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		before, err := fs.ReadFile(base, name)
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		after, written := writes[name]
		switch {
		case !written:
			out.WriteString("deleted " + name + "\n")
		case err != nil:
			out.WriteString("new " + name + "\n" + indentLines("+", string(after)))
		default:
			out.WriteString(name + "\n" + lineDiff(string(before), string(after)))
		}
	}
	return out.String()
}

func indentLines(prefix, text string) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		if line != "" {
			out.WriteString(prefix + strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return out.String()
}

// lineDiff drops the lines that two texts have in common at their start and end.
func lineDiff(a, b string) string {
	x, y := strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n")
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return indentLines("-", strings.Join(x, "")) + indentLines("+", strings.Join(y, ""))
}

func readTestdata(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(data)
}
