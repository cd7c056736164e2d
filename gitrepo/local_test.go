package gitrepo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// worktree makes a work tree with one commit.
func worktree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	git(t, "", "init", "--quiet", "--initial-branch=main", dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "environments", "production"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "environments", "production", "a"), []byte("one"), 0o600))
	git(t, dir, "add", ".")
	git(t, dir, "commit", "--quiet", "-m", "first")
	return dir
}

func openLocal(t *testing.T, path string) *Repository {
	t.Helper()
	r, err := OpenLocal(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func TestOpenLocal(t *testing.T) {
	dir := worktree(t)
	linked := filepath.Join(t.TempDir(), "linked")
	git(t, dir, "worktree", "add", "--quiet", "-b", "topic", linked)
	require.NoError(t, os.WriteFile(filepath.Join(linked, "b"), []byte("two"), 0o600))
	git(t, linked, "add", ".")
	git(t, linked, "commit", "--quiet", "-m", "second")
	bare := filepath.Join(t.TempDir(), "bare.git")
	git(t, "", "clone", "--quiet", "--bare", dir, bare)
	for path, want := range map[string]struct{ dir, branch, subject string }{
		dir:                                  {dir, "main", "first"},
		dir + "/environments/production":     {dir, "main", "first"},
		dir + "/environments/production/a":   {dir, "main", "first"},
		dir + "/.git":                        {dir, "main", "first"},
		linked:                               {linked, "topic", "second"},
		linked + "/environments/production/": {linked, "topic", "second"},
		bare:                                 {bare, "main", "first"},
	} {
		r := openLocal(t, path)
		assert.Equal(t, want.dir, r.Dir(), path)
		assert.Equal(t, want.branch, r.Branch(), path)
		assert.Equal(t, path == bare, r.Bare(), path)
		s := snapshot(t, r, "HEAD")
		assert.Equal(t, want.subject, s.Commit().Subject(), path)
		assert.Equal(t, "one", read(t, s, "environments/production/a"), path)
		assert.Equal(t, "first", snapshot(t, r, "main").Commit().Subject(), path)
		assert.Equal(t, s.Revision(), snapshot(t, r, s.Revision()[:9]).Revision(), path)
	}
	git(t, dir, "checkout", "--quiet", "--detach")
	assert.Empty(t, openLocal(t, dir).Branch())
	assert.Equal(t, "first", snapshot(t, openLocal(t, dir), "HEAD").Commit().Subject())
}

func TestOpenLocalOfNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenLocal(dir)
	require.ErrorIs(t, err, ErrNotRepository)
	assert.Equal(t, dir+" is not a Git repository: neither the folder nor one above it is a Git repository", err.Error())
	assert.Equal(t, "run it inside a clone, or name a repository", hint(t, err))
	_, err = OpenLocal(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, ErrNotRepository)
	assert.Contains(t, err.Error(), "there is no such path")
	for _, content := range []string{"garbage", "gitdir: /nowhere", strings.Repeat("x", 1<<20)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".git"), []byte(content), 0o600))
		_, err = OpenLocal(dir)
		require.ErrorIs(t, err, ErrNotRepository)
	}
}

func TestLocalBeforeTheFirstCommit(t *testing.T) {
	dir := t.TempDir()
	git(t, dir, "init", "--quiet", "--initial-branch=trunk")
	r := openLocal(t, dir)
	assert.Equal(t, "trunk", r.Branch())
	_, err := r.Snapshot("HEAD")
	require.ErrorIs(t, err, ErrEmpty)
	_, err = r.Snapshot("main")
	require.ErrorIs(t, err, ErrUnknownRevision)
}

func TestLocalIsReadOnly(t *testing.T) {
	r := openLocal(t, worktree(t))
	_, err := r.Fetch(t.Context())
	require.ErrorIs(t, err, ErrReadOnly)
	_, err = r.FetchRefs(t.Context(), "*")
	require.ErrorIs(t, err, ErrReadOnly)
	_, err = r.Update(t.Context(), "main", write("x", nil))
	require.ErrorIs(t, err, ErrReadOnly)
	_, err = r.WriteCommit(nil, "", Edit{Message: "x"})
	require.ErrorIs(t, err, ErrReadOnly)
	require.ErrorIs(t, r.Push(t.Context(), nil), ErrReadOnly)
}

// Objects are found wherever git keeps them: loose, packed, in an alternate,
// and also when git packs them while the repository is open.
func TestLocalObjects(t *testing.T) {
	dir := worktree(t)
	r := openLocal(t, dir)
	git(t, dir, "gc", "--quiet")
	assert.Equal(t, "one", read(t, snapshot(t, r, "HEAD"), "environments/production/a"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b"), []byte(strings.Repeat("two\n", 10000)), 0o600))
	git(t, dir, "add", ".")
	git(t, dir, "commit", "--quiet", "-m", "second")
	git(t, dir, "repack", "-adfq")
	git(t, dir, "tag", "-a", "-m", "x", "v1")
	s := snapshot(t, r, "v1")
	assert.Len(t, read(t, s, "b"), 40000)
	info, err := s.Stat("b")
	require.NoError(t, err)
	assert.EqualValues(t, 40000, info.Size())
	history, err := r.History(t.Context(), "HEAD", []string{"environments"}, 0)
	require.NoError(t, err)
	assert.Equal(t, "first", subjects(history))

	borrower := filepath.Join(t.TempDir(), "borrower")
	git(t, "", "clone", "--quiet", "--shared", dir, borrower)
	s = snapshot(t, openLocal(t, borrower), "HEAD")
	assert.Len(t, read(t, s, "b"), 40000)
	info, err = s.Stat("b")
	require.NoError(t, err)
	assert.EqualValues(t, 40000, info.Size())
	assert.Equal(t, s.Revision(), snapshot(t, openLocal(t, borrower), "origin/main").Revision())
}

func TestRemoteURL(t *testing.T) {
	dir := worktree(t)
	remoteURL := func() (string, error) { return openLocal(t, dir).RemoteURL() }
	_, err := remoteURL()
	require.Error(t, err)
	assert.Equal(t, dir+" has no remote", err.Error())
	assert.Equal(t, "name the repository, or add it: git remote add origin URL", hint(t, err))

	git(t, dir, "remote", "add", "upstream", "https://user:token@example.com/shop.git")
	url, err := remoteURL()
	require.NoError(t, err, "the only one")
	assert.Equal(t, "https://user:token@example.com/shop.git", url)

	git(t, dir, "remote", "add", "fork", "git@example.com:me/shop.git")
	_, err = remoteURL()
	require.EqualError(t, err, dir+" has no remote origin but fork, upstream")

	git(t, dir, "remote", "add", "origin", "../shop.git")
	url, err = remoteURL()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(filepath.Dir(dir), "shop.git"), url, "relative to the work tree")
	git(t, dir, "remote", "set-url", "origin", "git@example.com:shop.git")
	url, err = remoteURL()
	require.NoError(t, err)
	assert.Equal(t, "git@example.com:shop.git", url)
	git(t, dir, "config", "url.ssh://git@mirror.example.com/.insteadOf", "git@example.com:")
	url, err = remoteURL()
	require.NoError(t, err)
	assert.Equal(t, "ssh://git@mirror.example.com/shop.git", url)
}

func TestOtherFormatsAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	git(t, "", "init", "--quiet", "--object-format=sha256", dir)
	_, err := OpenLocal(dir)
	require.EqualError(t, err, "opening repository "+dir+": its objects are named by sha256: the repository format is not supported")
	harmless := worktree(t)
	git(t, harmless, "config", "extensions.worktreeConfig", "true")
	git(t, harmless, "config", "extensions.partialClone", "origin")
	git(t, harmless, "config", "core.repositoryformatversion", "1")
	openLocal(t, harmless)
}

func TestIdentity(t *testing.T) {
	dir := worktree(t)
	name, email := openLocal(t, dir).Identity()
	assert.Equal(t, "sluice <sluice@localhost>", name+" <"+email+">")

	global := filepath.Join(t.TempDir(), "gitconfig")
	t.Setenv("GIT_CONFIG_GLOBAL", global)
	git(t, "", "config", "--file", global, "user.name", "Global")
	git(t, "", "config", "--file", global, "user.email", "global@example.com")
	name, email = openLocal(t, dir).Identity()
	assert.Equal(t, "Global <global@example.com>", name+" <"+email+">")

	git(t, dir, "config", "user.name", "Local <x>\\n")
	name, email = openLocal(t, dir).Identity()
	assert.Equal(t, "Local x\\n <global@example.com>", name+" <"+email+">", "what would break a commit goes")

	r := open(t, Options{URL: dir})
	name, _ = r.Identity()
	assert.Equal(t, "Local x\\n", name, "a repository given as a path brings its own")

	t.Setenv("GIT_AUTHOR_NAME", "Env")
	r = open(t, Options{URL: dir, Email: "given@example.com"})
	name, email = r.Identity()
	assert.Equal(t, "Env <given@example.com>", name+" <"+email+">")

	t.Setenv("GIT_AUTHOR_NAME", "")
	empty := bare(t, nil)
	t.Setenv("GIT_CONFIG_GLOBAL", t.TempDir())
	o := serveHTTP(t, empty, nil)
	o.Author = "  <>"
	r = open(t, o)
	name, email = r.Identity()
	assert.Equal(t, "sluice <sluice@localhost>", name+" <"+email+">")
}
