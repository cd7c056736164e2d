package reconciler

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// tracer is a file system that remembers what it was asked for.
type tracer struct {
	fsys fs.FS

	mu      sync.Mutex
	read    map[string]bool // files, lists of folders and what is not there
	entered map[string]bool // folders of which only the existence was asked
}

var (
	_ fs.ReadFileFS = (*tracer)(nil)
	_ fs.ReadDirFS  = (*tracer)(nil)
	_ fs.StatFS     = (*tracer)(nil)
	_ fs.ReadLinkFS = linkTracer{}
)

// newTracer traces a file system. Callers ask what a file system can do: the
// tracer reads links where the other does, and only there.
func newTracer(fsys fs.FS) interface {
	fs.FS
	paths() []string
} {
	t := &tracer{fsys: fsys, read: map[string]bool{}, entered: map[string]bool{}}
	if _, ok := fsys.(fs.ReadLinkFS); ok {
		return linkTracer{t}
	}
	return t
}

func (t *tracer) asked(name string, info fs.FileInfo, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && info.IsDir() {
		t.entered[name] = true
	} else {
		t.read[name] = true
	}
}

// paths are those on which all answers depended, sorted, none below another: as
// long as nothing at them or below them changes, the answers stay the same. That
// a folder is one is seen by what was asked for in it.
func (t *tracer) paths() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]string, 0, len(t.read))
	for p := range t.read {
		all = append(all, p)
	}
	below := map[string]bool{}
	for _, p := range all {
		for dir := range ancestors(p) {
			below[dir] = true
		}
	}
	for p := range t.entered {
		if !below[p] && !t.read[p] {
			all = append(all, p)
		}
	}
	// A folder that was listed stands for what is in it.
	listed := map[string]bool{}
	for _, p := range all {
		listed[p] = true
	}
	all = slices.DeleteFunc(all, func(p string) bool {
		for dir := range ancestors(p) {
			if listed[dir] {
				return true
			}
		}
		return p == "sluice.yaml"
	})
	slices.Sort(all)
	for i, p := range all {
		all[i] = shared(p)
	}
	return all
}

// ancestors are the folders that a path lies in, the nearest first, "." last.
func ancestors(p string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for p != "." {
			i := strings.LastIndexByte(p, '/')
			if i < 0 {
				p = "."
			} else {
				p = p[:i]
			}
			if !yield(p) {
				return
			}
		}
	}
}

func (t *tracer) Open(name string) (fs.File, error) {
	t.asked(name, nil, errors.ErrUnsupported)
	return t.fsys.Open(name)
}

func (t *tracer) ReadFile(name string) ([]byte, error) {
	t.asked(name, nil, errors.ErrUnsupported)
	return fs.ReadFile(t.fsys, name)
}

func (t *tracer) ReadDir(name string) ([]fs.DirEntry, error) {
	t.asked(name, nil, errors.ErrUnsupported)
	return fs.ReadDir(t.fsys, name)
}

func (t *tracer) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(t.fsys, name)
	t.asked(name, info, err)
	return info, err
}

// linkTracer traces a file system that knows links.
type linkTracer struct{ *tracer }

func (t linkTracer) Lstat(name string) (fs.FileInfo, error) {
	info, err := fs.Lstat(t.fsys, name)
	t.asked(name, info, err)
	return info, err
}

func (t linkTracer) ReadLink(name string) (string, error) {
	t.asked(name, nil, errors.ErrUnsupported)
	return fs.ReadLink(t.fsys, name)
}
