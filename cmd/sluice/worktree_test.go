package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
)

func TestWriteTreeWritesAllOrNothing(t *testing.T) {
	files := map[string]string{"a/keep.yaml": "keep", "a/change.yaml": "before", "z/gone.yaml": "gone"}
	for name, test := range map[string]struct {
		inTheWay func(t *testing.T, dir string)
		err      string
	}{
		"all": {inTheWay: func(*testing.T, string) {}},
		"a folder where a file is due": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, "x/y/z.yaml"), 0o755))
			},
			"writing x/y/z.yaml: a folder is in the way"},
		"a file where a folder is due": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), []byte("in the way"), 0o644))
			},
			"writing x/y/z.yaml: "},
		"a link that leads out": {
			func(t *testing.T, dir string) { require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(dir, "x"))) },
			"writing x/y/z.yaml: "},
		"a folder where a file is to be removed": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Remove(filepath.Join(dir, "z/gone.yaml")))
				require.NoError(t, os.Mkdir(filepath.Join(dir, "z/gone.yaml"), 0o755))
			},
			"removing z/gone.yaml: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			base := fstest.MapFS{}
			for file, content := range files {
				require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
				base[file] = &fstest.MapFile{Data: []byte(content)}
			}
			test.inTheWay(t, dir)
			before := contents(t, dir)
			tree := envrepo.NewTree(base)
			require.NoError(t, tree.WriteFile("a/change.yaml", []byte("after")))
			require.NoError(t, tree.WriteFile("b/c/new.yaml", []byte("new")))
			require.NoError(t, tree.WriteFile("x/y/z.yaml", []byte("new")))
			require.NoError(t, tree.Remove("z/gone.yaml"))
			root, err := os.OpenRoot(dir)
			require.NoError(t, err)
			defer root.Close()
			err = writeTree(root, tree)
			if test.err == "" {
				require.NoError(t, err)
				assert.Equal(t, map[string]string{"a": "", "a/keep.yaml": "keep", "a/change.yaml": "after", "b": "", "b/c": "", "b/c/new.yaml": "new",
					"x": "", "x/y": "", "x/y/z.yaml": "new", "z": ""}, contents(t, dir))
				return
			}
			require.ErrorContains(t, err, test.err)
			assert.Equal(t, before, contents(t, dir), "as if nothing had been tried")
		})
	}
}

// contents are the files and folders below a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err == nil && d.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(file)
			found[filepath.ToSlash(name)] = string(data)
			return err
		}
		found[filepath.ToSlash(name)] = ""
		return err
	}))
	return found
}
