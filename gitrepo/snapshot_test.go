package gitrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSnapshotIsAFileSystem(t *testing.T) {
	files := map[string]string{
		"sluice.yaml": "kind: Project\n", "empty": "", "environments/production/api/kustomization.yaml": "resources: []\n",
		"environments/production.yaml": "sorts before its folder in git", "environments/production-b": "and after it here",
		"components/api/deployment.yaml": strings.Repeat("spec: {}\n", 5000), "ünïcode/名前": "x", "a b/c d": "blanks",
	}
	dir := bare(t, files)
	r := open(t, Options{URL: dir})
	s := snapshot(t, r, "main")
	var names []string
	for name := range files {
		names = append(names, name)
	}
	require.NoError(t, fstest.TestFS(s, names...))

	sub, err := s.Sub("environments/production")
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(sub, "api/kustomization.yaml"))
	assert.Equal(t, s.Revision(), sub.Revision())
	same, err := s.Sub(".")
	require.NoError(t, err)
	assert.Equal(t, s, same)
	for dir, want := range map[string]error{"sluice.yaml": errNotDir, "none": fs.ErrNotExist, "../x": fs.ErrInvalid, "sluice.yaml/x": fs.ErrNotExist} {
		_, err := s.Sub(dir)
		require.ErrorIs(t, err, want, dir)
	}
	_, err = s.ReadFile("environments")
	require.ErrorIs(t, err, errIsDir)
	_, err = s.ReadDir("sluice.yaml")
	require.ErrorIs(t, err, errNotDir)
	_, err = s.ReadDir("none")
	require.ErrorIs(t, err, fs.ErrNotExist)

	info, err := s.Stat("components/api/deployment.yaml")
	require.NoError(t, err)
	assert.Equal(t, "-rw-r--r-- 45000 2026-01-02 03:04:05 deployment.yaml", fs.FormatFileInfo(info))
}

func TestSnapshotHandsOutCopies(t *testing.T) {
	r := open(t, Options{URL: bare(t, map[string]string{"a": "one"})})
	s := snapshot(t, r, "main")
	data, err := s.ReadFile("a")
	require.NoError(t, err)
	copy(data, "XXX")
	assert.Equal(t, "one", read(t, s, "a"))
}

// withEntries commits entries of any mode with git's own plumbing.
func withEntries(t *testing.T, dir string, entries map[string]string) {
	t.Helper()
	var list strings.Builder
	for name, modeAndData := range entries {
		mode, data, _ := strings.Cut(modeAndData, " ")
		switch mode {
		case "160000":
			fmt.Fprintf(&list, "160000 commit %s\t%s\n", data, name)
		case "040000":
			fmt.Fprintf(&list, "040000 tree %s\t%s\n", data, name)
		default:
			fmt.Fprintf(&list, "%s blob %s\t%s\n", mode, gitInput(t, dir, data, "hash-object", "-w", "--stdin"), name)
		}
	}
	tree := gitInput(t, dir, list.String(), "mktree", "--missing")
	git(t, dir, "update-ref", "refs/heads/main", git(t, dir, "commit-tree", "-m", "special", tree))
}

// Links and submodules are seen and never followed: go-git CVE-2026-71556, Argo CD
// CVE-2022-24904.
func TestAttackLinksOfTheRepository(t *testing.T) {
	dir := emptyBare(t)
	commit := strings.Repeat("1", 40)
	withEntries(t, dir, map[string]string{
		"link": "120000 /etc/passwd", "dirlink": "120000 ..", "module": "160000 " + commit, "run.sh": "100755 #!/bin/sh", "plain": "100644 x", "old": "100664 y",
	})
	s := snapshot(t, open(t, Options{URL: dir}), "HEAD")
	entries, err := s.ReadDir(".")
	require.NoError(t, err)
	var lines []string
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		lines = append(lines, fmt.Sprintf("%s %s %d", info.Mode(), e.Name(), info.Size()))
	}
	assert.Equal(t, `Lrwxrwxrwx dirlink 2
Lrwxrwxrwx link 11
?--------- module 0
-rw-r--r-- old 1
-rw-r--r-- plain 1
-rwxr-xr-x run.sh 9`, strings.Join(lines, "\n"))
	for name, want := range map[string]string{
		"link": "open link: is a symbolic link, which is not followed", "module": "open module: is a submodule, which is not followed",
		"dirlink/x": "open dirlink/x: file does not exist", "module/x": "open module/x: file does not exist",
	} {
		_, err := s.Open(name)
		require.EqualError(t, err, want)
		_, err = s.ReadFile(name)
		require.Error(t, err)
	}
	hash, ok := s.Hash("module")
	assert.True(t, ok)
	assert.Equal(t, commit, hash)
	assert.Equal(t, "y", read(t, s, "old"))
}

// Names in Git's objects that would lead out of their folder, or into .git: go-git
// CVE-2023-49569.
func TestAttackHostileTrees(t *testing.T) {
	for name, want := range map[string]string{
		"..": "would leave its folder", ".git": "git keeps for itself", ".GIT": "git keeps for itself", "git~1": "git keeps for itself",
		".git. .": "git keeps for itself", ".g\u200cit": "git keeps for itself", "x\\.git": "git keeps for itself", ".git::$INDEX": "git keeps for itself",
	} {
		t.Run(name, func(t *testing.T) {
			dir := emptyBare(t)
			blob := gitInput(t, dir, "x", "hash-object", "-w", "--stdin")
			raw := fmt.Sprintf("100644 %s\x00%s", name, unhex(t, blob))
			evil := gitInput(t, dir, raw, "hash-object", "-w", "--literally", "-t", "tree", "--stdin")
			withEntries(t, dir, map[string]string{"evil": "040000 " + evil, "good": "100644 fine"})
			r := open(t, Options{URL: dir})
			s := snapshot(t, r, "HEAD")
			assert.Equal(t, "fine", read(t, s, "good"), "other folders stay readable")
			_, err := s.ReadDir("evil")
			require.ErrorContains(t, err, want)
			_, err = s.Open("evil/x")
			require.ErrorContains(t, err, want)
		})
	}
}

// Files that do not fit into memory: Argo CD CVE-2022-31016.
func TestAttackHugeFiles(t *testing.T) {
	dir := emptyBare(t)
	withEntries(t, dir, map[string]string{"large": "100644 " + strings.Repeat("x", MaxFileBytes+1), "fits": "100644 " + strings.Repeat("x", MaxFileBytes)})
	s := snapshot(t, open(t, Options{URL: dir}), "HEAD")
	info, err := s.Stat("large")
	require.NoError(t, err)
	assert.EqualValues(t, MaxFileBytes+1, info.Size())
	_, err = s.ReadFile("large")
	require.ErrorIs(t, err, ErrTooLarge)
	assert.EqualError(t, err, "read large: object of 16777217 bytes: too large: files of at most 16 MiB are read")
	_, err = s.Open("large")
	require.ErrorIs(t, err, ErrTooLarge)
	assert.Len(t, read(t, s, "fits"), MaxFileBytes)
}

func TestHash(t *testing.T) {
	dir := bare(t, map[string]string{"a/b/c": "1", "a/d": "2", "e": "3"})
	r := open(t, Options{URL: dir})
	s := snapshot(t, r, "HEAD")
	for path, object := range map[string]string{".": "main^{tree}", "a": "main:a", "a/b": "main:a/b", "a/b/c": "main:a/b/c", "e": "main:e"} {
		h, ok := s.Hash(path)
		assert.True(t, ok)
		assert.Equal(t, git(t, dir, "rev-parse", object), h, path)
	}
	for _, path := range []string{"", "none", "a/none", "e/x", "/a", "a/", "../a"} {
		h, ok := s.Hash(path)
		assert.False(t, ok, path)
		assert.Empty(t, h)
	}
}

// Snapshots are read by many workers while the branch moves.
func TestSnapshotConcurrently(t *testing.T) {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("dir%d/sub/file%d", i%20, i)] = fmt.Sprint("content ", i)
	}
	dir := bare(t, files)
	r := open(t, Options{URL: dir})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			if w == 0 {
				for i := range 5 {
					if _, err := r.Update(t.Context(), "main", write("more", map[string]string{fmt.Sprint("new", i): "x"})); err != nil {
						t.Error(err)
					}
				}
				return
			}
			s, err := r.Snapshot("HEAD")
			if err != nil {
				t.Error(err)
				return
			}
			for name, want := range files {
				if data, err := s.ReadFile(name); err != nil || string(data) != want {
					t.Errorf("%s: %q, %v", name, data, err)
				}
			}
			if err := fs.WalkDir(s, ".", func(_ string, d fs.DirEntry, err error) error {
				if err == nil {
					_, err = d.Info()
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestClosedRepository(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	r, err := Open(t.Context(), Options{URL: dir})
	require.NoError(t, err)
	s := snapshot(t, r, "HEAD")
	require.NoError(t, r.Close())
	require.NoError(t, r.Close(), "closing twice is fine")
	assert.NoDirExists(t, r.mirror.dir, "a private mirror goes")
	_, err = r.Fetch(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	_, err = r.Snapshot("HEAD")
	require.ErrorIs(t, err, ErrClosed)
	_, err = r.Update(t.Context(), "main", write("x", nil))
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.ReadFile("a")
	require.ErrorIs(t, err, ErrClosed)
}

func TestFileInfo(t *testing.T) {
	e := treeEntry{name: "x", mode: 0o100755}
	i := (&Snapshot{commit: Commit{Time: time.Unix(0, 0).UTC()}}).info(e, 3)
	assert.Equal(t, "-rwxr-xr-x 3 1970-01-01 00:00:00 x", i.String())
	assert.Nil(t, i.Sys())
	d := &openDir{info: i}
	_, err := d.Read(nil)
	assert.True(t, errors.Is(err, errIsDir))
}
