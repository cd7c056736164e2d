package gitrepo

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// Edit is a change of files. Paths are repository paths: slash-separated, from
// the root of the repository even where the snapshot was a Sub of it.
type Edit struct {
	// Message of the commit; its first line is the subject. It must not be
	// empty when there is something to commit.
	Message string
	// Write gives the whole new content of files. An existing file keeps its
	// mode; a new one is not executable. A folder, symbolic link or submodule
	// is not replaced.
	Write map[string][]byte
	// Delete names files, or folders with all they hold. What does not exist
	// is already deleted. Deletions come before writes, so that a folder can be
	// replaced by a file and the other way round.
	Delete []string
}

// Empty says whether there is nothing to commit.
func (e Edit) Empty() bool { return len(e.Write) == 0 && len(e.Delete) == 0 }

// change is an Edit as a tree of names.
type change struct {
	children map[string]*change
	remove   bool
	write    bool
	data     []byte
}

func (c *change) child(name string) *change {
	if c.children == nil {
		c.children = map[string]*change{}
	}
	if c.children[name] == nil {
		c.children[name] = &change{}
	}
	return c.children[name]
}

func (c *change) at(path string) *change {
	for _, name := range strings.Split(path, "/") {
		c = c.child(name)
	}
	return c
}

// newChange checks the paths of an Edit against each other.
func newChange(e Edit) (*change, error) {
	root := &change{}
	for _, p := range e.Delete {
		// A name that cannot be written may exist and need deleting, but a path
		// that is not even one is a mistake.
		if reason := checkPath(p); reason != "" && !strings.HasPrefix(reason, "submodules") {
			return nil, &EditError{p, reason}
		}
		root.at(p).remove = true
	}
	// Sorted, so that of several mistakes the same one is reported each time.
	for _, p := range slices.Sorted(maps.Keys(e.Write)) {
		if reason := checkPath(p); reason != "" {
			return nil, &EditError{p, reason}
		}
		if len(e.Write[p]) > MaxFileBytes {
			return nil, &EditError{p, fmt.Sprintf("the file is larger than %d MiB", MaxFileBytes>>20)}
		}
		node := root.at(p)
		if node.remove {
			return nil, &EditError{p, "the edit both writes and deletes it"}
		}
		node.write, node.data = true, e.Write[p]
	}
	return root, nil
}

// treeEditor applies a change to a tree from the leaves up. Folders that the
// change does not name are not read.
type treeEditor struct {
	db  *database
	out *pendingCommit // collects the new objects
}

// folder returns the folder's new entry hash, and whether it is now empty.
// path is the folder's, for errors.
func (te *treeEditor) folder(h plumbing.Hash, c *change, path string) (plumbing.Hash, bool, error) {
	old, err := te.db.tree(h)
	if err != nil {
		return h, false, err
	}
	entries := make(map[string]treeEntry, len(old))
	for _, e := range old {
		entries[e.name] = e
	}
	changed := false
	for _, name := range slices.Sorted(maps.Keys(c.children)) {
		was, existed := entries[name]
		now, exists, err := te.entry(was, existed, c.children[name], join(path, name))
		if err != nil {
			return h, false, err
		}
		if existed == exists && was == now {
			continue
		}
		changed = true
		if exists {
			entries[name] = now
		} else {
			delete(entries, name)
		}
	}
	if !changed {
		return h, len(old) == 0, nil
	}
	if len(entries) == 0 {
		return emptyTree, true, nil
	}
	t := make(tree, 0, len(entries))
	for name, e := range entries {
		e.name = name
		t = append(t, e)
	}
	sort.Slice(t, func(i, j int) bool { return t[i].name < t[j].name })
	return te.out.add(plumbing.TreeObject, t.encode()), false, nil
}

// entry applies a change to one entry of a folder.
func (te *treeEditor) entry(e treeEntry, exists bool, c *change, path string) (treeEntry, bool, error) {
	if c.remove {
		e, exists = treeEntry{}, false
	}
	if len(c.children) > 0 {
		var err error
		if e, exists, err = te.inside(e, exists, c, path); err != nil {
			return e, exists, err
		}
	}
	if !c.write {
		return e, exists, nil
	}
	mode := filemode.Regular
	switch {
	case !exists:
	case e.isDir():
		return e, exists, &EditError{path, "it is a folder"}
	case e.mode == filemode.Symlink:
		return e, exists, &EditError{path, "it is a symbolic link; delete it first"}
	case !e.isFile():
		return e, exists, &EditError{path, "it is a submodule"}
	case e.mode&0o100 != 0:
		mode = filemode.Executable
	}
	h := plumbing.ComputeHash(plumbing.BlobObject, c.data)
	if !exists || h != e.hash {
		// Also when some other file has the same content: whether the remote
		// still stores that one is not known.
		te.out.add(plumbing.BlobObject, slices.Clone(c.data))
	}
	return treeEntry{name: e.name, mode: mode, hash: h}, true, nil
}

// inside applies the part of a change that lies below an entry.
func (te *treeEditor) inside(e treeEntry, exists bool, c *change, path string) (treeEntry, bool, error) {
	if exists && !e.isDir() {
		if below := c.firstWrite(); below != "" {
			what := "a file"
			if e.mode == filemode.Symlink {
				what = "a symbolic link"
			} else if !e.isFile() {
				what = "a submodule"
			}
			return e, exists, &EditError{join(path, below), fmt.Sprintf("%s is %s", path, what)}
		}
		return e, exists, nil // nothing is below it to delete
	}
	h := emptyTree
	if exists {
		h = e.hash
	}
	h, empty, err := te.folder(h, c, path)
	if err != nil || empty {
		// git has no empty folders.
		return treeEntry{name: e.name}, false, err
	}
	return treeEntry{name: e.name, mode: filemode.Dir, hash: h}, true, nil
}

// firstWrite returns the first path below c that is written, "" when none is.
func (c *change) firstWrite() string {
	for _, name := range slices.Sorted(maps.Keys(c.children)) {
		if c.children[name].write {
			return name
		}
		if below := c.children[name].firstWrite(); below != "" {
			return join(name, below)
		}
	}
	return ""
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
