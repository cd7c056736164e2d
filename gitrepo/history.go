package gitrepo

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"

	"github.com/go-git/go-git/v5/plumbing"
)

// History returns the commits that changed any of the paths (files or folders;
// "." is everything), newest first, going back from rev by first parents: a
// merge counts as one change of the branch it was merged into. Without paths
// every commit counts. limit bounds the result; 0 is no limit. No file is read.
func (r *Repository) History(ctx context.Context, rev string, paths []string, limit int) ([]Commit, error) {
	var found []Commit
	err := r.Walk(ctx, rev, paths, func(c Commit, changed []string) bool {
		if len(paths) == 0 || len(changed) > 0 {
			found = append(found, c)
		}
		return limit <= 0 || len(found) < limit
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Walk goes back from rev by first parents, newest first, and gives visit every commit
// with those of the paths (as for History) that it changed; the first commit changes
// all that it has. It ends there, or when visit returns false. A commit costs
// itself and the folders that it changed on the way to the paths; no file is read.
// Where a shallow clone ends, the commit counts as the first one, as it does for git,
// and the error is a ShallowError.
func (r *Repository) Walk(ctx context.Context, rev string, paths []string, visit func(c Commit, changed []string) (more bool)) error {
	wanted, above := map[string]bool{}, map[string]bool{}
	for _, p := range paths {
		if !fs.ValidPath(p) {
			return pathError("history", p, fs.ErrInvalid)
		}
		wanted[p] = true
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			above[dir] = true
		}
	}
	c, err := r.resolve(rev)
	if err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("reading the history of %s: %w", r.name, ctx.Err())
		}
		parent, err := r.parent(c)
		var shallow *ShallowError
		if err != nil && !errors.As(err, &shallow) {
			return err
		}
		before := emptyTree
		if parent != nil {
			before = parent.tree
		}
		var changed []string
		if wanted["."] && before != c.tree {
			changed = append(changed, ".")
		}
		compare := &comparison{before: r.db, after: r.db, visit: func(p string, _, _ treeEntry) bool {
			if wanted[p] {
				changed = append(changed, p)
			}
			return above[p]
		}}
		if len(paths) > 0 {
			if err := compare.folder("", before, c.tree); err != nil {
				return fmt.Errorf("reading the history of %s: %w", r.name, err)
			}
		}
		if !visit(c.Commit, changed) {
			return nil
		}
		if parent == nil {
			return err
		}
		c = parent
	}
}

// parent is the first parent of a commit; nil when it has none, or with a ShallowError
// when a shallow clone lacks it.
func (r *Repository) parent(c *commitObject) (*commitObject, error) {
	if len(c.parents) == 0 {
		return nil, nil
	}
	parent, err := r.db.commit(c.parents[0])
	if err != nil && r.local != nil && r.local.cutOff(c.hash) {
		return nil, &ShallowError{Repository: r.name, Last: c.Hash}
	}
	return parent, err
}

// Changed returns the repository paths of all files, symbolic links and
// submodules that differ between two revisions, sorted; "" stands for an empty
// repository. Folders with equal hashes are not read, and files never.
func (r *Repository) Changed(from, to string) ([]string, error) {
	trees := [2]plumbing.Hash{emptyTree, emptyTree}
	for i, rev := range []string{from, to} {
		if rev == "" {
			continue
		}
		c, err := r.resolve(rev)
		if err != nil {
			return nil, err
		}
		trees[i] = c.tree
	}
	var paths []string
	c := &comparison{before: r.db, after: r.db, visit: func(p string, old, now treeEntry) bool {
		if old.name != "" && !old.isDir() || now.name != "" && !now.isDir() {
			paths = append(paths, p)
		}
		return true
	}}
	if err := c.folder("", trees[0], trees[1]); err != nil {
		return nil, err
	}
	sort.Strings(paths)
	return paths, nil
}

// MergeBase returns the newest common ancestor of two revisions, "" when they
// have none.
func (r *Repository) MergeBase(a, b string) (string, error) {
	bases, err := r.MergeBases(a, b)
	if err != nil || len(bases) == 0 {
		return "", err
	}
	return bases[0], nil
}

// MergeBases returns the common ancestors of two revisions that no other common
// ancestor builds on, newest first. Where there are several, a merge by Git takes
// neither of them for its base but what they would be merged to, and changes are not
// told by comparing with one.
func (r *Repository) MergeBases(a, b string) ([]string, error) {
	ca, err := r.resolve(a)
	if err != nil {
		return nil, err
	}
	cb, err := r.resolve(b)
	if err != nil {
		return nil, err
	}
	bases, err := r.db.mergeBases(ca, cb)
	if err != nil {
		return nil, err
	}
	hashes := make([]string, len(bases))
	for i, base := range bases {
		hashes[i] = base.Hash
	}
	return hashes, nil
}

// IsAncestor says whether revision b builds on revision a; a commit builds on itself.
func (r *Repository) IsAncestor(a, b string) (bool, error) {
	ca, err := r.resolve(a)
	if err != nil {
		return false, err
	}
	cb, err := r.resolve(b)
	if err != nil {
		return false, err
	}
	return r.db.isAncestor(ca.hash, cb.hash)
}

// Root is the commit that the first parents of a revision lead back to, where its
// history began. It is the same whatever URL the repository is reached by, and other
// repositories have another one, unless they are copies. It walks all of the history.
func (r *Repository) Root(ctx context.Context, rev string) (string, error) {
	c, err := r.resolve(rev)
	if err != nil {
		return "", err
	}
	for len(c.parents) > 0 {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if c, err = r.db.commit(c.parents[0]); err != nil {
			return "", fmt.Errorf("looking for the first commit of %s: %w", r.name, err)
		}
	}
	return c.hash.String(), nil
}

func (db *database) isAncestor(a, b plumbing.Hash) (bool, error) {
	if a == b {
		return true, nil
	}
	ca, err := db.commit(a)
	if err != nil {
		return false, err
	}
	cb, err := db.commit(b)
	if err != nil {
		return false, err
	}
	paint, _, err := db.paint(ca, cb)
	return paint[a]&paintB != 0, err
}

const (
	paintA     = 1 << iota // reachable from a
	paintB                 // reachable from b
	paintStale             // below a common ancestor that was found
	paintFound
)

// mergeBases finds the common ancestors that no other common ancestor builds
// on, newest first.
func (db *database) mergeBases(a, b *commitObject) ([]*commitObject, error) {
	_, found, err := db.paint(a, b)
	if err != nil {
		return nil, err
	}
	var best []*commitObject
	for i, c := range found {
		below := false
		for j, other := range found {
			if i != j && !below {
				if below, err = db.isAncestor(c.hash, other.hash); err != nil {
					return nil, err
				}
			}
		}
		if !below {
			best = append(best, c)
		}
	}
	sort.Slice(best, func(i, j int) bool {
		if !best[i].Time.Equal(best[j].Time) {
			return best[i].Time.After(best[j].Time)
		}
		return best[i].Hash < best[j].Hash
	})
	return best, nil
}

// paint walks down from two commits to where their histories meet, as git does
// (paint_down_to_common):
//  1. Walk from both at once, newest first, painting every parent with the
//     colours of its child.
//  2. A commit with both colours is found; what is below it is painted stale.
//  3. Stop when only stale commits are left to visit, so that recent commits
//     cost a short walk however long the history is.
//
// Whether a lies below b is exact. What is found may hold, after wrong clocks,
// commits that lie below others of it.
func (db *database) paint(a, b *commitObject) (map[plumbing.Hash]int, []*commitObject, error) {
	paint := map[plumbing.Hash]int{a.hash: paintA}
	paint[b.hash] |= paintB
	queue := &commitQueue{a}
	if a.hash != b.hash {
		*queue = append(*queue, b)
	}
	heap.Init(queue)
	var found []*commitObject
	for queue.live(paint) {
		c := heap.Pop(queue).(*commitObject)
		colours := paint[c.hash] & (paintA | paintB | paintStale)
		if colours == paintA|paintB {
			if paint[c.hash]&paintFound == 0 {
				paint[c.hash] |= paintFound
				found = append(found, c)
			}
			colours |= paintStale
		}
		for _, h := range c.parents {
			if paint[h]&colours == colours {
				continue
			}
			p, err := db.commit(h)
			if err != nil {
				return nil, nil, err
			}
			paint[h] |= colours
			heap.Push(queue, p)
		}
	}
	found = slices.DeleteFunc(found, func(c *commitObject) bool { return paint[c.hash]&paintStale != 0 })
	return paint, found, nil
}

// commitQueue is a heap of commits, newest first.
type commitQueue []*commitObject

func (q commitQueue) Len() int           { return len(q) }
func (q commitQueue) Less(i, j int) bool { return q[i].Time.After(q[j].Time) }
func (q commitQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *commitQueue) Push(x any)        { *q = append(*q, x.(*commitObject)) }
func (q *commitQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (q commitQueue) live(paint map[plumbing.Hash]int) bool {
	for _, c := range q {
		if paint[c.hash]&paintStale == 0 {
			return true
		}
	}
	return false
}
