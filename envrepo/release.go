package envrepo

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// releaseDir is the folder of a release.
func releaseDir(env, name string) string {
	if name == EnvironmentRelease {
		return environmentDir(env)
	}
	return environmentDir(env) + "/" + name
}

// Release reads what the repository declares about a component in an
// environment: its overlay's digest or its tags and their traffic. It fails
// with *UnknownEnvironmentError, *UnknownComponentError, *UnknownReleaseError
// or the problems of a file. One tag that cannot be read fails the release.
func (r *Repo) Release(env, name string) (Release, error) {
	rel, err := r.PartialRelease(env, name)
	if err == nil {
		err = rel.broken()
	}
	if err != nil {
		return Release{}, err
	}
	return rel, nil
}

// PartialRelease is Release, but a tag whose overlay cannot be read does not
// fail it: the Tag says so in Broken. It is for those who can go on without that
// tag, so that traffic can be taken off it.
func (r *Repo) PartialRelease(env, name string) (Release, error) {
	rel, err := r.overlay(env, name)
	if err != nil || name == EnvironmentRelease {
		return rel, err
	}
	if err := r.refuseCollisions(rel); err != nil {
		return Release{}, err
	}
	file := trafficFile(rel.Dir)
	if !rel.Tagged() {
		file = path.Join(rel.Dir, kustomizationFile)
		if rel.Digest, err = r.pinnedDigest(file, rel.Component.Image); err != nil {
			return Release{}, err
		}
		if rel.Digest == "" {
			err = r.refuseStrayTags(rel)
		}
		return rel, err
	}
	data, err := readFile(r.fsys, file)
	if err != nil {
		return Release{}, err
	}
	traffic, err := decodeTraffic(file, rel.tagNames(), data)
	if err != nil {
		return Release{}, err
	}
	rel.Traffic = &traffic
	return rel, nil
}

// broken is what is wrong with the first broken tag; nil when there is none.
func (r Release) broken() error {
	for _, tag := range r.Tags {
		if tag.Broken != nil {
			return tag.Broken
		}
	}
	return nil
}

// overlay reads everything of a release but the untagged digest and the
// content of traffic.yaml: Traffic is empty, not nil, in a tagged release.
// The edits that repair a traffic.yaml start from here. Tags may be broken.
func (r *Repo) overlay(env, name string) (Release, error) {
	e, err := r.Environment(env)
	if err != nil {
		return Release{}, err
	}
	rel := Release{Environment: e, Name: name, Dir: releaseDir(env, name)}
	if name == EnvironmentRelease {
		if ok, err := r.isOverlay(path.Join(rel.Dir, EnvironmentRelease)); err != nil || ok {
			if err == nil {
				err = &FileError{File: path.Join(rel.Dir, EnvironmentRelease), hint: "rename the folder and the component",
					Message: "the name environment is reserved for the environment's own objects"}
			}
			return Release{}, err
		}
		return rel, r.requireKustomization(rel)
	}
	if rel.Component, err = r.releaseComponent(rel); err != nil {
		return Release{}, err
	}
	if err := r.requireKustomization(rel); err != nil {
		return Release{}, err
	}
	tagged, err := exists(r.fsys, trafficFile(rel.Dir))
	if err != nil || !tagged {
		return rel, err
	}
	rel.Traffic = &Traffic{}
	rel.Tags, err = r.tags(rel)
	return rel, err
}

// releaseComponent reads the component of a release. An overlay without one
// is a problem of the overlay, not a misspelt name.
func (r *Repo) releaseComponent(rel Release) (Component, error) {
	if problem := labelProblem(rel.Name); problem != "" {
		return Component{}, r.unknownComponent(rel.Name)
	}
	ok, err := exists(r.fsys, componentFile(rel.Name))
	if err != nil {
		return Component{}, err
	}
	if !ok {
		if overlay, err := r.isOverlay(rel.Dir); err != nil || overlay {
			if err == nil {
				err = &FileError{File: rel.Dir, Message: fmt.Sprintf("overlay of component %q, but %s does not exist", rel.Name, componentFile(rel.Name)),
					hint: "add the component, or remove the overlay"}
			}
			return Component{}, err
		}
	}
	return r.Component(rel.Name)
}

func (r *Repo) requireKustomization(rel Release) error {
	if info, err := fs.Lstat(r.fsys, rel.Dir); err == nil && info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 {
		return irregular(rel.Dir, info.Mode())
	}
	ok, err := exists(r.fsys, path.Join(rel.Dir, kustomizationFile))
	if err != nil || ok {
		return err
	}
	for _, other := range otherKustomizationFiles {
		if ok, err := exists(r.fsys, path.Join(rel.Dir, other)); err != nil || ok {
			if err == nil {
				err = &FileError{File: path.Join(rel.Dir, other), Message: "must be named " + kustomizationFile, hint: "rename the file"}
			}
			return err
		}
	}
	if info, err := fs.Stat(r.fsys, rel.Dir); err == nil && info.IsDir() && r.lostOverlay(rel) {
		return &FileError{File: path.Join(rel.Dir, kustomizationFile), Message: "is missing, and the folder has other files: what runs is left as it is",
			hint: "restore the file, or remove the whole folder " + rel.Dir}
	}
	return &UnknownReleaseError{Environment: rel.Environment.Name, Name: rel.Name}
}

// lostOverlay reports whether a folder without a kustomization looks like a
// release that has lost it.
func (r *Repo) lostOverlay(rel Release) bool {
	if rel.Name != EnvironmentRelease {
		return true // only folders of components come here
	}
	manifests, err := r.manifests(rel.Dir)
	return err == nil && manifests
}

// tags reads the tag folders of a tagged release, sorted by name. What is wrong
// with one of them is kept there.
func (r *Repo) tags(rel Release) ([]Tag, error) {
	names, err := r.overlays(rel.Dir)
	if err != nil {
		return nil, err
	}
	var tags []Tag
	for _, name := range names {
		if name == "base" {
			continue
		}
		tag := Tag{Name: name, Dir: path.Join(rel.Dir, name)}
		if problem := tagNameProblem(rel.Name, name); problem != "" {
			tag.Broken = &FileError{File: tag.Dir, Message: fmt.Sprintf("tag %q %s", clip(name), problem), hint: "rename the folder"}
		} else {
			tag.Digest, tag.Broken = r.pinnedDigest(path.Join(tag.Dir, kustomizationFile), rel.Component.Image)
		}
		tags = append(tags, tag)
	}
	lost, err := r.lostTags(rel, names)
	if err != nil {
		return nil, err
	}
	tags = append(tags, lost...)
	slices.SortFunc(tags, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	return tags, nil
}

func (r *Repo) pinnedDigest(file, image string) (string, error) {
	p, err := readOverlayPin(r.fsys, file, image)
	return p.Digest, err
}

func readOverlayPin(fsys fs.FS, file, image string) (pin, error) {
	data, err := readFile(fsys, file)
	if err != nil {
		return pin{}, err
	}
	root, err := parseKustomization(file, data)
	if err != nil {
		return pin{}, err
	}
	return findPin(file, root, image)
}

// refuseStrayTags catches a traffic.yaml that was lost: without it the release
// would count as untagged and its tags' workloads be pruned.
func (r *Repo) refuseStrayTags(rel Release) error {
	names, err := r.overlays(rel.Dir)
	if err != nil {
		return err
	}
	var stray []string
	for _, name := range names {
		if name == "base" {
			continue
		}
		file := path.Join(rel.Dir, name, kustomizationFile)
		if digest, err := r.pinnedDigest(file, rel.Component.Image); err == nil && digest != "" {
			stray = append(stray, name)
		}
	}
	if len(stray) == 0 {
		return nil
	}
	return &FileError{File: trafficFile(rel.Dir), Message: "is missing beside the tag overlays " + strings.Join(stray, ", "),
		hint: "restore the file: it says which tags run"}
}

// refuseCollisions refuses a release whose Services would share a name with
// another release's: Service api-blue belongs to tag blue of api and to a
// component api-blue alike.
func (r *Repo) refuseCollisions(rel Release) error {
	services := []string{rel.Name}
	for _, tag := range rel.Tags {
		services = append(services, rel.Name+"-"+tag.Name)
	}
	for _, service := range services {
		others, err := r.serviceOwners(rel.Environment.Name, service)
		if err != nil {
			return err
		}
		for _, other := range others {
			if other == rel.Name || strings.HasPrefix(other, rel.Name+" ") {
				continue
			}
			return &FileError{File: rel.Dir, Message: fmt.Sprintf("%s and %s would both have the Service %s in %s", rel.owner(service), other, service, rel.Environment.Name),
				hint: "rename the component or the tag"}
		}
	}
	return nil
}

// owner names what of the release has a Service.
func (r Release) owner(service string) string {
	if tag := strings.TrimPrefix(service, r.Name+"-"); tag != service {
		return fmt.Sprintf("%s (tag %s)", r.Name, tag)
	}
	return r.Name
}

// serviceOwners returns every release of an environment that has a Service of
// the name, as "component" or "component (tag t)". Only the few folders that
// could are looked at.
func (r *Repo) serviceOwners(env, service string) ([]string, error) {
	var owners []string
	ok, err := exists(r.fsys, path.Join(releaseDir(env, service), kustomizationFile))
	if err != nil {
		return nil, err
	}
	if ok {
		owners = append(owners, service)
	}
	for i, c := range service {
		if c != '-' || i == 0 || i == len(service)-1 {
			continue
		}
		component, tag := service[:i], service[i+1:]
		if component == EnvironmentRelease || tag == "base" {
			continue
		}
		dir := releaseDir(env, component)
		for _, file := range []string{trafficFile(dir), path.Join(dir, tag, kustomizationFile)} {
			if ok, err = exists(r.fsys, file); err != nil {
				return nil, err
			}
			if !ok {
				break
			}
		}
		if ok {
			owners = append(owners, fmt.Sprintf("%s (tag %s)", component, tag))
		}
	}
	return owners, nil
}

func (r Release) tagNames() []string {
	names := make([]string, 0, len(r.Tags))
	for _, tag := range r.Tags {
		names = append(names, tag.Name)
	}
	return names
}

// soundTag is tag for those who need its overlay: one that cannot be read is an
// error.
func (r Release) soundTag(name string) (Tag, error) {
	tag, err := r.tag(name)
	if err == nil {
		err = tag.Broken
	}
	return tag, err
}

// tag finds a tag overlay, which may be broken, or fails with *UnknownTagError.
func (r Release) tag(name string) (Tag, error) {
	i := slices.IndexFunc(r.Tags, func(t Tag) bool { return t.Name == name })
	if i < 0 {
		return Tag{}, &UnknownTagError{Environment: r.Environment.Name, Component: r.Name, Tag: name, Known: r.tagNames()}
	}
	return r.Tags[i], nil
}
