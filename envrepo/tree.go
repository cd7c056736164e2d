package envrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"time"
)

// Tree is an editable layer over a read-only file system rooted at the project
// folder. It implements fs.FS, so Open works on it and sees what was written.
// As in Git, a folder exists as long as a file in it does. Not safe for
// concurrent use.
type Tree struct {
	base    fs.FS
	written map[string][]byte
	removed map[string]bool // files of base; never folders
	// folders counts the written files below each folder.
	folders map[string]int
}

var (
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.ReadFileFS = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
	_ fs.ReadLinkFS = (*Tree)(nil)
)

// NewTree returns a tree without edits over base.
func NewTree(base fs.FS) *Tree {
	return &Tree{base: base, written: map[string][]byte{}, removed: map[string]bool{}, folders: map[string]int{}}
}

// WriteFile creates or replaces a file. Writing what base holds is no edit.
func (t *Tree) WriteFile(name string, data []byte) error {
	if !fs.ValidPath(name) || name == "." {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		info, err := t.Lstat(dir)
		if err == nil && !info.IsDir() {
			return &fs.PathError{Op: "write", Path: name, Err: fmt.Errorf("%s is not a folder", dir)}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	info, err := t.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "write", Path: name, Err: errors.New("is not a regular file")}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.forget(name)
	if info, err := fs.Lstat(t.base, name); err == nil && info.Mode().IsRegular() {
		if old, err := fs.ReadFile(t.base, name); err == nil && bytes.Equal(old, data) {
			return nil
		}
	}
	t.written[name] = bytes.Clone(data)
	if t.written[name] == nil {
		t.written[name] = []byte{}
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		t.folders[dir]++
		if dir == "." {
			return nil
		}
	}
}

// forget drops what was edited about a file.
func (t *Tree) forget(name string) {
	delete(t.removed, name)
	if _, ok := t.written[name]; !ok {
		return
	}
	delete(t.written, name)
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if t.folders[dir]--; t.folders[dir] == 0 {
			delete(t.folders, dir)
		}
		if dir == "." {
			return
		}
	}
}

// Remove removes a file, or a folder with all files below it. What does not
// exist is fs.ErrNotExist.
func (t *Tree) Remove(name string) error {
	info, err := t.Lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := t.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := t.Remove(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	t.forget(name)
	if _, err := fs.Lstat(t.base, name); err == nil {
		t.removed[name] = true
	}
	return nil
}

// Writes returns the files whose content differs from base, by path.
func (t *Tree) Writes() map[string][]byte {
	writes := make(map[string][]byte, len(t.written))
	for name, data := range t.written {
		writes[name] = bytes.Clone(data)
	}
	return writes
}

// Deletes returns the files of base that were removed, sorted.
func (t *Tree) Deletes() []string {
	var deletes []string
	for name := range t.removed {
		deletes = append(deletes, name)
	}
	sort.Strings(deletes)
	return deletes
}

// Empty reports whether there is nothing to commit.
func (t *Tree) Empty() bool { return len(t.written) == 0 && len(t.removed) == 0 }

// apply takes over the edits of a tree whose base is t.
func (t *Tree) apply(edits *Tree) error {
	for _, name := range edits.Deletes() {
		if err := t.Remove(name); err != nil {
			return err
		}
	}
	for name, data := range edits.written {
		if err := t.WriteFile(name, data); err != nil {
			return err
		}
	}
	return nil
}

// Open implements fs.FS.
func (t *Tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if data, ok := t.written[name]; ok {
		return &treeFile{info: treeInfo{name: path.Base(name), size: int64(len(data))}, Reader: bytes.NewReader(data)}, nil
	}
	info, err := t.stat("open", name, fs.Stat)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return &treeDir{tree: t, name: name, info: info}, nil
	}
	return t.base.Open(name)
}

// Stat implements fs.StatFS.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, fs.Stat) }

// Lstat implements fs.ReadLinkFS: Stat without following a symbolic link.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, fs.Lstat) }

func (t *Tree) stat(op, name string, base func(fs.FS, string) (fs.FileInfo, error)) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if data, ok := t.written[name]; ok {
		return treeInfo{name: path.Base(name), size: int64(len(data))}, nil
	}
	missing := &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := t.written[dir]; ok {
			return nil, missing // a file took the folder's place
		}
	}
	if t.removed[name] && t.folders[name] == 0 {
		return nil, missing
	}
	info, err := base(t.base, name)
	if t.folders[name] > 0 && (err != nil || !info.IsDir()) {
		return treeInfo{name: path.Base(name), mode: fs.ModeDir | 0o555}, nil
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() && name != "." && t.emptied(name) {
		return nil, missing
	}
	return info, nil
}

// emptied reports whether removals have left nothing of a folder of base.
func (t *Tree) emptied(dir string) bool {
	if t.folders[dir] > 0 {
		return false
	}
	touched := false
	for name := range t.removed {
		if strings.HasPrefix(name, dir+"/") {
			touched = true
			break
		}
	}
	if !touched {
		return false
	}
	entries, err := fs.ReadDir(t.base, dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() && !t.emptied(name) || !e.IsDir() && !t.removed[name] {
			return false
		}
	}
	return true
}

// ReadFile implements fs.ReadFileFS.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	if data, ok := t.written[name]; ok {
		return bytes.Clone(data), nil
	}
	info, err := t.stat("open", name, fs.Stat)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a folder")}
	}
	return fs.ReadFile(t.base, name)
}

// ReadLink implements fs.ReadLinkFS.
func (t *Tree) ReadLink(name string) (string, error) {
	info, err := t.Lstat(name)
	if err != nil {
		return "", err
	}
	links, ok := t.base.(fs.ReadLinkFS)
	if !ok || info.Mode()&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return links.ReadLink(name)
}

// ReadDir implements fs.ReadDirFS: what is left of base, and what was written,
// sorted by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	info, err := t.stat("readdir", name, fs.Stat)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("is not a folder")}
	}
	var entries []fs.DirEntry
	below, err := fs.ReadDir(t.base, name)
	if err != nil && t.folders[name] == 0 {
		return nil, err
	}
	prefix := name + "/"
	if name == "." {
		prefix = ""
	}
	for _, e := range below {
		full := prefix + e.Name()
		_, written := t.written[full]
		switch {
		case written || t.folders[full] > 0:
			continue // added below
		case t.removed[full] || e.IsDir() && t.emptied(full):
			continue
		}
		entries = append(entries, e)
	}
	for child := range t.children(prefix) {
		info, err := t.Lstat(prefix + child)
		if err != nil {
			return nil, err
		}
		entries = append(entries, fs.FileInfoToDirEntry(info))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// children are the names directly below a folder that were written or that
// hold something written.
func (t *Tree) children(prefix string) map[string]bool {
	names := map[string]bool{}
	for name := range t.written {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			child, _, _ := strings.Cut(rest, "/")
			names[child] = true
		}
	}
	return names
}

// treeInfo describes what a tree holds itself.
type treeInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i treeInfo) Name() string { return i.name }
func (i treeInfo) Size() int64  { return i.size }
func (i treeInfo) Mode() fs.FileMode {
	if i.mode == 0 {
		return 0o444
	}
	return i.mode
}
func (i treeInfo) ModTime() time.Time { return time.Time{} }
func (i treeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i treeInfo) Sys() any           { return nil }

type treeFile struct {
	*bytes.Reader

	info treeInfo
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *treeFile) Close() error               { return nil }

type treeDir struct {
	tree    *Tree
	name    string
	info    fs.FileInfo
	entries []fs.DirEntry
	read    bool
}

func (d *treeDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *treeDir) Close() error               { return nil }
func (d *treeDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a folder")}
}

// ReadDir implements fs.ReadDirFile.
func (d *treeDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		entries, err := d.tree.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.entries, d.read = entries, true
	}
	if n <= 0 {
		entries := d.entries
		d.entries = nil
		return entries, nil
	}
	if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	entries := d.entries[:n:n]
	d.entries = d.entries[n:]
	return entries, nil
}
