package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
)

// hasher is what Git snapshots add to a file system: the object id of a path,
// which tells equal folders without reading them.
type hasher interface {
	Hash(path string) (string, bool)
}

// changedShared lists the files below components/ that differ between two
// states of the project.
func changedShared(before, after fs.FS) ([]string, error) {
	const shared = "components"
	h1, ok1 := before.(hasher)
	h2, ok2 := after.(hasher)
	if ok1 && ok2 {
		a, _ := h1.Hash(shared)
		b, _ := h2.Hash(shared)
		if a == b {
			return nil, nil
		}
	}
	old, err := readAll(before, shared)
	if err != nil {
		return nil, err
	}
	current, err := readAll(after, shared)
	if err != nil {
		return nil, err
	}
	var changed []string
	for name, data := range current {
		if have, ok := old[name]; !ok || !bytes.Equal(have, data) {
			changed = append(changed, name)
		}
	}
	for name := range old {
		if _, ok := current[name]; !ok {
			changed = append(changed, name)
		}
	}
	sort.Strings(changed)
	return changed, nil
}

// readAll reads the regular files below dir.
func readAll(files fs.FS, dir string) (map[string][]byte, error) {
	found := map[string][]byte{}
	err := fs.WalkDir(files, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		found[path.Clean(name)] = data
		return err
	})
	return found, err
}

// readBounded reads a file that is no longer than most.
func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, most)
	}
	return data, nil
}
