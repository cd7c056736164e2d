package promotion

import (
	"errors"
	"slices"

	"github.com/sluice-dev/sluice/gitrepo"
)

// maxWalk bounds how many commits of the target are looked through for one in
// which a pull request landed by other means.
const maxWalk = 1000

// Landed returns the first revision of a target branch that holds what head
// changes, "" when none does: what a forge adapter needs to see a merge by plain
// Git that its forge has not noticed. Such a merge keeps the head's commits, a
// squash or a rebase only its content, so content decides. A head that the
// repository does not know has not landed.
func Landed(repo *gitrepo.Repository, target, head string) (string, error) {
	snapshot, err := repo.Snapshot(head)
	if errors.Is(err, gitrepo.ErrUnknownRevision) {
		return "", nil // the branch is gone and its commits with it
	}
	if err != nil {
		return "", err
	}
	reachable, base, err := mergedFrom(repo, target, snapshot)
	if err != nil || base == "" { // histories with nothing in common
		return "", err
	}
	paths, err := repo.Changed(base, head)
	if err != nil {
		return "", err
	}
	revision := ""
	if len(paths) > 0 {
		if revision, err = firstWith(repo, target, base, snapshot, paths); err != nil {
			return "", err
		}
	}
	if revision == "" && reachable {
		revision = head
	}
	return revision, nil
}

// mergedFrom returns the commit that a head's changes are counted from, and
// whether the target has the head itself.
func mergedFrom(repo *gitrepo.Repository, target string, head *gitrepo.Snapshot) (reachable bool, base string, err error) {
	reachable, err = repo.IsAncestor(head.Revision(), target)
	if err != nil {
		return false, "", err
	}
	if parents := head.Commit().Parents; reachable && len(parents) > 0 {
		return true, parents[0], nil
	}
	base, err = repo.MergeBase(target, head.Revision())
	return reachable, base, err
}

// firstWith follows the first parents of the target back to base and returns
// the oldest commit of the newest run that holds the head's content.
func firstWith(repo *gitrepo.Repository, target, base string, head *gitrepo.Snapshot, paths []string) (string, error) {
	start, err := repo.Snapshot(base)
	if err != nil {
		return "", err
	}
	found, at := "", target
	for range maxWalk {
		s, err := repo.Snapshot(at)
		if err != nil {
			return "", err
		}
		// The state before the pull request was made is none of its doing.
		if at == base || s.Commit().Time.Before(start.Commit().Time) {
			break
		}
		if !slices.ContainsFunc(paths, func(path string) bool { return !same(s, head, path) }) {
			found = at
		} else if found != "" {
			break
		}
		parents := s.Commit().Parents
		if len(parents) == 0 {
			break
		}
		at = parents[0]
	}
	return found, nil
}

// same compares a file of two snapshots by hash.
func same(a, b *gitrepo.Snapshot, path string) bool {
	x, _ := a.Hash(path)
	y, _ := b.Hash(path)
	return x == y
}

// Changes is what a pull request would bring to its target, file by file.
type Changes struct {
	// Take are the files that only the head has changed, or deleted.
	Take []string
	// Conflicts are those that both sides changed to different content. A forge
	// that merges line by line may still find a way.
	Conflicts []string
}

// Compare holds the changes of a head, since it left the target, against those
// of the target. ok is false when their histories have nothing in common.
func Compare(repo *gitrepo.Repository, target, head string) (c Changes, ok bool, err error) {
	base, err := repo.MergeBase(target, head)
	if err != nil || base == "" {
		return c, false, err
	}
	snapshots := [3]*gitrepo.Snapshot{}
	for i, revision := range []string{base, target, head} {
		if snapshots[i], err = repo.Snapshot(revision); err != nil {
			return c, false, err
		}
	}
	before, ours, theirs := snapshots[0], snapshots[1], snapshots[2]
	paths, err := repo.Changed(base, head)
	if err != nil {
		return c, false, err
	}
	for _, path := range paths {
		switch {
		case same(ours, theirs, path):
		case !same(before, ours, path):
			c.Conflicts = append(c.Conflicts, path)
		default:
			c.Take = append(c.Take, path)
		}
	}
	return c, true, nil
}
