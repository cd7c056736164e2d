package gitrepo

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// Diff calls visit for every path whose content, type or mode is another in s
// than in before: files and folders, also those that only one of the two has,
// each folder before what it holds, siblings in order of their names. The
// inside of a folder is looked at only when visit returns true for it; what is
// a file on one side and a folder on the other is gone through as a folder.
//
// Folders are compared by their hashes, so the cost is that of the folders that
// differ, whatever the size of the repository. No file is read. The two need
// have no history in common. errors.ErrUnsupported when before is no Snapshot;
// a CorruptError when a folder cannot be read: what was visited until then is
// not all that differs.
func (s *Snapshot) Diff(before fs.FS, visit func(path string) (within bool)) error {
	b, ok := before.(*Snapshot)
	if !ok {
		return fmt.Errorf("comparing commit %s with files that are no commit: %w", short(s.commit.Hash), errors.ErrUnsupported)
	}
	if b.root == s.root || !visit(".") {
		return nil
	}
	c := &comparison{before: b.db, after: s.db, visit: func(p string, _, _ treeEntry) bool { return visit(p) }}
	return c.folder("", b.root, s.root)
}

// comparison is one walk over two trees.
type comparison struct {
	before, after *database
	// visit is given a path whose entries differ (the zero one is that of no
	// entry), and says whether to go into it.
	visit func(path string, before, after treeEntry) bool
}

// folder compares the entries of two folders; "" is the root.
func (c *comparison) folder(dir string, before, after plumbing.Hash) error {
	if before == after {
		return nil
	}
	old, err := c.before.tree(before)
	if err != nil {
		return pathError("diff", cmp.Or(dir, "."), err)
	}
	now, err := c.after.tree(after)
	if err != nil {
		return pathError("diff", cmp.Or(dir, "."), err)
	}
	for len(old) > 0 || len(now) > 0 {
		var o, n treeEntry
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = strings.Compare(old[0].name, now[0].name)
		}
		if order <= 0 {
			o, old = old[0], old[1:]
		}
		if order >= 0 {
			n, now = now[0], now[1:]
		}
		if o == n {
			continue
		}
		name := n.name
		if order < 0 {
			name = o.name
		}
		if err := c.entry(join(dir, name), o, n); err != nil {
			return err
		}
	}
	return nil
}

// entry visits a path whose entries differ.
func (c *comparison) entry(name string, old, now treeEntry) error {
	from, to := emptyTree, emptyTree
	if old.isDir() {
		from = old.hash
	}
	if now.isDir() {
		to = now.hash
	}
	if !c.visit(name, old, now) {
		return nil
	}
	return c.folder(name, from, to)
}
