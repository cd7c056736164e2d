package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// conformance is what every transport must do. Each case gets a bare
// repository of its own with one commit on main.
var conformance = []struct {
	name string
	run  func(t *testing.T, dir string, o Options)
}{
	{"reads the branch", readsTheBranch},
	{"fetches what others pushed", fetchesOthers},
	{"takes over a forced push", takesOverForcedPush},
	{"updates", updates},
	{"gives the edit the newest files after a lost race", editsAgain},
	{"does not push an edit that changes nothing", noChange},
	{"makes the first commit", firstCommit},
	{"names the branches there are", unknownBranch},
	{"pushes several refs at once or none", atomicPush},
	{"deletes refs", deletesRefs},
	{"reports a declined push without repeating it", declined},
	{"reports a repository that is not there", notThere},
	{"fetches refs by pattern", fetchesRefs},
	{"resolves branches and tags that were not fetched", onDemandRefs},
}

func TestTransports(t *testing.T) {
	t.Parallel()
	for _, s := range servings {
		for _, c := range conformance {
			t.Run(s.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				dir := bare(t, map[string]string{"sluice.yaml": "one", "environments/production/api.yaml": "digest: 1"})
				c.run(t, dir, s.serve(t, dir))
			})
		}
	}
}

func readsTheBranch(t *testing.T, dir string, o Options) {
	r := open(t, o)
	head := git(t, dir, "rev-parse", "main")
	s := snapshot(t, r, "HEAD")
	assert.Equal(t, head, s.Revision())
	assert.Equal(t, "one", read(t, s, "sluice.yaml"))
	assert.Equal(t, "main", r.Branch())
	commit := s.Commit()
	assert.Equal(t, "Ann", commit.Author)
	assert.Equal(t, "ann@example.com", commit.Email)
	assert.Equal(t, "first", commit.Subject())
}

func fetchesOthers(t *testing.T, dir string, o Options) {
	r := open(t, o)
	old := snapshot(t, r, "HEAD")
	pushed := commitFiles(t, dir, "main", "second", map[string]string{"sluice.yaml": "two"})
	rev, err := r.Fetch(context.Background())
	require.NoError(t, err)
	assert.Equal(t, pushed, rev)
	assert.False(t, r.Rewound())
	assert.Equal(t, "two", read(t, snapshot(t, r, rev), "sluice.yaml"))
	assert.Equal(t, "one", read(t, old, "sluice.yaml"), "an old snapshot stays as it was")

	packs := len(r.mirror.store.packs)
	rev, err = r.Fetch(context.Background())
	require.NoError(t, err)
	assert.Equal(t, pushed, rev)
	assert.Len(t, r.mirror.store.packs, packs, "nothing new, nothing stored")
}

func takesOverForcedPush(t *testing.T, dir string, o Options) {
	base := git(t, dir, "rev-parse", "main")
	commitFiles(t, dir, "main", "to be undone", map[string]string{"sluice.yaml": "undone"})
	r := open(t, o)
	git(t, dir, "update-ref", "refs/heads/main", base)
	forced := commitFiles(t, dir, "main", "instead", map[string]string{"sluice.yaml": "instead"})
	rev, err := r.Fetch(context.Background())
	require.NoError(t, err)
	assert.Equal(t, forced, rev)
	assert.True(t, r.Rewound())
	assert.Equal(t, "instead", read(t, snapshot(t, r, "HEAD"), "sluice.yaml"))
}

func updates(t *testing.T, dir string, o Options) {
	o.Author, o.Email, o.Now = "Robot", "robot@example.com", clock
	r := open(t, o)
	before := git(t, dir, "rev-parse", "main")
	rev, err := r.Update(context.Background(), "main", write("deploy api\n\nto production", map[string]string{"environments/production/api.yaml": "digest: 2"}))
	require.NoError(t, err)
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, before, git(t, dir, "rev-parse", "main^"))
	assert.Equal(t, "digest: 2", git(t, dir, "show", "main:environments/production/api.yaml"))
	assert.Equal(t, "one", git(t, dir, "show", "main:sluice.yaml"))
	assert.Equal(t, "Robot <robot@example.com> 1795255200", git(t, dir, "log", "-1", "--format=%an <%ae> %at", "main"))
	assert.Equal(t, "deploy api\n\nto production", git(t, dir, "log", "-1", "--format=%B", "main"))
	fsck(t, dir)

	s := snapshot(t, r, rev)
	assert.Equal(t, "digest: 2", read(t, s, "environments/production/api.yaml"))
	assert.Equal(t, rev, snapshot(t, r, "HEAD").Revision(), "the mirror knows without a fetch")
	fetched, err := r.Fetch(context.Background())
	require.NoError(t, err)
	assert.Equal(t, rev, fetched)
	assert.False(t, r.Rewound())
}

func editsAgain(t *testing.T, dir string, o Options) {
	r := open(t, o)
	var seen []string
	rev, err := r.Update(context.Background(), "main", func(s *Snapshot) (Edit, error) {
		seen = append(seen, read(t, s, "sluice.yaml"))
		if len(seen) < 3 {
			commitFiles(t, dir, "main", "faster", map[string]string{"sluice.yaml": fmt.Sprint("faster ", len(seen))})
		}
		return Edit{Message: "mine", Write: map[string][]byte{"mine": []byte(seen[len(seen)-1])}}, nil
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"one", "faster 1", "faster 2"}, seen)
	assert.Equal(t, "mine\nfaster\nfaster\nfirst", git(t, dir, "log", "--format=%s", "main"))
	assert.Equal(t, "faster 2", read(t, snapshot(t, r, rev), "mine"))
}

func noChange(t *testing.T, dir string, o Options) {
	r := open(t, o)
	head := git(t, dir, "rev-parse", "main")
	for name, edit := range map[string]Edit{
		"empty":             {},
		"the same content":  {Message: "same", Write: map[string][]byte{"sluice.yaml": []byte("one")}},
		"deletes no file":   {Message: "none", Delete: []string{"environments/none", "none"}},
		"replaces by equal": {Message: "equal", Delete: []string{"environments"}, Write: map[string][]byte{"environments/production/api.yaml": []byte("digest: 1")}},
	} {
		rev, err := r.Update(context.Background(), "main", func(*Snapshot) (Edit, error) { return edit, nil })
		require.NoError(t, err, name)
		assert.Equal(t, head, rev, name)
		assert.Equal(t, head, git(t, dir, "rev-parse", "main"), name)
	}
	broken := errors.New("no such component")
	_, err := r.Update(context.Background(), "main", func(*Snapshot) (Edit, error) { return Edit{}, broken })
	assert.Equal(t, broken, err, "the edit's error is returned as it is")
}

func firstCommit(t *testing.T, dir string, o Options) {
	git(t, dir, "update-ref", "-d", "refs/heads/main")
	r := open(t, o)
	_, err := r.Fetch(context.Background())
	require.ErrorIs(t, err, ErrEmpty)
	assert.Equal(t, `push a first commit to branch "main"`, hint(t, err))
	_, err = r.Snapshot("HEAD")
	require.ErrorIs(t, err, ErrEmpty)

	rev, err := r.Update(context.Background(), "main", func(s *Snapshot) (Edit, error) {
		assert.Empty(t, s.Revision())
		entries, err := s.ReadDir(".")
		require.NoError(t, err)
		assert.Empty(t, entries)
		return Edit{Message: "init", Write: map[string][]byte{"sluice.yaml": []byte("x"), "a/b": []byte("y")}}, nil
	})
	require.NoError(t, err)
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, rev, snapshot(t, r, "HEAD").Revision())
	fsck(t, dir)
}

func unknownBranch(t *testing.T, dir string, o Options) {
	commitFiles(t, dir, "topic", "x", map[string]string{"x": "x"})
	o.Branch = "mian"
	_, err := Open(context.Background(), o)
	require.ErrorIs(t, err, ErrUnknownBranch)
	assert.Contains(t, err.Error(), `has no branch "mian"; it has main, topic`)
	assert.Equal(t, `name one of these branches, or push a branch "mian" first`, hint(t, err))

	o.Branch = "topic"
	r := open(t, o)
	assert.Equal(t, "x", read(t, snapshot(t, r, "HEAD"), "x"))
	_, err = r.Update(context.Background(), "none", write("x", map[string]string{"x": "y"}))
	require.ErrorIs(t, err, ErrUnknownBranch)
	rev, err := r.Update(context.Background(), "main", write("x", map[string]string{"x": "y"}))
	require.NoError(t, err, "another branch than the mirrored one")
	assert.Equal(t, rev, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, "topic", r.Branch())
	assert.Equal(t, git(t, dir, "rev-parse", "topic"), snapshot(t, r, "HEAD").Revision())
}

func atomicPush(t *testing.T, dir string, o Options) {
	ctx := context.Background()
	r := open(t, o)
	main := git(t, dir, "rev-parse", "main")
	head, err := r.WriteCommit([]string{"main"}, "main", Edit{Message: "promote", Write: map[string][]byte{"p": []byte("1")}})
	require.NoError(t, err)
	record, err := r.WriteCommit(nil, "", Edit{Message: "record", Write: map[string][]byte{"pull.yaml": []byte("open")}})
	require.NoError(t, err)
	merge, err := r.WriteCommit([]string{"main", head}, head, Edit{Message: "merge"})
	require.NoError(t, err)
	assert.Equal(t, "1", read(t, snapshot(t, r, merge), "p"), "a commit is readable before it is pushed")

	both := []RefUpdate{{Name: "refs/heads/sluice/promote/production/api", New: head}, {Name: "refs/sluice/pulls/1", New: record}}
	require.NoError(t, r.Push(ctx, both))
	assert.Equal(t, head, git(t, dir, "rev-parse", both[0].Name))
	assert.Equal(t, record, git(t, dir, "rev-parse", both[1].Name))

	err = r.Push(ctx, []RefUpdate{{Name: "refs/heads/main", Old: main, New: merge}, {Name: "refs/sluice/pulls/1", Old: "", New: record}})
	require.ErrorIs(t, err, ErrConflict)
	assert.Contains(t, err.Error(), "refs/sluice/pulls/1")
	assert.Equal(t, main, git(t, dir, "rev-parse", "main"), "neither moved")

	require.NoError(t, r.Push(ctx, []RefUpdate{{Name: "refs/heads/main", Old: main, New: merge}, {Name: both[0].Name, Old: head}}))
	assert.Equal(t, merge, git(t, dir, "rev-parse", "main"))
	assert.Equal(t, merge, snapshot(t, r, "HEAD").Revision())
	fsck(t, dir)
}

func deletesRefs(t *testing.T, dir string, o Options) {
	ctx := context.Background()
	topic := commitFiles(t, dir, "topic", "x", map[string]string{"x": "x"})
	r := open(t, o)
	refs, err := r.FetchRefs(ctx, "refs/heads/topic")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"refs/heads/topic": topic}, refs)
	err = r.Push(ctx, []RefUpdate{{Name: "refs/heads/topic", Old: git(t, dir, "rev-parse", "main")}})
	require.ErrorIs(t, err, ErrConflict)
	require.NoError(t, r.Push(ctx, []RefUpdate{{Name: "refs/heads/topic", Old: topic}}))
	assert.Empty(t, git(t, dir, "for-each-ref", "refs/heads/topic"))
	_, err = r.Snapshot("topic")
	require.ErrorIs(t, err, ErrUnknownRevision)
}

func declined(t *testing.T, dir string, o Options) {
	hook := filepath.Join(dir, "hooks", "pre-receive")
	count := filepath.Join(t.TempDir(), "count")
	require.NoError(t, os.WriteFile(hook, []byte("#!/bin/sh\necho x >>"+count+"\nprintf 'main is protected\\033[31m\\nask the team\\n' >&2\nexit 1\n"), 0o755))
	r := open(t, o)
	_, err := r.Update(context.Background(), "main", write("x", map[string]string{"x": "y"}))
	var rejected *RejectedError
	require.ErrorAs(t, err, &rejected)
	assert.Equal(t, "refs/heads/main", rejected.Ref)
	assert.Equal(t, "pre-receive hook declined", rejected.Reason)
	assert.Equal(t, []string{"main is protected[31m", "ask the team"}, rejected.Messages)
	assert.NotErrorIs(t, err, ErrConflict)
	calls, err := os.ReadFile(count)
	require.NoError(t, err)
	assert.Equal(t, "x\n", string(calls), "it is not tried again")
}

func notThere(t *testing.T, dir string, o Options) {
	r := open(t, o)
	require.NoError(t, os.Rename(dir, dir+".moved"))
	_, err := r.Fetch(context.Background())
	require.ErrorIs(t, err, ErrNotRepository)
	assert.NotEmpty(t, hint(t, err))
	assert.NotContains(t, err.Error(), testToken)
}

func fetchesRefs(t *testing.T, dir string, o Options) {
	ctx := context.Background()
	a := commitFiles(t, dir, "sluice/promote/staging/api", "a", map[string]string{"a": "a"})
	b := commitFiles(t, dir, "sluice/promote/production/web", "b", map[string]string{"b": "b"})
	git(t, dir, "update-ref", "refs/sluice/pulls/1", a)
	r := open(t, o)
	refs, err := r.FetchRefs(ctx, "refs/heads/sluice/promote/*", "refs/sluice/pulls/*")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"refs/heads/sluice/promote/staging/api": a, "refs/heads/sluice/promote/production/web": b, "refs/sluice/pulls/1": a}, refs)
	assert.Equal(t, "b", read(t, snapshot(t, r, b), "b"))

	git(t, dir, "update-ref", "-d", "refs/heads/sluice/promote/production/web")
	refs, err = r.FetchRefs(ctx, "refs/heads/sluice/promote/*")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"refs/heads/sluice/promote/staging/api": a}, refs)
	assert.NotContains(t, r.mirror.refs, "refs/heads/sluice/promote/production/web")
	assert.Contains(t, r.mirror.refs, "refs/sluice/pulls/1", "other patterns are left alone")
	none, err := r.FetchRefs(ctx, "refs/heads/none/*")
	require.NoError(t, err)
	assert.Empty(t, none)
}

func onDemandRefs(t *testing.T, dir string, o Options) {
	topic := commitFiles(t, dir, "topic", "x", map[string]string{"x": "x"})
	git(t, dir, "-c", "user.name=Ann", "-c", "user.email=a@example.com", "tag", "-a", "-m", "release", "v1.0", topic)
	r := open(t, o)
	assert.False(t, r.mirror.store.stored(snapshotHash(topic)), "one branch is mirrored")
	assert.Equal(t, topic, snapshot(t, r, "v1.0").Revision())
	assert.Equal(t, topic, snapshot(t, r, "topic").Revision())
	assert.Equal(t, topic, snapshot(t, r, "refs/heads/topic").Revision())
	_, err := r.Snapshot("v1")
	require.ErrorIs(t, err, ErrUnknownRevision)
	assert.True(t, strings.HasPrefix(hint(t, err), "give a commit hash"))
}
