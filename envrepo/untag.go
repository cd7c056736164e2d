package envrepo

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// RemoveTags deletes the overlays of tags that traffic.yaml does not list. One that it
// lists is refused, with *TagInUseError where requests reach it, and so is one whose
// files another folder of the environment reads. A broken tag can be removed.
func RemoveTags(t *Tree, env, component string, tags []string) (Summary, error) {
	return editRelease(t, env, component, func(layer *Tree, repo *Repo, rel Release) (Summary, error) {
		if !rel.Tagged() {
			return Summary{}, &UntaggedError{Environment: env, Component: component}
		}
		if len(tags) == 0 {
			return Summary{}, refuse("name tags with --tags; "+knownHint("tags", rel.tagNames()), "removing tags of %s: none named", inEnvironment(rel, ""))
		}
		var summary Summary
		names := slices.Compact(slices.Sorted(slices.Values(tags)))
		for _, name := range names {
			tag, err := rel.tag(name)
			if err != nil {
				return Summary{}, err
			}
			if err := rel.refuseListed(name); err != nil {
				return Summary{}, err
			}
			if err := removeFolder(layer, tag.Dir); err != nil {
				return Summary{}, err
			}
			summary.note("removed the overlay %s: what is left of the tag in the cluster is deleted", tag.Dir)
		}
		if err := repo.refuseReaders(rel, names); err != nil {
			return Summary{}, err
		}
		pauseNotes(&summary, rel)
		summary.Message = fmt.Sprintf("remove %s of %s", strings.Join(names, ", "), inEnvironment(rel, ""))
		return summary, nil
	})
}

// refuseListed refuses a tag that runs: one that requests reach, or that is kept at
// weight 0.
func (r Release) refuseListed(tag string) error {
	if err := r.refuseInUse(tag); err != nil {
		return err
	}
	if _, listed := r.Traffic.Weight(tag); !listed {
		return nil
	}
	return refuse(fmt.Sprintf("scale it to zero first: `sluice traffic suspend %s --environment %s --tags %s`", r.Name, r.Environment.Name, tag),
		"tag %s of %s is listed at weight 0: its pods run", tag, inEnvironment(r, ""))
}

// refuseReaders refuses to remove tags whose files anything else reads: another folder
// of the release, or of the environment, beyond which nothing may.
func (r *Repo) refuseReaders(rel Release, removed []string) error {
	return fs.WalkDir(r.fsys, environmentDir(rel.Environment.Name), func(folder string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		for _, name := range removed {
			if folder == rel.Dir+"/"+name {
				return fs.SkipDir
			}
		}
		for _, file := range r.filesRead(folder, []string{"."}) {
			for _, name := range removed {
				if dir := rel.Dir + "/" + name; file == dir || strings.HasPrefix(file, dir+"/") {
					return refuse("move the files that both need to "+rel.Dir+"/base", "removing tag %s of %s: %s/%s reads %s",
						name, inEnvironment(rel, ""), folder, kustomizationFile, file)
				}
			}
		}
		return nil
	})
}

// removeFolder removes the files of a folder, and so the folder.
func removeFolder(t *Tree, dir string) error {
	var files []string
	err := fs.WalkDir(t, dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := t.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
