package render

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/sluice-dev/sluice/envrepo"
	"sigs.k8s.io/kustomize/api/konfig"
)

// Closure is what decides a render: when no content below its paths changes,
// the render does not change either.
type Closure struct {
	// Paths are files and folders of the project, sorted, none below another.
	// A path that does not exist belongs too: its appearance is a change.
	Paths []string
}

// InputClosure finds the closure of a release by reading its kustomization
// files and no other file.
//
// It is the release's own folder, the folders elsewhere that it includes, the
// component's component.yaml and sluice.yaml. The reserved release, whose
// folder holds all other releases of the environment, has single files instead
// of its folder.
//
// Closures describe themselves: as long as no content below its paths changes,
// the closure of a release does not change either and need not be found again.
//
// With an error the closure is still usable: it holds everything that was
// found, so that whoever waits for the repair of the release sees it.
func InputClosure(fsys fs.FS, rel envrepo.Release) (Closure, error) {
	w := newWalker(fsys, scope{environment: rel.Environment.Name, release: true})
	w.tolerant = true
	reserved := rel.Name == envrepo.EnvironmentRelease
	var folders []string
	files := []string{"sluice.yaml"}
	if !reserved {
		folders = append(folders, rel.Dir)
		files = append(files, componentsDir+"/"+rel.Name+"/component.yaml")
	}
	for _, dir := range releaseDirs(rel) {
		in, err := w.walk(dir)
		if err != nil {
			w.errs = append(w.errs, err)
		}
		for _, d := range in.dirs {
			if reserved && d == rel.Dir {
				files = append(files, kustomizationNames(d, konfig.RecognizedKustomizationFileNames())...)
				continue
			}
			folders = append(folders, d)
		}
		for _, f := range in.files {
			files = append(files, f.path)
		}
	}
	return Closure{Paths: minimal(folders, files)}, errors.Join(dedupe(w.errs)...)
}

// dedupe drops errors that several tags share with their base.
func dedupe(errs []error) []error {
	seen := map[string]bool{}
	return slices.DeleteFunc(errs, func(err error) bool {
		dup := seen[err.Error()]
		seen[err.Error()] = true
		return dup
	})
}

// releaseDirs are the folders that are built for a release: its own, then its
// tags'.
func releaseDirs(rel envrepo.Release) []string {
	dirs := []string{rel.Dir}
	if rel.Tagged() {
		for _, t := range rel.Tags {
			dirs = append(dirs, t.Dir)
		}
	}
	return dirs
}
