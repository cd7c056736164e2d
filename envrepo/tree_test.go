package envrepo

import (
	"io/fs"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func baseFS() fstest.MapFS {
	return fstest.MapFS{
		"a.yaml":     {Data: []byte("a")},
		"dir/b.yaml": {Data: []byte("b")},
		"dir/c.yaml": {Data: []byte("c")},
		"sub/x/y":    {Data: []byte("y")},
		"sub/link":   {Data: []byte("x/y"), Mode: fs.ModeSymlink | 0o777},
	}
}

func TestTreeIsAFileSystem(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*testing.T, *Tree)
		want []string
	}{
		"untouched": {func(*testing.T, *Tree) {}, []string{"a.yaml", "dir/b.yaml", "dir/c.yaml", "sub/x/y"}},
		"written": {func(t *testing.T, tree *Tree) {
			require.NoError(t, tree.WriteFile("dir/b.yaml", []byte("new")))
			require.NoError(t, tree.WriteFile("dir/deep/er/z", nil))
			require.NoError(t, tree.WriteFile("top", []byte("t")))
		}, []string{"a.yaml", "dir/b.yaml", "dir/c.yaml", "dir/deep/er/z", "sub/x/y", "top"}},
		"removed": {func(t *testing.T, tree *Tree) {
			require.NoError(t, tree.Remove("dir"))
			require.NoError(t, tree.Remove("sub/x/y"))
		}, []string{"a.yaml", "sub/link"}},
		"file in a folder's place": {func(t *testing.T, tree *Tree) {
			require.NoError(t, tree.Remove("dir"))
			require.NoError(t, tree.WriteFile("dir", []byte("now a file")))
		}, []string{"a.yaml", "dir", "sub/x/y"}},
		"folder in a file's place": {func(t *testing.T, tree *Tree) {
			require.NoError(t, tree.Remove("a.yaml"))
			require.NoError(t, tree.WriteFile("a.yaml/b", []byte("b")))
		}, []string{"a.yaml/b", "dir/b.yaml", "dir/c.yaml", "sub/x/y"}},
		"written and removed": {func(t *testing.T, tree *Tree) {
			require.NoError(t, tree.WriteFile("n/e/w", []byte("b")))
			require.NoError(t, tree.Remove("n"))
		}, []string{"a.yaml", "dir/b.yaml", "dir/c.yaml", "sub/x/y"}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := NewTree(baseFS())
			test.edit(t, tree)
			require.NoError(t, fstest.TestFS(tree, test.want...))
			require.NoError(t, fstest.TestFS(NewTree(tree), test.want...), "a tree over the tree")
		})
	}
}

func TestTreeEdits(t *testing.T) {
	tree := NewTree(baseFS())
	assert.True(t, tree.Empty())

	require.NoError(t, tree.WriteFile("a.yaml", []byte("a")))
	assert.True(t, tree.Empty(), "what base holds is no edit")

	require.NoError(t, tree.WriteFile("a.yaml", []byte("other")))
	require.NoError(t, tree.Remove("dir/b.yaml"))
	assert.Equal(t, map[string][]byte{"a.yaml": []byte("other")}, tree.Writes())
	assert.Equal(t, []string{"dir/b.yaml"}, tree.Deletes())
	_, err := tree.ReadFile("dir/b.yaml")
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, tree.WriteFile("a.yaml", []byte("a")))
	require.NoError(t, tree.WriteFile("dir/b.yaml", []byte("b")))
	assert.True(t, tree.Empty(), "back to base")

	require.ErrorIs(t, tree.WriteFile("../x", nil), fs.ErrInvalid)
	require.ErrorIs(t, tree.Remove("nowhere"), fs.ErrNotExist)
	require.EqualError(t, tree.WriteFile("a.yaml/x", nil), "write a.yaml/x: a.yaml is not a folder")
	require.EqualError(t, tree.WriteFile("sub/link", nil), "write sub/link: is not a regular file")
	require.EqualError(t, tree.WriteFile("dir", nil), "write dir: is not a regular file")
	assert.True(t, tree.Empty())
}

func TestTreeOverAFolder(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(dir+"/environments/production", 0o755))
	require.NoError(t, os.WriteFile(dir+"/sluice.yaml", []byte("x"), 0o644))
	require.NoError(t, os.WriteFile(dir+"/environments/production/a", []byte("x"), 0o644))
	tree := NewTree(os.DirFS(dir))
	require.NoError(t, tree.Remove("environments/production/a"))
	require.NoError(t, tree.WriteFile("environments/production/b/c", []byte("x")))
	require.NoError(t, fstest.TestFS(tree, "sluice.yaml", "environments/production/b/c"))
}

func TestLinksAreNeverFollowed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(dir+"/project/components", 0o755))
	require.NoError(t, os.MkdirAll(dir+"/elsewhere", 0o755))
	secret := "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: api}\nimage: a/b\n"
	require.NoError(t, os.WriteFile(dir+"/elsewhere/component.yaml", []byte(secret), 0o644))
	require.NoError(t, os.WriteFile(dir+"/project/sluice.yaml", shop(t)["sluice.yaml"].Data, 0o644))
	require.NoError(t, os.Symlink(dir+"/elsewhere", dir+"/project/components/api"))
	for name, fsys := range map[string]fs.FS{"folder": os.DirFS(dir + "/project"), "tree": NewTree(os.DirFS(dir + "/project"))} {
		t.Run(name, func(t *testing.T) {
			repo, err := Open(fsys)
			require.NoError(t, err)
			_, err = repo.Component("api")
			require.EqualError(t, err, "components/api: is a symbolic link, which is never followed")
		})
	}
	require.NoError(t, os.Remove(dir+"/project/sluice.yaml"))
	require.NoError(t, os.Symlink(dir+"/elsewhere/component.yaml", dir+"/project/sluice.yaml"))
	_, err := Open(os.DirFS(dir + "/project"))
	require.EqualError(t, err, "sluice.yaml: is a symbolic link, which is never followed")
}

// A release whose folder became a link is a broken release, not one that is gone.
func TestLinkedReleases(t *testing.T) {
	fsys := shop(t, "environments/production/web/x", "-", "environments/production/README.md", "-")
	fsys["environments/production/web"] = &fstest.MapFile{Data: []byte("../development/web"), Mode: fs.ModeSymlink | 0o777}
	fsys["environments/production/README"] = &fstest.MapFile{Data: []byte("../README"), Mode: fs.ModeSymlink | 0o777}
	fsys["environments/development/web"] = &fstest.MapFile{Mode: fs.ModeIrregular}
	delete(fsys, "environments/development/web/kustomization.yaml")
	for name, fsys := range map[string]fs.FS{"base": fsys, "tree": NewTree(fsys)} {
		t.Run(name, func(t *testing.T) {
			repo, err := Open(fsys)
			require.NoError(t, err)
			for env, want := range map[string]string{
				"production":  "environments/production/web: is a symbolic link, which is never followed",
				"development": "environments/development/web: is a submodule, which is never read",
			} {
				names, err := repo.ReleaseNames(env)
				require.NoError(t, err)
				assert.Contains(t, names, "web")
				assert.NotContains(t, names, "README")
				_, err = repo.Release(env, "web")
				require.EqualError(t, err, want)
			}
		})
	}
}

func TestTreeReadsLinks(t *testing.T) {
	tree := NewTree(baseFS())
	target, err := tree.ReadLink("sub/link")
	require.NoError(t, err)
	assert.Equal(t, "x/y", target)
	_, err = tree.ReadLink("a.yaml")
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.NoError(t, tree.Remove("sub/link"))
	_, err = tree.ReadLink("sub/link")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = tree.Open("../x")
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = tree.ReadFile("dir")
	require.EqualError(t, err, "read dir: is a folder")
	_, err = tree.ReadDir("a.yaml")
	require.EqualError(t, err, "readdir a.yaml: is not a folder")
}
