package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Snapshot is the files of one commit, or of a folder in it, as a read-only
// fs.FS. It reads Git objects on demand and is safe for concurrent use. It
// stays valid when the branch moves, and until its Repository is closed.
//
// A symbolic link is listed as fs.ModeSymlink and a submodule as
// fs.ModeIrregular; neither can be opened. A file of more than MaxFileBytes
// cannot be read (ErrTooLarge). Every file has the commit's time.
type Snapshot struct {
	db     *database
	commit Commit // zero before the first commit
	root   plumbing.Hash
}

var (
	_ fs.ReadDirFS  = (*Snapshot)(nil)
	_ fs.ReadFileFS = (*Snapshot)(nil)
	_ fs.StatFS     = (*Snapshot)(nil)
)

// Revision is the full hash of the commit; "" in a repository without commits.
func (s *Snapshot) Revision() string { return s.commit.Hash }

// Commit is the commit the files belong to.
func (s *Snapshot) Commit() Commit { return s.commit }

// Sub returns the snapshot rooted at a folder; "." is the snapshot itself.
func (s *Snapshot) Sub(dir string) (*Snapshot, error) {
	e, err := s.find("sub", dir)
	if err != nil {
		return nil, err
	}
	if !e.isDir() {
		return nil, pathError("sub", dir, errNotDir)
	}
	return &Snapshot{db: s.db, commit: s.commit, root: e.hash}, nil
}

// Hash is the hash of a file's content or of all that a folder holds, names
// and modes included; false when there is nothing at the path. Equal hashes
// mean equal content. No file is read.
func (s *Snapshot) Hash(name string) (string, bool) {
	e, err := s.find("hash", name)
	if err != nil {
		return "", false
	}
	return e.hash.String(), true
}

// Open implements fs.FS. The file is read whole.
func (s *Snapshot) Open(name string) (fs.File, error) {
	e, err := s.find("open", name)
	if err != nil {
		return nil, err
	}
	if e.isDir() {
		t, err := s.db.tree(e.hash)
		if err != nil {
			return nil, pathError("open", name, err)
		}
		return &openDir{info: s.info(e, 0), entries: s.entries(t)}, nil
	}
	data, err := s.contents("open", name, e)
	if err != nil {
		return nil, err
	}
	return &openFile{Reader: bytes.NewReader(data), info: s.info(e, int64(len(data)))}, nil
}

// ReadFile implements fs.ReadFileFS.
func (s *Snapshot) ReadFile(name string) ([]byte, error) {
	e, err := s.find("read", name)
	if err != nil {
		return nil, err
	}
	data, err := s.contents("read", name, e)
	return bytes.Clone(data), err
}

// ReadDir implements fs.ReadDirFS. No file is read.
func (s *Snapshot) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := s.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.isDir() {
		return nil, pathError("readdir", name, errNotDir)
	}
	t, err := s.db.tree(e.hash)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	return s.entries(t), nil
}

// Stat implements fs.StatFS. No file is read. A symbolic link is not followed.
func (s *Snapshot) Stat(name string) (fs.FileInfo, error) {
	e, err := s.find("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := s.stat(e)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return info, nil
}

var (
	errNotDir    = errors.New("not a folder")
	errIsDir     = errors.New("is a folder")
	errSymlink   = errors.New("is a symbolic link, which is not followed")
	errSubmodule = errors.New("is a submodule, which is not followed")
)

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// find walks from the root to a path.
func (s *Snapshot) find(op, name string) (treeEntry, error) {
	if !fs.ValidPath(name) {
		return treeEntry{}, pathError(op, name, fs.ErrInvalid)
	}
	e := treeEntry{name: ".", mode: 0o40000, hash: s.root}
	if name == "." {
		return e, nil
	}
	for rest := name; rest != ""; {
		if !e.isDir() {
			return treeEntry{}, pathError(op, name, fs.ErrNotExist)
		}
		t, err := s.db.tree(e.hash)
		if err != nil {
			return treeEntry{}, pathError(op, name, err)
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		var ok bool
		if e, ok = t.find(part); !ok {
			return treeEntry{}, pathError(op, name, fs.ErrNotExist)
		}
	}
	return e, nil
}

// contents reads a file. The data must not be changed.
func (s *Snapshot) contents(op, name string, e treeEntry) ([]byte, error) {
	var err error
	switch {
	case e.isDir():
		err = errIsDir
	case e.fsMode()&fs.ModeSymlink != 0:
		err = errSymlink
	case !e.isFile():
		err = errSubmodule
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	data, err := s.db.blob(e.hash)
	if errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: files of at most %d MiB are read", err, MaxFileBytes>>20)
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return data, nil
}

func (s *Snapshot) info(e treeEntry, size int64) fileInfo {
	return fileInfo{name: path.Base(e.name), mode: e.fsMode(), size: size, time: s.commit.Time}
}

// stat is info with the size looked up.
func (s *Snapshot) stat(e treeEntry) (fileInfo, error) {
	var size int64
	if e.isFile() || e.fsMode()&fs.ModeSymlink != 0 {
		var err error
		if size, err = s.db.blobSize(e.hash); err != nil {
			return fileInfo{}, err
		}
	}
	return s.info(e, size), nil
}

func (s *Snapshot) entries(t tree) []fs.DirEntry {
	out := make([]fs.DirEntry, len(t))
	for i, e := range t {
		out[i] = dirEntry{s, e}
	}
	return out
}

type fileInfo struct {
	name string
	mode fs.FileMode
	size int64
	time time.Time
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.time }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }

type dirEntry struct {
	s *Snapshot
	e treeEntry
}

func (d dirEntry) Name() string      { return d.e.name }
func (d dirEntry) IsDir() bool       { return d.e.isDir() }
func (d dirEntry) Type() fs.FileMode { return d.e.fsMode().Type() }
func (d dirEntry) String() string    { return fs.FormatDirEntry(d) }

// Info looks the size up, but reads no file.
func (d dirEntry) Info() (fs.FileInfo, error) {
	info, err := d.s.stat(d.e)
	if err != nil {
		return nil, pathError("stat", d.e.name, err)
	}
	return info, nil
}

type openFile struct {
	*bytes.Reader // Read, ReadAt, Seek
	info          fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info    fileInfo
	entries []fs.DirEntry
	next    int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) { return 0, pathError("read", d.info.name, errIsDir) }

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.entries[d.next:]
	if n > 0 && len(rest) == 0 {
		return nil, io.EOF
	}
	if n > 0 && n < len(rest) {
		rest = rest[:n]
	}
	d.next += len(rest)
	return rest, nil
}
