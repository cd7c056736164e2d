package envrepo

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// readFile reads one of the files that are decoded.
func readFile(fsys fs.FS, name string) ([]byte, error) { return readBounded(fsys, name, maxFile) }

// readBounded reads a regular file of at most limit bytes. A symbolic link on
// the way to it is refused: in a working tree it could lead anywhere.
func readBounded(fsys fs.FS, name string, limit int64) ([]byte, error) {
	if err := refuseLinks(fsys, name); err != nil {
		return nil, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, pathCause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, pathCause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, irregular(name, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, pathCause(err))
	}
	if int64(len(data)) > limit {
		return nil, &FileError{File: name, Message: fmt.Sprintf("is larger than %d MiB", limit>>20)}
	}
	return data, nil
}

// refuseLinks looks at every folder on the way to a file, where the file
// system can follow links at all.
func refuseLinks(fsys fs.FS, name string) error {
	if _, ok := fsys.(fs.ReadLinkFS); !ok {
		return nil
	}
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := fs.Lstat(fsys, name[:i])
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, pathCause(err))
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return irregular(name[:i], info.Mode())
		}
	}
	return nil
}

func irregular(name string, mode fs.FileMode) error {
	what := "is not a regular file"
	switch {
	case mode.IsDir():
		what = "is a folder, a file is due"
	case mode&fs.ModeSymlink != 0:
		what = "is a symbolic link, which is never followed"
	case mode&fs.ModeIrregular != 0:
		what = "is a submodule, which is never read"
	}
	return &FileError{File: name, Message: what}
}

// pathCause takes the operation and the path off an error: both are said already.
func pathCause(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// exists reports whether there is a file, or something else that reading will
// refuse, at name.
func exists(fsys fs.FS, name string) (bool, error) {
	_, err := fs.Lstat(fsys, name)
	if err == nil {
		return true, nil
	}
	if isMissing(err) {
		return false, nil
	}
	return false, fmt.Errorf("reading %s: %w", name, pathCause(err))
}

// isMissing also knows the answer of operating systems to a path below a file.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// folders returns the names of the folders directly below dir, sorted; none
// when dir does not exist.
func folders(fsys fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		if isMissing(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading folder %s: %w", dir, pathCause(err))
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
