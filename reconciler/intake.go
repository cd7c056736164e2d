package reconciler

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"sync"

	"github.com/sluice-dev/sluice/envrepo"
)

// comparer is a file system that finds what differs between it and another one
// without reading what does not, as two snapshots of Git commits do: see
// gitrepo.Snapshot.Diff. It fails with errors.ErrUnsupported if it cannot.
type comparer interface {
	Diff(before fs.FS, visit func(path string) (within bool)) error
}

// inputs is what decided the releases of an environment at the commit that was
// taken in last. The zero value is that before the first.
type inputs struct {
	fsys     fs.FS
	repo     *envrepo.Repo
	policy   string
	releases map[string]*content // those that the repository has
	closures closures
	// unsure are releases that could not be read, which is nothing that the
	// repository says: they are looked at again with every commit.
	unsure map[string]bool
}

// intake is what a commit makes of the releases of an environment. It is found
// out before anything is changed, so that a commit can still be refused.
type intake struct {
	inputs *inputs // as they were
	fsys   fs.FS
	repo   *envrepo.Repo
	policy string
	looked map[string]*content // the releases that were looked at
	// declared are those among them that were read for it: none is read again for its
	// first pass.
	declared map[string]*envrepo.Release
	whole    bool // all were: what is not among them is not there any more
	size     int  // how many releases the repository has now
}

// compare finds out what a commit changes:
//
//  1. The files are compared with those of the commit before by the hashes of
//     their folders (comparer). Only folders that differ are gone into, and of
//     these only those in which something can matter: folders that closures name
//     something in, and the two whose entries say which releases there are.
//  2. A path that differs and decides a release has that release looked at, and
//     a folder that differs below environments/<environment>/ or components/ the
//     release of its name, which may be new or gone.
//  3. Those are looked at as if nothing were known of them but the hash of what
//     decided them.
//
// Where two sets of files cannot be compared (the first commit, a file system
// that knows no hashes) or the environment's policies have changed, every release
// is looked at. known are the releases that the engine has; those that the
// repository does not have are removed ones, all of them where it does not have
// the environment.
func (in *inputs) compare(fsys fs.FS, repo *envrepo.Repo, env envrepo.Environment, known func() []string) (*intake, error) {
	next := &intake{inputs: in, fsys: fsys, repo: repo, policy: policyOf(env), looked: map[string]*content{}, declared: map[string]*envrepo.Release{}}
	present, gone, err := next.due(env, known)
	if err != nil {
		return nil, err
	}
	contents, declared := make([]*content, len(present)), make([]*envrepo.Release, len(present))
	inParallel(len(present), func(i int) {
		contents[i], declared[i] = contentOf(fsys, repo, env, present[i], in.releases[present[i]])
	})
	for i, name := range present {
		next.looked[name], next.declared[name] = contents[i], declared[i]
	}
	for _, name := range gone {
		next.looked[name] = absent(repo, env, name)
	}
	return next, nil
}

// due are the names to look at: releases, and those that are none (any more).
func (next *intake) due(env envrepo.Environment, known func() []string) (present, gone []string, err error) {
	if _, err := next.repo.Environment(env.Name); err != nil {
		next.whole, next.policy = true, "" // what comes after it is compared with nothing
		return nil, known(), nil
	}
	names, compared, err := next.inputs.touched(next.fsys, env.Name)
	if err != nil {
		return nil, nil, err
	}
	if compared && next.policy == next.inputs.policy {
		return next.divide(names, env.Name)
	}
	next.whole = true
	if present, err = next.repo.ReleaseNames(env.Name); err != nil {
		return nil, nil, err
	}
	next.size = len(present)
	there := make(map[string]bool, len(present))
	for _, name := range present {
		there[name] = true
	}
	return present, slices.DeleteFunc(known(), func(name string) bool { return there[name] }), nil
}

// divide tells names that are releases from those that are not (any more).
func (next *intake) divide(names []string, env string) (present, gone []string, err error) {
	next.size = len(next.inputs.releases)
	for _, name := range names {
		has, err := next.repo.HasRelease(env, name)
		if err != nil {
			return nil, nil, err
		}
		_, had := next.inputs.releases[name]
		switch {
		case has && !had:
			next.size++
		case !has && had:
			next.size--
		}
		if has {
			present = append(present, name)
		} else {
			gone = append(gone, name)
		}
	}
	return present, gone, nil
}

// touched are the names of which something differs from the commit before,
// sorted; false when that cannot be told.
func (in *inputs) touched(fsys fs.FS, env string) (names []string, compared bool, err error) {
	c, can := fsys.(comparer)
	if !can || in.fsys == nil {
		return nil, false, nil
	}
	t := &touch{inputs: in, after: fsys, environment: path.Join("environments", env), names: map[string]bool{}}
	for name := range in.unsure {
		t.names[name] = true
	}
	err = c.Diff(in.fsys, t.visit)
	if errors.Is(err, errors.ErrUnsupported) || err == nil && t.lost {
		return nil, false, nil
	}
	return slices.Sorted(maps.Keys(t.names)), true, err
}

// touch is one walk over what differs.
type touch struct {
	inputs      *inputs
	after       fs.FS
	environment string // its folder
	names       map[string]bool
	lost        bool // the environment's folder is none any more
}

// visit notes what a path that differs has to do with, and says whether what is
// in it matters.
func (t *touch) visit(p string) (within bool) {
	for _, name := range t.inputs.closures.of(p) {
		t.names[name] = true
	}
	switch dir, base := path.Split(p); {
	case dir == t.environment+"/":
		t.names[base] = true
		if ownFile(base) {
			t.names[envrepo.EnvironmentRelease] = true
		}
	case dir == "components/":
		t.names[base] = true
	case p == t.environment && !isFolder(t.after, p):
		t.lost = true
		return false
	}
	if p == t.environment || p == "components" || p == "environments" || p == "." {
		within = true
	}
	if !t.inputs.closures.anyBelow(p) {
		return within
	}
	if isFolder(t.inputs.fsys, p) && isFolder(t.after, p) {
		return true
	}
	// A folder has come, gone or become something else, which can matter to who
	// names something in it even if that exists neither before nor after.
	for _, name := range t.inputs.closures.below(p) {
		t.names[name] = true
	}
	return within
}

// ownFile reports whether a file of this name in an environment's folder can
// decide whether the environment has objects of its own.
func ownFile(name string) bool {
	ext := path.Ext(name)
	return ext == ".yaml" || ext == ".yml" || name == "Kustomization"
}

func isFolder(fsys fs.FS, name string) bool {
	info, err := fs.Lstat(fsys, name)
	return err == nil && info.IsDir()
}

// after are the inputs when the commit has been taken in. The ones before are
// not to be used any more.
func (next *intake) after() *inputs {
	in := next.inputs
	if next.whole {
		in = &inputs{releases: make(map[string]*content, next.size), closures: newClosures(), unsure: map[string]bool{}}
	}
	in.fsys, in.repo, in.policy = next.fsys, next.repo, next.policy
	for _, name := range slices.Sorted(maps.Keys(next.looked)) {
		now := next.looked[name]
		var old []string
		if before := in.releases[name]; before != nil {
			old = before.paths
		}
		in.closures.replace(name, old, now.paths)
		delete(in.unsure, name)
		if now.gone {
			delete(in.releases, name)
			continue
		}
		in.releases[name] = now
		if now.err != nil && damaged(now.err) {
			in.unsure[name] = true
		}
	}
	return in
}

// inParallel calls do for every number below n, on all processors.
func inParallel(n int, do func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	running.Wait()
}
