package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

// hasher is a file system that knows the content of a path without reading it,
// as a snapshot of a Git commit does.
type hasher interface {
	Hash(path string) (string, bool)
}

// content is what decides a release at one commit, by hash.
type content struct {
	paths []string          // of the input closure, and component.yaml
	seen  map[string]string // hash by path; "" for a path that does not exist
	hash  string            // of all, with the environment's policies
}

// contentOf finds out whether the release has changed since before (nil: never
// seen). Where none of the paths that decided it has another hash, neither has
// the closure itself, and no file is read.
func contentOf(fsys fs.FS, repo *envrepo.Repo, env envrepo.Environment, name string, before *content) (*content, error) {
	policy := policyOf(env)
	if before != nil {
		now, err := hashPaths(fsys, before.paths, policy)
		if err != nil || now.hash == before.hash {
			return before, err
		}
	}
	release, err := repo.Release(env.Name, name)
	if err != nil {
		return nil, err
	}
	closure, err := render.InputClosure(fsys, release)
	if err != nil {
		return nil, err
	}
	// What sluice.yaml says about the environment is in policy; the rest of it
	// is about other environments, and must not make all releases change.
	paths := slices.DeleteFunc(slices.Clone(closure.Paths), func(p string) bool { return p == "sluice.yaml" })
	return hashPaths(fsys, paths, policy)
}

// policyOf is what sluice.yaml says of an environment that decides its releases.
func policyOf(env envrepo.Environment) string {
	return fmt.Sprintf("%+v", []any{env.Name, env.Namespace, env.Paused, env.Traffic.Drain, env.Prune.Protect})
}

func hashPaths(fsys fs.FS, paths []string, policy string) (*content, error) {
	c := &content{paths: paths, seen: make(map[string]string, len(paths))}
	sum := sha256.New()
	fmt.Fprintln(sum, policy)
	for _, p := range paths {
		h, err := hashPath(fsys, p)
		if err != nil {
			return nil, err
		}
		c.seen[p] = h
		fmt.Fprintf(sum, "%q %s\n", p, h)
	}
	c.hash = hex.EncodeToString(sum.Sum(nil)[:16])
	return c, nil
}

// hashPath is the hash of a file or folder; "" when there is none.
func hashPath(fsys fs.FS, name string) (string, error) {
	if h, ok := fsys.(hasher); ok {
		hash, _ := h.Hash(name)
		return hash, nil
	}
	sum := sha256.New()
	err := fs.WalkDir(fsys, name, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fmt.Fprintf(sum, "%q %v\n", p, d.Type())
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := fs.ReadFile(fsys, p)
		fmt.Fprintf(sum, "%d\n%s\n", len(data), data)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}
