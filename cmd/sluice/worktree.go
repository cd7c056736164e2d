package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/sluice-dev/sluice/envrepo"
)

// writeTree writes what an edit changed into the working tree: all of it or, when
// something cannot be written, nothing. Files are written beside their place before
// the first of them is renamed to it, so that an interruption leaves no half of
// one either.
func writeTree(root *os.Root, tree *envrepo.Tree) error {
	w := writing{root: root}
	err := w.all(tree)
	if err == nil {
		return nil
	}
	for _, undo := range slices.Backward(w.undo) {
		err = errors.Join(err, undo())
	}
	return err
}

// writing is a change of a working tree, and how to take it back.
type writing struct {
	root *os.Root
	undo []func() error
}

func (w *writing) all(tree *envrepo.Tree) error {
	writes, names := tree.Writes(), sortedKeys(tree.Writes())
	for _, name := range names {
		if err := w.prepare(name, writes[name]); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	for _, name := range names {
		if err := w.replace(name); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	for _, name := range tree.Deletes() {
		if err := w.remove(name); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return nil
}

// temporary is where a file is written first.
func temporary(name string) string { return filepath.FromSlash(name) + ".sluice-tmp" }

// prepare writes a file beside its place, and makes the folders on the way to it.
func (w *writing) prepare(name string, data []byte) error {
	if err := w.folder(path.Dir(name)); err != nil {
		return err
	}
	if info, err := w.root.Lstat(filepath.FromSlash(name)); err == nil && info.IsDir() {
		return errors.New("a folder is in the way")
	}
	w.undo = append(w.undo, func() error { return unlessMissing(w.root.Remove(temporary(name))) })
	return w.root.WriteFile(temporary(name), data, 0o644)
}

// folder makes a folder, and those that it lies in.
func (w *writing) folder(dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := w.root.Stat(filepath.FromSlash(dir)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.folder(path.Dir(dir)); err != nil {
		return err
	}
	if err := w.root.Mkdir(filepath.FromSlash(dir), 0o755); err != nil {
		return err
	}
	w.undo = append(w.undo, func() error { return unlessMissing(w.root.Remove(filepath.FromSlash(dir))) })
	return nil
}

// replace puts a prepared file into its place.
func (w *writing) replace(name string) error {
	file := filepath.FromSlash(name)
	before, err := w.root.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	existed := err == nil
	if err := w.root.Rename(temporary(name), file); err != nil {
		return err
	}
	w.undo = append(w.undo, func() error {
		if existed {
			return w.root.WriteFile(file, before, 0o644)
		}
		return w.root.Remove(file)
	})
	return nil
}

// remove removes a file, if it is there.
func (w *writing) remove(name string) error {
	file := filepath.FromSlash(name)
	before, err := w.root.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.root.Remove(file); err != nil {
		return err
	}
	w.undo = append(w.undo, func() error { return w.root.WriteFile(file, before, 0o644) })
	return nil
}

func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
