package gitrepo

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestErrorTexts shows every error as the command line prints it.
func TestErrorTexts(t *testing.T) {
	const repo, hash = "https://example.com/shop", "0123456789abcdef0123456789abcdef01234567"
	cause := errors.New("connection refused")
	for _, c := range []struct {
		err        error
		text, hint string
		is         error
	}{
		{&NotRepositoryError{Repository: repo}, "https://example.com/shop is not a Git repository",
			"give the URL or the path of a Git repository (git init --bare makes a new one)", ErrNotRepository},
		{&UnknownBranchError{repo, "mian", []string{"main"}}, `https://example.com/shop has no branch "mian"; it has main`,
			`name the branch "main", or push a branch "mian" first`, ErrUnknownBranch},
		{&UnknownBranchError{repo, "x", []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}},
			`https://example.com/shop has no branch "x"; it has a, b, c, d, e, f, g, h, i, j and 2 more`, `name one of these branches, or push a branch "x" first`, ErrUnknownBranch},
		{&EmptyError{repo, "main"}, "https://example.com/shop has no commits yet", `push a first commit to branch "main"`, ErrEmpty},
		{&UnknownRevisionError{Repository: repo, Revision: "v9"}, `https://example.com/shop has no revision "v9"`,
			"give a commit hash or a unique prefix of it, a branch, a tag, HEAD, or one of them with ~N", ErrUnknownRevision},
		{&ConflictError{repo, "refs/heads/main", hash, ""}, "pushing refs/heads/main to https://example.com/shop: the ref is at nothing, not at 0123456789ab",
			"somebody else pushed at the same time; nothing was written, run the command again", ErrConflict},
		{&RejectedError{repo, "refs/heads/main", "protected branch hook declined", []string{"GH006: Protected branch update failed"}},
			"pushing refs/heads/main to https://example.com/shop: the remote refused it: protected branch hook declined\n  remote: GH006: Protected branch update failed",
			"the remote's rules forbid this push: check branch protection, hooks and the account's permissions", nil},
		{&AccessError{Repository: repo}, "reading https://example.com/shop: authentication required",
			"give a user name and a token (or, for ssh, a key) that may use this repository", nil},
		{&AccessError{Repository: repo, Denied: true, Message: "not in your plan"}, "reading https://example.com/shop: access denied: not in your plan",
			"the account may not read this repository", nil},
		{&TransportError{Repository: repo, Op: "fetching", err: cause}, "fetching https://example.com/shop: connection refused",
			"check the URL and the network, then try again", cause},
		{&uncertainError{&TransportError{Repository: repo, Op: "pushing refs/heads/main to", err: cause}},
			"pushing refs/heads/main to https://example.com/shop: connection refused; the outcome of the push is unknown",
			"look at the repository before trying again: the commit may have arrived", ErrUncertain},
		{&CorruptError{hash, "it is missing"}, "reading object 0123456789abcdef0123456789abcdef01234567: it is missing",
			"the next fetch throws the local mirror away and makes it again; if the error stays, run git fsck on the repository", nil},
		{&busyError{&RejectedError{Repository: repo, Ref: "refs/heads/main", Reason: "failed to update ref"}},
			"pushing refs/heads/main to https://example.com/shop: the remote refused it: failed to update ref", "", nil},
		{&RemoteError{repo, nil}, "https://example.com/shop has no remote", "name the repository, or add it: git remote add origin URL", nil},
	} {
		assert.Equal(t, c.text, c.err.Error())
		var h interface{ Hint() string }
		if c.hint != "" && assert.ErrorAs(t, c.err, &h) {
			assert.Equal(t, c.hint, h.Hint())
		}
		if c.is != nil {
			assert.ErrorIs(t, c.err, c.is)
		}
	}
	assert.NotErrorIs(t, &EmptyError{}, ErrUnknownBranch)
}
