package render

import (
	"bytes"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// memoryFS is the file system that Kustomize works on: files by absolute path,
// no links, nothing of the host. It is only read, so that builds may share it.
// (kyaml's own in-memory file system refuses names with spaces or letters
// outside ASCII, which kubectl reads.)
type memoryFS struct {
	files map[string][]byte
	dirs  map[string]bool
	// listings are folders that read as a file, too, with what these files hold one
	// after the other: see loader.listings.
	listings map[string][]string
}

var _ filesys.FileSystem = (*memoryFS)(nil)

func newMemoryFS() *memoryFS {
	return &memoryFS{files: map[string][]byte{}, dirs: map[string]bool{"/": true}}
}

// put adds a file of the project.
func (m *memoryFS) put(p string, data []byte) {
	p = "/" + p
	m.files[p] = data
	for dir := path.Dir(p); !m.dirs[dir]; dir = path.Dir(dir) {
		m.dirs[dir] = true
	}
}

func absolute(name string) string { return path.Clean("/" + name) }

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// withoutListings is the same, but that folders are nothing but folders.
func (m *memoryFS) withoutListings() *memoryFS { return &memoryFS{files: m.files, dirs: m.dirs} }

// CleanedAbs splits a path into an existing folder and a file in it.
func (m *memoryFS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	p := absolute(name)
	if m.dirs[p] {
		return filesys.ConfirmedDir(p), "", nil
	}
	if _, ok := m.files[p]; ok {
		return filesys.ConfirmedDir(path.Dir(p)), path.Base(p), nil
	}
	return "", "", notExist("stat", name)
}

// Exists reports whether there is a file or folder.
func (m *memoryFS) Exists(name string) bool {
	p := absolute(name)
	_, ok := m.files[p]
	return ok || m.dirs[p]
}

// IsDir reports whether there is a folder.
func (m *memoryFS) IsDir(name string) bool { return m.dirs[absolute(name)] }

// ReadFile returns a copy of a file: Kustomize may change it.
func (m *memoryFS) ReadFile(name string) ([]byte, error) {
	p := absolute(name)
	if data, ok := m.files[p]; ok {
		return bytes.Clone(data), nil
	}
	if files, ok := m.listings[p]; ok {
		return m.joined(files), nil
	}
	return nil, notExist("read", name)
}

// joined are YAML files as one.
func (m *memoryFS) joined(files []string) []byte {
	size := 0
	for _, f := range files {
		size += len(m.files[f]) + len("---\n")
	}
	all := make([]byte, 0, size)
	for i, f := range files {
		if i > 0 {
			all = append(all, "---\n"...)
		}
		all = append(all, m.files[f]...)
	}
	return all
}

// ReadDir lists the names in a folder.
func (m *memoryFS) ReadDir(name string) ([]string, error) {
	p := absolute(name)
	if !m.dirs[p] {
		return nil, notExist("readdir", name)
	}
	prefix := strings.TrimSuffix(p, "/") + "/"
	names := map[string]bool{}
	for f := range m.files {
		if rest, ok := strings.CutPrefix(f, prefix); ok {
			first, _, _ := strings.Cut(rest, "/")
			names[first] = true
		}
	}
	return sortedKeys(names), nil
}

func readOnly(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission}
}

// The rest of the interface is for programs that edit kustomizations; a build
// does not call it.

func (m *memoryFS) Create(name string) (filesys.File, error) { return nil, readOnly("create", name) }
func (m *memoryFS) Mkdir(name string) error                  { return readOnly("mkdir", name) }
func (m *memoryFS) MkdirAll(name string) error               { return readOnly("mkdir", name) }
func (m *memoryFS) RemoveAll(name string) error              { return readOnly("remove", name) }
func (m *memoryFS) Open(name string) (filesys.File, error)   { return nil, readOnly("open", name) }
func (m *memoryFS) WriteFile(name string, _ []byte) error    { return readOnly("write", name) }
func (m *memoryFS) Glob(string) ([]string, error)            { return nil, nil }
func (m *memoryFS) Walk(name string, _ filepath.WalkFunc) error {
	return readOnly("walk", name)
}
