package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/gitrepo/signature"
	"github.com/sluice-dev/sluice/reconciler"
)

// signedBranch is a repository whose commits are signed or not, as a test says.
type signedBranch struct {
	t             *testing.T
	bare          string
	signed, plain *gitrepo.Repository
	keys          *signature.Keys
}

func newSignedBranch(t *testing.T) *signedBranch {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	key, err := signature.ParsePrivateKey("key", pem.EncodeToMemory(block))
	require.NoError(t, err)
	trusted, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	b := &signedBranch{t: t, bare: filepath.Join(t.TempDir(), "shop.git"), keys: &signature.Keys{}}
	require.NoError(t, b.keys.ParseKeys("key.pub", ssh.MarshalAuthorizedKey(trusted)))
	out, err := exec.Command("git", "init", "-q", "--bare", "-b", "main", b.bare).CombinedOutput()
	require.NoError(t, err, "%s", out)
	b.signed, b.plain = b.open(key), b.open(nil)
	return b
}

func (b *signedBranch) open(key *signature.PrivateKey) *gitrepo.Repository {
	b.t.Helper()
	o := gitrepo.Options{URL: b.bare, Branch: "main"}
	if key != nil {
		o.SigningKey = func() (*signature.PrivateKey, error) { return key, nil }
	}
	repo, err := gitrepo.Open(b.t.Context(), o)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = repo.Close() })
	return repo
}

// commit makes the next commit of the branch.
func (b *signedBranch) commit(with *gitrepo.Repository, text string) string {
	b.t.Helper()
	rev, err := with.Update(b.t.Context(), "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		return gitrepo.Edit{Message: text, Write: map[string][]byte{"file": []byte(text)}}, nil
	})
	require.NoError(b.t, err)
	return rev
}

// verifier is that of a new process, in a cluster that was applied from these revisions.
func (b *signedBranch) verifier(every bool, applied ...string) *verifier {
	b.t.Helper()
	repo := b.open(nil)
	_, err := repo.Fetch(b.t.Context())
	require.NoError(b.t, err)
	return &verifier{
		repo: repo, every: every, now: time.Now,
		keys:    func() (*signature.Keys, error) { return b.keys, nil },
		applied: func(context.Context) ([]string, error) { return applied, nil },
	}
}

func TestWhichCommitsAreApplied(t *testing.T) {
	b := newSignedBranch(t)
	unsigned := b.commit(b.plain, "zero")
	first := b.commit(b.signed, "one")
	between := b.commit(b.plain, "two")
	last := b.commit(b.signed, "three")
	tests := map[string]struct {
		every   bool
		applied []string
		head    string
		keep    string
		err     string // "": accepted
	}{
		"a signed head of a new cluster":        {head: first},
		"an unsigned head of a new cluster":     {head: between, err: "it is not signed"},
		"the same commit again":                 {head: last, applied: []string{last}},
		"an unsigned one is left for the next":  {head: last, applied: []string{first}},
		"an unsigned one keeps the last":        {head: between, applied: []string{first}, keep: first, err: "it is not signed"},
		"releases were applied at several":      {head: between, applied: []string{first, unsigned}, keep: first, err: "it is not signed"},
		"an unsigned one that was applied":      {head: between, applied: []string{between}, err: "it is not signed"},
		"a signed one after it":                 {head: last, applied: []string{between}},
		"an old signed commit":                  {head: first, applied: []string{last}, keep: last, err: "the branch was rewritten"},
		"every: a signed head of a new cluster": {every: true, head: last},
		"every: an unsigned one in between":     {every: true, head: last, applied: []string{first}, keep: first, err: "(two) is not accepted: it is not signed"},
		"every: nothing unsigned since":         {every: true, head: last, applied: []string{between}},
		"a commit that is gone":                 {head: last, applied: []string{"0123456789abcdef0123456789abcdef01234567"}, err: "which the cluster was applied from, is not in the repository any more"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := b.verifier(tt.every, tt.applied...)
			for range 2 { // it is the same when asked again
				err := v.accept(t.Context(), tt.head)
				if tt.err == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorContains(t, err, tt.err)
				var refused *reconciler.CommitRefusedError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, tt.head, refused.Revision)
				assert.Equal(t, tt.keep, refused.Keep)
				assert.NotEmpty(t, refused.Hint())
			}
		})
	}
}

// TestAVerifierGoesOn: what was accepted is what the next must build on, and a
// cluster that does not answer is asked again.
func TestAVerifierGoesOn(t *testing.T) {
	b := newSignedBranch(t)
	first := b.commit(b.signed, "one")
	second := b.commit(b.signed, "two")
	third := b.commit(b.plain, "three")
	v := b.verifier(false)
	away := errors.New("the cluster is away")
	v.applied = func(context.Context) ([]string, error) { return nil, away }
	require.ErrorIs(t, v.accept(t.Context(), first), away)
	v.applied = func(context.Context) ([]string, error) { return nil, nil }
	require.NoError(t, v.accept(t.Context(), first))
	require.NoError(t, v.accept(t.Context(), second))
	var refused *reconciler.CommitRefusedError
	require.ErrorAs(t, v.accept(t.Context(), third), &refused)
	assert.Equal(t, second, refused.Keep)
	var rewritten *gitrepo.RewrittenError
	require.ErrorAs(t, v.accept(t.Context(), first), &rewritten)

	// A key that was taken away takes the next commit's word, not the last one's.
	b.keys = &signature.Keys{}
	require.NoError(t, v.accept(t.Context(), second))
	require.ErrorIs(t, v.accept(t.Context(), b.commit(b.signed, "four")), gitrepo.ErrUnknownRevision, "not fetched yet")
}

func TestAppliedRevisionsAreThoseServed(t *testing.T) {
	release := func(namespace, environment, repository, revision string) v1alpha1.Release {
		r := v1alpha1.Release{Spec: v1alpha1.ReleaseSpec{Environment: environment, Repository: repository}, Status: v1alpha1.ReleaseStatus{LastAppliedRevision: revision}}
		r.Namespace = namespace
		return r
	}
	all := []v1alpha1.Release{
		release("shop", "production", "r", "b"), release("shop", "production", "r", "a"), release("shop", "production", "r", "b"),
		release("other", "production", "r", "c"), release("shop", "staging", "r", "d"), release("shop", "production", "s", "e"), release("shop", "production", "r", ""),
	}
	assert.Equal(t, []string{"a", "b"}, appliedRevisions(all, "r", []string{"production=shop"}))
}
