package gitrepo

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-dev/sluice/gitrepo/signature"
)

// signingKey makes a key and what trusts it.
func signingKey(t *testing.T) (*signature.PrivateKey, *signature.Keys) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	key, err := signature.ParsePrivateKey("key", pem.EncodeToMemory(block))
	require.NoError(t, err)
	line, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	keys := &signature.Keys{}
	require.NoError(t, keys.ParseKeys("key.pub", ssh.MarshalAuthorizedKey(line)))
	return key, keys
}

// TestSignedHistory is a history with signed and unsigned commits, one of them on
// a merged branch.
func TestSignedHistory(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	key, keys := signingKey(t)
	signing, plain := open(t, Options{URL: dir, SigningKey: always(key)}), open(t, Options{URL: dir})
	commit := func(r *Repository, content string) string {
		rev, err := r.Update(t.Context(), "main", write("write "+content, map[string]string{"a": content}))
		require.NoError(t, err)
		return rev
	}
	verified := func(rev string) error {
		_, err := signing.Fetch(t.Context())
		require.NoError(t, err)
		_, err = signing.VerifyCommit(rev, keys, time.Now())
		return err
	}
	first := git(t, dir, "rev-parse", "main")
	second := commit(signing, "2")
	require.NoError(t, verified(second))
	require.NoError(t, signing.VerifySince(second, second, keys, time.Now()), "nothing since")
	require.NoError(t, signing.VerifySince(first, second, keys, time.Now()), "the first was believed already")

	third := commit(plain, "3")
	var refused *SignatureError
	require.ErrorAs(t, verified(third), &refused)
	assert.ErrorIs(t, refused, signature.ErrUnsigned)
	assert.ErrorContains(t, refused, "commit "+third[:12]+" (write 3) is not accepted: it is not signed")
	assert.Contains(t, hint(t, refused), "git commit -S")

	fourth := commit(signing, "4")
	require.NoError(t, verified(fourth), "the newest alone")
	require.ErrorAs(t, signing.VerifySince(second, fourth, keys, time.Now()), &refused)
	assert.Equal(t, third, refused.Commit.Hash)
	require.NoError(t, signing.VerifySince(third, fourth, keys, time.Now()))

	// A signed merge brings in what nobody has signed.
	side, err := plain.WriteCommit([]string{second}, second, Edit{Message: "aside", Write: map[string][]byte{"b": []byte("1")}})
	require.NoError(t, err)
	require.NoError(t, plain.Push(t.Context(), []RefUpdate{{Name: "refs/heads/side", New: side}}))
	_, err = signing.FetchRefs(t.Context(), "refs/heads/side")
	require.NoError(t, err)
	merge, err := signing.WriteCommit([]string{fourth, side}, fourth, Edit{Message: "merge", Write: map[string][]byte{"b": []byte("1")}})
	require.NoError(t, err)
	_, err = signing.VerifyCommit(merge, keys, time.Now())
	require.NoError(t, err)
	require.ErrorAs(t, signing.VerifySince(fourth, merge, keys, time.Now()), &refused)
	assert.Equal(t, side, refused.Commit.Hash)

	var rewritten *RewrittenError
	require.ErrorAs(t, signing.VerifySince(fourth, second, keys, time.Now()), &rewritten)
	require.ErrorAs(t, signing.VerifyBuildsOn(fourth, second), &rewritten)
	require.NoError(t, signing.VerifyBuildsOn(second, fourth))
}

// always is a key that is never replaced.
func always(key *signature.PrivateKey) func() (*signature.PrivateKey, error) {
	return func() (*signature.PrivateKey, error) { return key, nil }
}

// TestEveryCommitIsSigned: those of pull requests too, each with the key of its moment,
// and git finds nothing to complain about.
func TestEveryCommitIsSigned(t *testing.T) {
	dir := bare(t, map[string]string{"a": "1"})
	key, keys := signingKey(t)
	now := key
	r := open(t, Options{URL: dir, SigningKey: func() (*signature.PrivateKey, error) {
		if now == nil {
			return nil, errors.New("no key today")
		}
		return now, nil
	}})
	rev, err := r.WriteCommit([]string{"main"}, "main", Edit{Message: "branch", Write: map[string][]byte{"a": []byte("2")}})
	require.NoError(t, err)
	require.NoError(t, r.Push(t.Context(), []RefUpdate{{Name: "refs/heads/branch", New: rev}}))
	_, err = r.VerifyCommit(rev, keys, time.Now())
	require.NoError(t, err)

	next, trusted := signingKey(t)
	now = next
	rev, err = r.WriteCommit([]string{"main"}, "main", Edit{Message: "branch", Write: map[string][]byte{"a": []byte("3")}})
	require.NoError(t, err)
	require.NoError(t, r.Push(t.Context(), []RefUpdate{{Name: "refs/heads/next", New: rev}}))
	_, err = r.VerifyCommit(rev, trusted, time.Now())
	require.NoError(t, err, "a key that was replaced signs no more")
	fsck(t, dir)

	now = nil
	_, err = r.WriteCommit([]string{"main"}, "main", Edit{Message: "branch", Write: map[string][]byte{"a": []byte("4")}})
	require.ErrorContains(t, err, "no key today", "nothing is committed unsigned instead")
}
