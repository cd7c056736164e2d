package gitrepo

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/sluice-dev/sluice/gitrepo/signature"
)

// maxVerified bounds how many commits VerifySince looks at: more than that is
// nobody's push, and the way out is to verify the newest commit alone.
const maxVerified = 10_000

// SignatureError says that a commit is not signed as it must be.
type SignatureError struct {
	Commit Commit
	Err    error // a *signature.Error
}

// Error names the commit and says what is wrong with its signature.
func (e *SignatureError) Error() string {
	return fmt.Sprintf("commit %s (%s) is not accepted: %v", short(e.Commit.Hash), printable(e.Commit.Subject(), 60), e.Err)
}

// Unwrap gives the reason.
func (e *SignatureError) Unwrap() error { return e.Err }

// Hint says how to go on.
func (e *SignatureError) Hint() string {
	switch {
	case errors.Is(e.Err, signature.ErrUnsigned):
		return "sign commits (git commit -S, or let the forge sign merges); where only the newest commit counts, a signed one on top of it is enough"
	case errors.Is(e.Err, signature.ErrUnknownKey):
		return "if the key is to be trusted, add its public key to those given by --verify-key; otherwise find out who pushed"
	case errors.Is(e.Err, signature.ErrKeyEnded):
		return "sign with a key that is valid; a key that was prolonged has to be exported again and given by --verify-key"
	case errors.Is(e.Err, signature.ErrUnsupported):
		return "sign with an OpenPGP key (gpg) or an SSH key (ssh-keygen), and SHA-256 or longer"
	}
	return "the commit was damaged or forged: find out who pushed it"
}

// VerifyCommit finds out which of the keys signed a commit; the error is a
// *SignatureError where none has.
func (r *Repository) VerifyCommit(rev string, keys *signature.Keys, now time.Time) (signature.Signer, error) {
	c, err := r.resolve(rev)
	if err != nil {
		return signature.Signer{}, err
	}
	return r.db.verify(c.hash, keys, now)
}

func (db *database) verify(h plumbing.Hash, keys *signature.Keys, now time.Time) (signature.Signer, error) {
	data, err := db.needed(plumbing.CommitObject, h, maxCommitBytes)
	if err != nil {
		return signature.Signer{}, err
	}
	c, err := decodeCommit(h, data)
	if err != nil {
		return signature.Signer{}, err
	}
	signer, err := keys.Verify(data, now)
	if err == nil {
		err = sameCommit(c, data)
	}
	if err != nil {
		return signature.Signer{}, &SignatureError{c.Commit, err}
	}
	return signer, nil
}

// sameCommit makes sure that what was signed reads as what is used: nothing that
// the rest of this package takes from a commit may come from outside of the
// signed bytes.
func sameCommit(c *commitObject, data []byte) error {
	payload, _, err := signature.Split(data)
	if err != nil {
		return err
	}
	signed, err := decodeCommit(c.hash, payload)
	if err != nil || signed.tree != c.tree || !slices.Equal(signed.parents, c.parents) || signed.Message != c.Message {
		return &signature.Error{Reason: signature.ErrInvalid, Detail: "it reads otherwise without the signature"}
	}
	return nil
}

// VerifySince verifies every commit that to builds on and from does not, to
// included, those of merged branches too. It fails with the *SignatureError of the
// newest that is not accepted. A from that to does not build on is a
// *RewrittenError.
func (r *Repository) VerifySince(from, to string, keys *signature.Keys, now time.Time) error {
	since, until, err := r.builtOn(from, to)
	if err != nil {
		return err
	}
	paint, _, err := r.db.paint(since, until)
	if err != nil {
		return err
	}
	var commits []plumbing.Hash
	for h, colours := range paint {
		if colours&(paintA|paintB) == paintB {
			commits = append(commits, h)
		}
	}
	if len(commits) > maxVerified {
		return fmt.Errorf("%d commits lie between %s and %s, of which at most %d are verified", len(commits), short(from), short(to), maxVerified)
	}
	var worst *SignatureError
	for _, h := range commits {
		_, err := r.db.verify(h, keys, now)
		var refused *SignatureError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		if refused != nil && (worst == nil || refused.newer(worst)) {
			worst = refused
		}
	}
	if worst != nil {
		return worst
	}
	return nil
}

// newer orders errors, so that the same one is told with every look.
func (e *SignatureError) newer(than *SignatureError) bool {
	if !e.Commit.Time.Equal(than.Commit.Time) {
		return e.Commit.Time.After(than.Commit.Time)
	}
	return e.Commit.Hash < than.Commit.Hash
}

// RewrittenError says that a branch does not build on what it was any more.
type RewrittenError struct{ From, To string }

// Error names both commits.
func (e *RewrittenError) Error() string {
	return fmt.Sprintf("commit %s does not build on %s: the branch was rewritten", short(e.To), short(e.From))
}

// Hint says how to go on.
func (e *RewrittenError) Hint() string {
	return "a history that was rewritten may bring back an old signed commit: push a commit on top of " + short(e.From) + ", or, if the rewriting was meant, start the controller with --verified-from " + short(e.To)
}

// VerifyBuildsOn fails with a *RewrittenError where to does not build on from.
func (r *Repository) VerifyBuildsOn(from, to string) error {
	_, _, err := r.builtOn(from, to)
	return err
}

func (r *Repository) builtOn(from, to string) (since, until *commitObject, err error) {
	if since, err = r.resolve(from); err != nil {
		return nil, nil, err
	}
	if until, err = r.resolve(to); err != nil {
		return nil, nil, err
	}
	builds, err := r.db.isAncestor(since.hash, until.hash)
	if err == nil && !builds {
		err = &RewrittenError{since.Hash, until.Hash}
	}
	return since, until, err
}
