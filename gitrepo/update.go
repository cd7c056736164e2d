package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	// maxAttempts bounds lost races of one Update. Each means that another
	// writer got through, so it is far above any number of writers.
	maxAttempts = 500
	// maxFailures bounds failures of the connection in one Update.
	maxFailures = 5
)

// Update commits an edit to a branch of the remote. It fetches the branch,
// unless it was seen a moment ago, calls edit with its files, commits what edit
// returns, and pushes compare-and-swap; when somebody else was faster, it starts
// again, so that edit is called several times and must decide from its snapshot
// alone. Files are written without a work tree. The result is the new revision, or the
// present one when edit changes nothing: then nothing is pushed.
//
// In a repository without commits the snapshot is empty, with Revision "", and
// the first commit makes the branch. "" is the mirrored branch.
//
// An error of edit is returned as it is. Others: UnknownBranchError, EditError
// and those of Push. ErrConflict only comes when ctx or the attempts are used up.
// A push whose outcome is unknown is never repeated before the history shows
// that it did not happen.
func (r *Repository) Update(ctx context.Context, branch string, edit func(*Snapshot) (Edit, error)) (rev string, err error) {
	if err := r.writable(); err != nil {
		return "", err
	}
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
	case <-ctx.Done():
		return "", fmt.Errorf("waiting to update %s: %w", r.name, ctx.Err())
	}
	u := &updater{r: r, branch: branch, edit: edit}
	defer func() { r.db.pending.drop(u.uncertain...) }()
	for {
		start := time.Now()
		rev, err := u.try(ctx)
		if err == nil || !u.again(err) {
			return rev, err
		}
		if waitErr := wait(ctx, r.backoff(u.lost+u.failed-1, time.Since(start))); waitErr != nil {
			return "", errors.Join(err, waitErr)
		}
	}
}

// updater is one Update.
type updater struct {
	r            *Repository
	branch       string
	edit         func(*Snapshot) (Edit, error)
	tried        bool
	lost, failed int
	uncertain    []plumbing.Hash // commits that may have arrived
}

// again counts a failure and says whether to go on.
func (u *updater) again(err error) bool {
	var transport *TransportError
	switch {
	case errors.Is(err, ErrConflict):
		u.lost++
		return u.lost < maxAttempts
	case errors.As(err, &transport) && (u.failed > 0 || errors.Is(err, ErrUncertain)):
		// Once a push may have happened, finding out is worth some patience.
		u.failed++
		return u.failed < maxFailures
	}
	return false
}

// glimpse is how long the branch is taken to be where it was seen, by Open or by an
// Update before.
const glimpse = 2 * time.Second

func (u *updater) try(ctx context.Context) (string, error) {
	if head := u.r.glimpsed(u.branch, glimpse); !u.tried && !head.IsZero() {
		// Whether the branch is there still, the push finds out. An edit that fails or
		// changes nothing is called again with what the remote has now.
		u.tried = true
		if c, err := u.prepare(head); err == nil && c != nil {
			return u.push(ctx, head, c)
		}
	}
	u.tried = true
	head, err := u.r.fetchBranch(ctx, u.branch)
	if err != nil && !errors.Is(err, ErrEmpty) {
		return "", err
	}
	for _, h := range u.uncertain {
		if head.IsZero() {
			break
		}
		if landed, err := u.r.db.isAncestor(h, head); err != nil || landed {
			return h.String(), err
		}
	}
	c, err := u.prepare(head)
	if err != nil {
		return "", err
	}
	if c == nil {
		return hashText(head), nil
	}
	return u.push(ctx, head, c)
}

// prepare makes the commit upon a head, the first one upon none; nil if it would
// change nothing.
func (u *updater) prepare(head plumbing.Hash) (*pendingCommit, error) {
	var base *commitObject
	var parents []plumbing.Hash
	if !head.IsZero() {
		var err error
		if base, err = u.r.db.commit(head); err != nil {
			return nil, err
		}
		parents = []plumbing.Hash{head}
	}
	e, err := u.edit(u.r.snapshot(base))
	if err != nil || e.Empty() {
		return nil, err
	}
	c, err := makeCommit(u.r.db, parents, base, e, u.r.who, u.r.now())
	if err != nil {
		return nil, err
	}
	if base != nil && c.tree == base.tree || base == nil && c.tree == emptyTree {
		return nil, nil
	}
	return c, nil
}

func (u *updater) push(ctx context.Context, head plumbing.Hash, c *pendingCommit) (string, error) {
	u.r.db.pending.put(c)
	err := u.r.Push(ctx, []RefUpdate{{Name: "refs/heads/" + u.branchName(), Old: hashText(head), New: c.hash.String()}})
	switch {
	case err == nil:
		return c.hash.String(), nil
	case errors.Is(err, ErrUncertain):
		u.uncertain = append(u.uncertain, c.hash)
	default:
		u.r.db.pending.drop(c.hash)
	}
	return "", err
}

func (u *updater) branchName() string {
	if u.branch != "" {
		return u.branch
	}
	return u.r.branchName()
}

// backoff spreads writers who lost a race: at random, since they all lost at
// the same moment, over a time that doubles with each loss. It is measured in
// what an attempt takes, so that a slow remote is not flooded and a fast one
// not waited for.
func backoff(attempt int, took time.Duration) time.Duration {
	unit := min(max(took, 10*time.Millisecond), time.Second)
	return time.Duration(rand.Int64N(int64(unit << min(max(attempt, 0), 5))))
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
