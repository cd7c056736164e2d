package envrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
)

// Repo reads a project. It reads only what is asked for, whenever it is asked
// for; it is safe for concurrent use when its file system is.
type Repo struct {
	fsys    fs.FS
	project Project
}

// Open reads sluice.yaml, and nothing else, from the root of fsys: the
// project folder.
func Open(fsys fs.FS) (*Repo, error) { return open(fsys, decodeProject) }

// OpenFor is Open for a caller that is concerned with one environment: a mistake
// in the entry of another environment is no error, and that environment is then
// not in the project. One that is about the whole file, or may be about this
// environment, is an error as with Open.
func OpenFor(fsys fs.FS, env string) (*Repo, error) {
	return open(fsys, func(file string, data []byte) (Project, error) { return decodeProjectFor(file, env, data) })
}

func open(fsys fs.FS, decode func(file string, data []byte) (Project, error)) (*Repo, error) {
	data, err := readFile(fsys, projectFile)
	if err != nil {
		if isMissing(err) {
			return nil, &NotProjectError{}
		}
		return nil, err
	}
	project, err := decode(projectFile, data)
	if err != nil {
		return nil, err
	}
	return &Repo{fsys: fsys, project: project}, nil
}

// At is the same project with its other files read from fsys: for a caller that
// knows that sluice.yaml is the same there.
func (r *Repo) At(fsys fs.FS) *Repo { return &Repo{fsys: fsys, project: r.project} }

// FS is the file system that was opened.
func (r *Repo) FS() fs.FS { return r.fsys }

// Project is sluice.yaml. Do not change it.
func (r *Repo) Project() Project { return r.project }

// Environment finds an environment, or fails with *UnknownEnvironmentError.
func (r *Repo) Environment(name string) (Environment, error) {
	return r.project.environment(name)
}

// Components returns the names of the folders with a component.yaml, sorted.
func (r *Repo) Components() ([]string, error) {
	all, err := folders(r.fsys, "components")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		ok, err := exists(r.fsys, componentFile(name))
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Component reads component.yaml, or fails with *UnknownComponentError.
func (r *Repo) Component(name string) (Component, error) {
	if problem := labelProblem(name); problem != "" {
		return Component{}, r.unknownComponent(name)
	}
	data, err := readFile(r.fsys, componentFile(name))
	if err != nil {
		if isMissing(err) {
			return Component{}, r.unknownComponent(name)
		}
		return Component{}, err
	}
	return decodeComponent(componentFile(name), name, data)
}

func (r *Repo) unknownComponent(name string) error {
	known, err := r.Components()
	if err != nil {
		return err
	}
	return &UnknownComponentError{Name: name, Known: known}
}

// ReleaseNames returns the releases of an environment: EnvironmentRelease
// first where the environment has objects of its own, then the folders of its
// releases, sorted. No file is decoded: a name may well be of a release that
// does not load.
func (r *Repo) ReleaseNames(env string) ([]string, error) {
	if _, err := r.Environment(env); err != nil {
		return nil, err
	}
	dir := environmentDir(env)
	entries, err := r.entries(dir)
	if err != nil {
		return nil, err
	}
	own, err := r.ownObjects(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	if own {
		names = append(names, EnvironmentRelease)
	}
	for _, e := range entries {
		ok, err := r.isRelease(dir, e.Name(), e.Type())
		if err != nil {
			return nil, err
		}
		switch {
		case !ok || own && e.Name() == EnvironmentRelease:
		case e.Name() == EnvironmentRelease:
			names = slices.Insert(names, 0, e.Name())
		default:
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// HasRelease reports whether a name is among the ReleaseNames of an
// environment. Only what decides that is looked at.
func (r *Repo) HasRelease(env, name string) (bool, error) {
	if _, err := r.Environment(env); err != nil {
		return false, err
	}
	dir := environmentDir(env)
	if !fs.ValidPath(name) || strings.Contains(name, "/") || name == "." {
		return false, nil
	}
	info, err := fs.Lstat(r.fsys, path.Join(dir, name))
	switch {
	case err == nil:
		if ok, err := r.isRelease(dir, name, info.Mode().Type()); ok || err != nil {
			return ok, err
		}
	case !isMissing(err):
		return false, fmt.Errorf("reading %s: %w", path.Join(dir, name), pathCause(err))
	}
	if name != EnvironmentRelease {
		return false, nil
	}
	return r.ownObjects(dir)
}

// isRelease reports whether an entry below an environment's folder is a
// release: a folder with a kustomization, or one that only has lost it. A folder
// of a component's name, or with a traffic.yaml, is a release that does not load,
// and so is a symbolic link or submodule of a component's name; were they none,
// one lost file would prune everything that runs.
func (r *Repo) isRelease(dir, name string, mode fs.FileMode) (bool, error) {
	folder := mode.IsDir()
	if !folder && mode&(fs.ModeSymlink|fs.ModeIrregular) == 0 {
		return false, nil
	}
	if folder {
		if ok, err := r.isOverlay(path.Join(dir, name)); ok || err != nil {
			return ok, err
		}
	}
	if labelProblem(name) != "" {
		return false, nil
	}
	if ok, err := exists(r.fsys, componentFile(name)); ok || err != nil || !folder {
		return ok, err
	}
	return exists(r.fsys, trafficFile(path.Join(dir, name)))
}

// ownObjects reports whether an environment has objects of its own: a
// kustomization, or YAML files that have lost it.
func (r *Repo) ownObjects(dir string) (bool, error) {
	if ok, err := r.isOverlay(dir); ok || err != nil {
		return ok, err
	}
	return r.manifests(dir)
}

// manifests reports whether a folder itself holds YAML files: an environment's
// own objects whose kustomization is lost do not count as none.
func (r *Repo) manifests(dir string) (bool, error) {
	entries, err := r.entries(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !e.IsDir() && slices.Contains([]string{".yaml", ".yml"}, path.Ext(e.Name()))
	}), err
}

// entries lists a folder; nothing when it does not exist.
func (r *Repo) entries(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.fsys, dir)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading folder %s: %w", dir, pathCause(err))
	}
	return entries, nil
}

// overlays returns the folders below dir that hold a kustomization, sorted.
func (r *Repo) overlays(dir string) ([]string, error) {
	all, err := folders(r.fsys, dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		ok, err := r.isOverlay(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, name)
		}
	}
	return names, nil
}

func (r *Repo) isOverlay(dir string) (bool, error) {
	for _, name := range append([]string{kustomizationFile}, otherKustomizationFiles...) {
		if ok, err := exists(r.fsys, path.Join(dir, name)); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// Builds returns the records of a component, newest first; those without a
// time come last.
func (r *Repo) Builds(component string) ([]Build, error) {
	if _, err := r.Component(component); err != nil {
		return nil, err
	}
	files, err := r.buildFiles(component)
	if err != nil {
		return nil, err
	}
	builds := make([]Build, 0, len(files))
	var errs []error
	for _, file := range files {
		b, err := r.readBuild(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		builds = append(builds, b)
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	sort.SliceStable(builds, func(i, j int) bool { return builds[i].CreatedAt.After(builds[j].CreatedAt) })
	return builds, nil
}

// Build finds a record by its digest or a prefix of it of at least 4 hex
// digits, with or without sha256:. It fails with *NotDigestError,
// *UnknownBuildError or *AmbiguousBuildError, and reads no other record than
// the one it returns. A component that has records need not exist any more, and is
// not read; the name of one that has none has to be a component's, or it fails with
// *UnknownComponentError.
func (r *Repo) Build(component, ref string) (Build, error) {
	if problem := labelProblem(component); problem != "" {
		return Build{}, r.unknownComponent(component)
	}
	files, err := r.buildFiles(component)
	if err == nil && len(files) == 0 {
		_, err = r.Component(component)
	}
	if err != nil {
		return Build{}, err
	}
	digits, err := hexRef(ref)
	if err != nil {
		return Build{}, err
	}
	unknown := &UnknownBuildError{Component: component, Ref: ref}
	var matches []string
	for _, file := range files {
		id := strings.TrimSuffix(path.Base(file), ".yaml")
		unknown.Known = append(unknown.Known, id)
		if strings.HasPrefix(id, digits) || len(digits) > len(id) && strings.HasPrefix(digits, id) {
			matches = append(matches, id)
		}
	}
	switch len(matches) {
	case 0:
		return Build{}, unknown
	case 1:
	default:
		return Build{}, &AmbiguousBuildError{Component: component, Ref: ref, Matches: matches}
	}
	b, err := r.readBuild(buildsDir(component) + "/" + matches[0] + ".yaml")
	if err != nil {
		return Build{}, err
	}
	if !strings.HasPrefix(b.Digest, digestPrefix+digits) {
		return Build{}, unknown
	}
	return b, nil
}

// buildFiles returns the paths of a component's records, sorted.
func (r *Repo) buildFiles(component string) ([]string, error) {
	entries, err := fs.ReadDir(r.fsys, buildsDir(component))
	if err != nil {
		if isMissing(err) {
			return nil, nil
		}
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") && !e.IsDir() {
			files = append(files, path.Join(buildsDir(component), e.Name()))
		}
	}
	return files, nil
}

func (r *Repo) readBuild(file string) (Build, error) {
	data, err := readFile(r.fsys, file)
	if err != nil {
		return Build{}, err
	}
	return decodeBuild(file, data)
}
