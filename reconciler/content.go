package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"unique"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/render"
)

// hasher is a file system that knows the content of a path without reading it,
// as a snapshot of a Git commit does.
type hasher interface {
	Hash(path string) (string, bool)
}

// content is what decides a release at one commit. It never changes.
type content struct {
	// paths are those of the input closure, and component.yaml; of a release that
	// does not load, everything that its error comes from.
	paths []string
	hash  string // of what is at the paths, with the environment's policies
	err   error  // the release does not load
	gone  bool   // the repository does not have the release
}

// contentOf finds out whether the release has changed since before (nil: never
// seen). Where none of the paths that decided it has another hash, neither has
// the closure itself, and no file is read. Else it comes with what the repository
// declares, if that loads.
func contentOf(fsys fs.FS, repo *envrepo.Repo, env envrepo.Environment, name string, before *content) (*content, *envrepo.Release) {
	policy := policyOf(env)
	if before != nil && before.err == nil && !before.gone {
		if hash, err := hashPaths(fsys, before.paths, policy); err == nil && hash == before.hash {
			return before, nil
		}
	}
	release, err := repo.PartialRelease(env.Name, name)
	if err != nil {
		return unloadable(fsys, repo, env, name, err), nil
	}
	closure, fault := render.InputClosure(fsys, release)
	for _, t := range release.Tags {
		fault = errors.Join(fault, t.Broken)
	}
	if fault != nil && !release.Tagged() || damaged(fault) {
		return unloadable(fsys, repo, env, name, fault), nil
	}
	c := &content{paths: make([]string, 0, len(closure.Paths))}
	for _, p := range closure.Paths {
		// What sluice.yaml says about the environment is in policy; the rest of it
		// is about other environments, and must not make all releases change.
		if p != "sluice.yaml" {
			c.paths = append(c.paths, shared(p))
		}
	}
	if fault != nil {
		// One tag may be broken and the others not: rendering says which. What would
		// repair it may lie outside the closure.
		c.paths = append(c.paths, traced(fsys, repo, env, name)...)
		slices.Sort(c.paths)
		c.paths = slices.Compact(c.paths)
	}
	c.paths = append(c.paths, contracted(release)...)
	if c.hash, err = hashPaths(fsys, c.paths, policy); err != nil {
		return unloadable(fsys, repo, env, name, err), nil
	}
	return c, &release
}

// shared is the one copy of a path that all releases and environments share.
func shared(path string) string { return unique.Make(path).Value() }

// unloadable is a release that does not load. It is read once more to learn which
// paths its error comes from: as long as they stay, so does the error.
func unloadable(fsys fs.FS, repo *envrepo.Repo, env envrepo.Environment, name string, cause error) *content {
	return &content{paths: traced(fsys, repo, env, name), hash: "error:" + shortHash([]byte(cause.Error())), err: cause}
}

// traced are the paths on which all depends that is read of a release.
func traced(fsys fs.FS, repo *envrepo.Repo, env envrepo.Environment, name string) []string {
	t := newTracer(fsys)
	if release, err := repo.At(t).PartialRelease(env.Name, name); err == nil {
		_, _ = render.InputClosure(t, release)
	}
	return t.paths()
}

// absent is a release that the cluster has and the repository has not. What may
// be deleted is policy: a pause that ends is a change.
func absent(repo *envrepo.Repo, env envrepo.Environment, name string) *content {
	policy := policyOf(env) + leaving(repo, env, name)
	return &content{hash: "gone:" + shortHash([]byte(policy)), gone: true}
}

// damaged reports whether an error is not about what the repository says but
// about reading it: the same paths may well read otherwise next time.
func damaged(err error) bool {
	var corrupt *gitrepo.CorruptError
	return errors.As(err, &corrupt) || errors.Is(err, gitrepo.ErrClosed)
}

// policyOf is what sluice.yaml says of an environment that decides its releases.
func policyOf(env envrepo.Environment) string {
	return fmt.Sprintf("%+v", []any{env.Name, env.Namespace, env.Paused, env.Traffic.Drain, env.Prune.Protect, demandsConfig(env)})
}

func hashPaths(fsys fs.FS, paths []string, policy string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, policy)
	for _, p := range paths {
		h, err := hashPath(fsys, p)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %s\n", p, h)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// hashPath is the hash of a file or folder; "" when there is none.
func hashPath(fsys fs.FS, name string) (string, error) {
	if h, ok := fsys.(hasher); ok {
		hash, found := h.Hash(name)
		if found {
			return hash, nil
		}
		// What cannot be read is not known to be absent.
		if _, err := fs.Lstat(fsys, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("reading %s: %w", name, err)
		}
		return "", nil
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
