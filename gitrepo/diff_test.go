package gitrepo

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// differing are all paths that Diff visits when nothing is left out.
func differing(t testing.TB, before, after *Snapshot) []string {
	t.Helper()
	var paths []string
	require.NoError(t, after.Diff(before, func(p string) bool {
		paths = append(paths, p)
		return true
	}))
	return paths
}

func TestDiff(t *testing.T) {
	dir := bare(t, map[string]string{"a/b/c": "1", "a/b/d": "1", "a/e": "1", "f/g": "1", "f-h": "1", "same/x/y": "1", "sluice.yaml": "1"})
	commitFiles(t, dir, "main", "second", map[string]string{"a/b/c": "2", "f": "a file", "f-h/i/j": "a folder", "new/k": "1"})
	r := open(t, Options{URL: dir})
	first, second := snapshot(t, r, "main~1"), snapshot(t, r, "main")
	all := []string{".", "a", "a/b", "a/b/c", "f", "f/g", "f-h", "f-h/i", "f-h/i/j", "new", "new/k"}
	assert.Equal(t, all, differing(t, first, second))
	assert.Equal(t, all, differing(t, second, first), "the other way round")
	assert.Empty(t, differing(t, second, second))
	empty := &Snapshot{db: r.db, root: emptyTree}
	assert.Len(t, differing(t, empty, first), 13, "all folders and files")

	var seen []string
	require.NoError(t, second.Diff(first, func(p string) bool {
		seen = append(seen, p)
		return p == "." || p == "a"
	}))
	assert.Equal(t, []string{".", "a", "a/b", "f", "f-h", "new"}, seen, "only what is asked for is gone into")

	a1, err := first.Sub("a")
	require.NoError(t, err)
	a2, err := second.Sub("a")
	require.NoError(t, err)
	assert.Equal(t, []string{".", "b", "b/c"}, differing(t, a1, a2), "within a folder")

	err = second.Diff(fstest.MapFS{}, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// A mode is a difference even where the content is the same.
func TestDiffSeesModes(t *testing.T) {
	dir := emptyBare(t)
	withEntries(t, dir, map[string]string{"run": "100644 x", "link": "100644 target", "sub": "100644 x"})
	git(t, dir, "branch", "before")
	withEntries(t, dir, map[string]string{"run": "100755 x", "link": "120000 target", "sub": "160000 " + strings.Repeat("a", 40)})
	r := open(t, Options{URL: dir})
	_, err := r.FetchRefs(t.Context(), "refs/heads/*")
	require.NoError(t, err)
	assert.Equal(t, []string{".", "link", "run", "sub"}, differing(t, snapshot(t, r, "before"), snapshot(t, r, "main")))
}

// TestDiffEqualsComparingEverything: of any two trees.
func TestDiffEqualsComparingEverything(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	part := func() string { return string(rune('a' + random.IntN(3))) }
	dir := emptyBare(t)
	var commits []importedCommit
	for range 60 {
		files := map[string]string{}
		for range 1 + random.IntN(4) {
			// A file may replace a folder and the other way round.
			files[path.Join(part(), part(), part())[:1+2*random.IntN(3)]] = fmt.Sprint(random.IntN(3))
		}
		commits = append(commits, importedCommit{"x", withoutNested(files)})
	}
	importCommits(t, dir, "main", commits)
	r := open(t, Options{URL: dir})
	for i := range 60 {
		before, after := snapshot(t, r, fmt.Sprintf("main~%d", i)), snapshot(t, r, fmt.Sprintf("main~%d", random.IntN(60)))
		one, other := entriesOf(t, before), entriesOf(t, after)
		want := map[string]bool{}
		for _, pair := range [][2]map[string]treeEntry{{one, other}, {other, one}} {
			for p, e := range pair[0] {
				if pair[1][p] != e {
					want[p] = true
				}
			}
		}
		got := differing(t, before, after)
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), got)
	}
}

// withoutNested drops files below others: one commit cannot have both.
func withoutNested(files map[string]string) map[string]string {
	maps.DeleteFunc(files, func(p, _ string) bool {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; ok {
				return true
			}
		}
		return false
	})
	return files
}

// entriesOf are all entries of a commit by path, found one by one.
func entriesOf(t testing.TB, s *Snapshot) map[string]treeEntry {
	t.Helper()
	all := map[string]treeEntry{}
	var walk func(dir string, h plumbing.Hash)
	walk = func(dir string, h plumbing.Hash) {
		all[dir] = treeEntry{name: path.Base(dir), mode: 0o40000, hash: h}
		entries, err := s.db.tree(h)
		require.NoError(t, err)
		for _, e := range entries {
			if p := path.Join(dir, e.name); e.isDir() {
				walk(p, e.hash)
			} else {
				all[p] = e
			}
		}
	}
	walk(".", s.root)
	return all
}

// TestDiffReadsWhatDiffers: a change of one file costs the folders above it, in a
// repository of 400 folders.
func TestDiffReadsWhatDiffers(t *testing.T) {
	r := open(t, Options{URL: grown(t, 2)})
	before, after := snapshot(t, r, "HEAD~1"), snapshot(t, r, "HEAD")
	read := r.FoldersRead()
	require.Equal(t, []string{".", "environments", "environments/e0", "environments/e0/c0", "environments/e0/c0/f0.yaml"}, differing(t, before, after))
	assert.Equal(t, int64(2*4), r.FoldersRead()-read, "four folders of each commit")
	read = r.FoldersRead()
	differing(t, before, after)
	assert.Zero(t, r.FoldersRead()-read, "folders that were read are kept")
}

func TestDiffOfADamagedRepository(t *testing.T) {
	dir := emptyBare(t)
	withEntries(t, dir, map[string]string{"a": "100644 x"})
	git(t, dir, "branch", "before")
	withEntries(t, dir, map[string]string{"folder": "040000 " + strings.Repeat("b", 40)})
	r, err := OpenLocal(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	err = snapshot(t, r, "main").Diff(snapshot(t, r, "before"), func(string) bool { return true })
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	assert.ErrorContains(t, err, "folder")
}

// BenchmarkDiff compares two commits of 400 folders, as the controller does with
// every commit.
func BenchmarkDiff(b *testing.B) {
	r := open(b, Options{URL: large(b)})
	for b.Loop() {
		before, after := snapshot(b, r, "HEAD~1"), snapshot(b, r, "HEAD")
		require.NoError(b, after.Diff(before, func(string) bool { return true }))
	}
}
