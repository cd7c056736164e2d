package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// treeEntry is a file, folder, symbolic link or submodule in a folder.
type treeEntry struct {
	name string
	mode filemode.FileMode
	hash plumbing.Hash
}

func (e treeEntry) isDir() bool { return e.mode == filemode.Dir }

// isFile is true for what has content of its own: no link, no submodule.
func (e treeEntry) isFile() bool { return e.mode&0o170000 == filemode.Regular&0o170000 }

// fsMode is the mode as io/fs has it. Permissions are git's only two.
func (e treeEntry) fsMode() fs.FileMode {
	switch {
	case e.isDir():
		return fs.ModeDir | 0o755
	case e.mode == filemode.Symlink:
		return fs.ModeSymlink | 0o777
	case !e.isFile():
		return fs.ModeIrregular
	case e.mode&0o111 != 0:
		return 0o755
	}
	return 0o644
}

// tree is a folder, sorted by name (not in git's order, which puts a folder
// where its name with a slash belongs).
type tree []treeEntry

func (t tree) find(name string) (treeEntry, bool) {
	i, ok := slices.BinarySearchFunc(t, name, func(e treeEntry, n string) int { return strings.Compare(e.name, n) })
	if !ok {
		return treeEntry{}, false
	}
	return t[i], true
}

// decodeTree reads a tree object. It refuses names that git itself refuses to
// check out, so that no path of a snapshot can leave its folder.
func decodeTree(data []byte) (tree, error) {
	text := string(data) // names are parts of it: one allocation for all
	t := make(tree, 0, len(text)/40)
	for len(text) > 0 {
		blank := strings.IndexByte(text, ' ')
		end := strings.IndexByte(text, 0)
		if blank < 0 || end < blank || len(text) < end+1+20 {
			return nil, errors.New("the tree is malformed")
		}
		mode, err := filemode.New(text[:blank])
		if err != nil {
			return nil, errors.New("the tree has a malformed mode")
		}
		e := treeEntry{name: text[blank+1 : end], mode: mode}
		copy(e.hash[:], text[end+1:])
		text = text[end+1+20:]
		if reason := badName(e.name); reason != "" {
			return nil, fmt.Errorf("the tree has an entry %q, which %s", printable(e.name, 100), reason)
		}
		t = append(t, e)
	}
	sort.Slice(t, func(i, j int) bool { return t[i].name < t[j].name })
	for i := 1; i < len(t); i++ {
		if t[i].name == t[i-1].name {
			return nil, fmt.Errorf("the tree has two entries %q", printable(t[i].name, 100))
		}
	}
	return t, nil
}

// encode writes the tree object in git's order.
func (t tree) encode() []byte {
	entries := make([]object.TreeEntry, len(t))
	for i, e := range t {
		entries[i] = object.TreeEntry{Name: e.name, Mode: e.mode, Hash: e.hash}
	}
	sort.Sort(object.TreeEntrySorter(entries))
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%o %s\x00", uint32(e.Mode), e.Name)
		b.Write(e.Hash[:])
	}
	return b.Bytes()
}
