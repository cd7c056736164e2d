package gitrepo

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

func unhex(t testing.TB, s string) string {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return string(b)
}

func TestCheckPath(t *testing.T) {
	for p, want := range map[string]string{
		"sluice.yaml": "", "a/b/c.yaml": "", ".github/workflows/x.yaml": "", ".gitignore": "", ".sops.yaml": "", "a b/ü": "", "git": "", ".gitx": "", "...": "",
		"":                            "the path names no file",
		".":                           "the path names no file",
		"/etc/passwd":                 "the path must be relative to the repository",
		"..":                          `the path has an empty, "." or ".." part or ends in a slash`,
		"a/../b":                      `the path has an empty, "." or ".." part or ends in a slash`,
		"./a":                         `the path has an empty, "." or ".." part or ends in a slash`,
		"a//b":                        `the path has an empty, "." or ".." part or ends in a slash`,
		"a/":                          `the path has an empty, "." or ".." part or ends in a slash`,
		"a\x00b":                      "the path has a control character",
		"a\nb":                        "the path has a control character",
		"a\xff":                       "the path is not valid UTF-8",
		".git":                        "git keeps names like .git for itself",
		".git/config":                 "git keeps names like .git for itself",
		"a/.GIT/config":               "git keeps names like .git for itself",
		".git /config":                "git keeps names like .git for itself",
		".git./config":                "git keeps names like .git for itself",
		".git:x/config":               "git keeps names like .git for itself",
		"GIT~1/config":                "git keeps names like .git for itself",
		".gi\u200dt/config":           "git keeps names like .git for itself",
		`a\.git\config`:               "git keeps names like .git for itself",
		".gitmodules":                 "submodules are not supported",
		"a/.GitModules":               "submodules are not supported",
		strings.Repeat("a", 256):      "a part of the path is too long",
		strings.Repeat("ab/", 2000):   "the path is too long",
		strings.Repeat("a/", 9) + "b": "",
	} {
		assert.Equal(t, want, checkPath(p), "%q", p)
	}
}

// editing applies an edit to a repository and returns the tree's hash.
func editing(t testing.TB, r *Repository, e Edit) (plumbing.Hash, error) {
	t.Helper()
	base, err := r.resolve("HEAD")
	require.NoError(t, err)
	c, err := makeCommit(r.db, []plumbing.Hash{base.hash}, base, e, identity{name: "A", email: "a@example.com"}, clock())
	if err != nil {
		return plumbing.ZeroHash, err
	}
	r.db.pending.put(c)
	return c.tree, nil
}

func TestEditConflicts(t *testing.T) {
	dir := emptyBare(t)
	sub := gitInput(t, dir, "100644 blob "+gitInput(t, dir, "x", "hash-object", "-w", "--stdin")+"\tx\n", "mktree")
	withEntries(t, dir, map[string]string{"file": "100644 x", "dir": "040000 " + sub, "link": "120000 file", "module": "160000 " + strings.Repeat("1", 40)})
	r := open(t, Options{URL: dir})
	for _, c := range []struct {
		name   string
		write  []string
		remove []string
		want   string
	}{
		{"file over folder", []string{"dir"}, nil, `editing "dir": it is a folder`},
		{"file below file", []string{"file/a/b"}, nil, `editing "file/a/b": file is a file`},
		{"file below link", []string{"link/a"}, nil, `editing "link/a": link is a symbolic link`},
		{"file below submodule", []string{"module/a"}, nil, `editing "module/a": module is a submodule`},
		{"file over link", []string{"link"}, nil, `editing "link": it is a symbolic link; delete it first`},
		{"file over submodule", []string{"module"}, nil, `editing "module": it is a submodule`},
		{"file over link, deleted", []string{"link"}, []string{"link"}, `editing "link": the edit both writes and deletes it`},
		{"file and folder at once", []string{"new", "new/a"}, nil, `editing "new": it is a folder`},
		{"folder over deleted file", []string{"file/a"}, []string{"file"}, ""},
		{"file over emptied folder", []string{"dir"}, []string{"dir/x"}, ""},
		{"below a file nothing is deleted", nil, []string{"file/a", "link/a", "module/a"}, ""},
		{"bad path", []string{"a/../b"}, nil, `editing "a/../b": the path has an empty, "." or ".." part or ends in a slash`},
		{"bad deletion", nil, []string{"/x"}, `editing "/x": the path must be relative to the repository`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Edit{Message: "m", Write: map[string][]byte{}, Delete: c.remove}
			for _, w := range c.write {
				e.Write[w] = []byte("new")
			}
			_, err := editing(t, r, e)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.want)
			var edit *EditError
			require.ErrorAs(t, err, &edit)
		})
	}
}

func TestEditKeepsModesAndUntouchedEntries(t *testing.T) {
	dir := emptyBare(t)
	withEntries(t, dir, map[string]string{"run.sh": "100755 one", "old": "100664 one", "link": "120000 run.sh", "module": "160000 " + strings.Repeat("1", 40)})
	r := open(t, Options{URL: dir})
	_, err := r.Update(t.Context(), "main", write("m", map[string]string{"run.sh": "two", "old": "two", "new": "two"}))
	require.NoError(t, err)
	assert.Equal(t, "120000 link\n160000 module\n100644 new\n100644 old\n100755 run.sh", git(t, dir, "ls-tree", "--format=%(objectmode) %(path)", "main"))

	_, err = r.Update(t.Context(), "main", func(*Snapshot) (Edit, error) {
		return Edit{Message: "m", Delete: []string{"link", "module", "old", "new"}}, nil
	})
	require.NoError(t, err)
	assert.Equal(t, "run.sh", git(t, dir, "ls-tree", "--name-only", "main"))
}

func TestEditSendsOnlyWhatItChanged(t *testing.T) {
	files := map[string]string{}
	for i := range 100 {
		files[fmt.Sprintf("d%d/e/f%d", i%10, i)] = fmt.Sprint(i)
	}
	dir := bare(t, files)
	r := open(t, Options{URL: dir})
	c, err := r.WriteCommit([]string{"HEAD"}, "HEAD", Edit{Message: "m", Write: map[string][]byte{"d3/e/f3": []byte("new")}, Delete: []string{"d4/e"}})
	require.NoError(t, err)
	p, err := r.newPush([]RefUpdate{{Name: "refs/heads/main", Old: git(t, dir, "rev-parse", "main"), New: c}})
	require.NoError(t, err)
	require.Len(t, p.commits, 1)
	assert.Len(t, p.commits[0].objects, 5, "the commit, three folders, one file")
}

// editCase is a random edit of random files, small enough that paths collide.
type editCase struct {
	files  map[string]string
	modes  map[string]string
	write  map[string][]byte
	remove []string
}

func randomCase(r *rand.Rand) editCase {
	names := []string{"a", "b", "a.yaml", "a-b", "c"}
	random := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = names[r.IntN(len(names))]
		}
		return path.Join(parts...)
	}
	c := editCase{files: map[string]string{}, modes: map[string]string{}, write: map[string][]byte{}}
	for range r.IntN(12) {
		p := random()
		if !collides(slices.Collect(maps.Keys(c.files)), p) {
			c.files[p] = fmt.Sprint(r.IntN(4))
			c.modes[p] = []string{"100644", "100644", "100755"}[r.IntN(3)]
		}
	}
	for range r.IntN(5) {
		c.remove = append(c.remove, random())
	}
	for range r.IntN(5) {
		c.write[random()] = []byte(fmt.Sprint(r.IntN(4)))
	}
	return c
}

// collides says whether a path is a file where another needs a folder.
func collides(paths []string, p string) bool {
	return slices.ContainsFunc(paths, func(q string) bool {
		return p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/")
	})
}

// expected applies the edit to a plain map; ok is false where it must be refused.
func (c editCase) expected() (files map[string]string, ok bool) {
	files = maps.Clone(c.files)
	for _, d := range c.remove {
		if _, both := c.write[d]; both {
			return nil, false
		}
		maps.DeleteFunc(files, func(name, _ string) bool { return name == d || strings.HasPrefix(name, d+"/") })
	}
	for w, data := range c.write {
		for other := range c.write {
			if other != w && collides([]string{other}, w) {
				return nil, false
			}
		}
		for name := range files {
			if name != w && collides([]string{name}, w) {
				return nil, false
			}
		}
		files[w] = string(data)
	}
	return files, true
}

// mode of a file after the edit: as before where the file was there to the end.
func (c editCase) mode(name string) string {
	removed := slices.ContainsFunc(c.remove, func(d string) bool { return name == d || strings.HasPrefix(name, d+"/") })
	if m := c.modes[name]; m != "" && !removed {
		return m
	}
	return "100644"
}

// gitTree writes files with git's own index and returns the tree's hash.
func gitTree(t testing.TB, dir string, files map[string]string, mode func(string) string) string {
	t.Helper()
	index := path.Join(t.TempDir(), "index")
	var lines strings.Builder
	for name, data := range files {
		fmt.Fprintf(&lines, "%s %s\t%s\n", mode(name), gitInput(t, dir, data, "hash-object", "-w", "--stdin"), name)
	}
	run := func(input string, args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Stdin, cmd.Env = dir, strings.NewReader(input), append(os.Environ(), "GIT_INDEX_FILE="+index)
		out, err := cmd.Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	run(lines.String(), "update-index", "--add", "--index-info")
	return run("", "write-tree")
}

// TestEditsEqualGit: the tree that an edit makes has the hash of the tree that
// git makes of the same files.
func TestEditsEqualGit(t *testing.T) {
	t.Parallel()
	dir := emptyBare(t)
	for seed := range uint64(60) {
		c := randomCase(rand.New(rand.NewPCG(seed, 1)))
		base := gitTree(t, dir, c.files, func(n string) string { return c.modes[n] })
		rev := git(t, dir, "commit-tree", "-m", "base", base)
		git(t, dir, "update-ref", "refs/heads/main", rev)
		r := open(t, Options{URL: dir})
		tree, err := editing(t, r, Edit{Message: "m", Write: c.write, Delete: c.remove})
		files, ok := c.expected()
		if !ok {
			require.Error(t, err, "seed %d: %+v", seed, c)
			continue
		}
		require.NoError(t, err, "seed %d: %+v", seed, c)
		require.Equal(t, gitTree(t, dir, files, c.mode), tree.String(), "seed %d: %+v", seed, c)
	}
}

// memoryObjects is an objectReader for edits without a repository.
type memoryObjects map[plumbing.Hash]packObject

func (m memoryObjects) object(h plumbing.Hash, _ int64) (plumbing.ObjectType, []byte, error) {
	o, ok := m[h]
	if !ok {
		return 0, nil, errMissing
	}
	return o.kind, o.data, nil
}

func (m memoryObjects) objectSize(h plumbing.Hash) (int64, error) { return int64(len(m[h].data)), nil }
func (m memoryObjects) has(h plumbing.Hash) bool                  { _, ok := m[h]; return ok }

func (m memoryObjects) withPrefix(string, int) ([]plumbing.Hash, error) { return nil, nil }

// apply makes a tree of files, applies an edit, and reads the result back.
func (m memoryObjects) apply(base plumbing.Hash, e Edit) (plumbing.Hash, map[string]string, error) {
	db := newDatabase(m, func() {})
	c, err := makeCommit(db, nil, &commitObject{tree: base}, e, identity{name: "A", email: "a"}, clock())
	if err != nil {
		return base, nil, err
	}
	maps.Copy(m, c.objects)
	files := map[string]string{}
	var walk func(h plumbing.Hash, dir string) error
	walk = func(h plumbing.Hash, dir string) error {
		t, err := db.tree(h)
		if err != nil {
			return err
		}
		if len(t) == 0 && dir != "" {
			return fmt.Errorf("%s is an empty folder", dir)
		}
		for _, e := range t {
			if e.isDir() {
				err = walk(e.hash, join(dir, e.name))
			} else {
				files[join(dir, e.name)] = string(m[e.hash].data)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return c.tree, files, walk(c.tree, "")
}

// FuzzEdit: an edit gives what the same edit of a map gives, or is refused
// where a map could not tell files from folders; and the same files give the
// same tree however they came about.
func FuzzEdit(ff *testing.F) {
	f := mutants.New(ff)
	for seed := range uint64(20) {
		f.Add(seed, seed*7)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		c := randomCase(rand.New(rand.NewPCG(a, b)))
		m := memoryObjects{}
		first := Edit{Message: "m", Write: map[string][]byte{}}
		for name, data := range c.files {
			first.Write[name] = []byte(data)
		}
		base, files, err := m.apply(emptyTree, first)
		require.NoError(t, err)
		require.Equal(t, c.files, files)

		tree, files, err := m.apply(base, Edit{Message: "m", Write: c.write, Delete: c.remove})
		want, ok := c.expected()
		if !ok {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, files)
		direct := Edit{Message: "m", Write: map[string][]byte{}}
		for name, data := range want {
			direct.Write[name] = []byte(data)
		}
		again, _, err := m.apply(emptyTree, direct)
		require.NoError(t, err)
		require.Equal(t, again, tree)
	})
}

// FuzzCheckPath: a path that is accepted stays inside the repository, and the
// tree that holds it can be read again.
func FuzzCheckPath(ff *testing.F) {
	f := mutants.New(ff)
	for _, p := range []string{"a", "a/b", "../a", ".git/x", "a\x00", `a\..\b`, ".git\u200c", "a:b", " ", "é", "a/.GITmodules", "~", "git~1"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		_, files, err := memoryObjects{}.apply(emptyTree, Edit{Message: "m", Write: map[string][]byte{p: []byte("x")}})
		if checkPath(p) != "" {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, map[string]string{p: "x"}, files)
		require.Equal(t, p, path.Clean(p))
		require.False(t, path.IsAbs(p) || strings.HasPrefix(p, ".."+"/") || p == "..")
		for _, part := range strings.Split(strings.ToLower(p), "/") {
			require.NotEqual(t, ".git", part)
		}
	})
}

// FuzzDecodeTree: no tree of a hostile repository panics, and what is accepted
// has only names that stay in their folder.
func FuzzDecodeTree(ff *testing.F) {
	f := mutants.New(ff)
	h := strings.Repeat("\x01", 20)
	for _, s := range []string{"", "100644 a\x00" + h, "40000 d\x00" + h + "120000 l\x00" + h, "100644 ..\x00" + h, "1 \x00" + h, "100644 a\x00", "x", "100644 a/b\x00" + h} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeTree(data)
		if err != nil {
			return
		}
		for i, e := range entries {
			require.Empty(t, badName(e.name))
			require.NotContains(t, e.name, "/")
			if i > 0 {
				require.Less(t, entries[i-1].name, e.name)
			}
		}
		again, err := decodeTree(entries.encode())
		require.NoError(t, err)
		require.Equal(t, entries, again)
	})
}

func TestCleanMessage(t *testing.T) {
	for in, want := range map[string]string{
		"deploy api": "deploy api", "  \n": "", "a\r\nb": "a\nb", "a\x00b\x1b[31m": "ab[31m", "\n\na  \n\nb\n\n": "a\n\nb", "a\xff": "a�", " x": " x",
	} {
		assert.Equal(t, want, cleanMessage(in), "%q", in)
	}
}
