package envrepo

import (
	"fmt"
	"slices"
	"strings"
)

// Deploy pins a recorded build in an environment's overlay. digest is a whole
// digest that has a build record. In a tagged release it goes to tag, whose
// overlay is created if it has none, or with bluegreen to the one idle tag; a
// tag that is not listed is listed at weight 0, so that its pods start. A new tag
// whose name is all but that of another is refused: see DeployNew.
func Deploy(t *Tree, env, component, digest, tag string, bluegreen bool) (Summary, error) {
	return deploy(t, env, component, digest, tag, bluegreen, false)
}

// DeployNew is Deploy to a tag whose overlay may be created whatever its name.
func DeployNew(t *Tree, env, component, digest, tag string) (Summary, error) {
	return deploy(t, env, component, digest, tag, false, true)
}

func deploy(t *Tree, env, component, digest, tag string, bluegreen, anyName bool) (Summary, error) {
	return editRelease(t, env, component, func(layer *Tree, repo *Repo, rel Release) (Summary, error) {
		if !ValidDigest(digest) {
			return Summary{}, &NotDigestError{Ref: digest, Exact: true}
		}
		if _, err := repo.Build(component, digest); err != nil {
			return Summary{}, err
		}
		if tag != "" && bluegreen {
			return Summary{}, refuse("give one of them", "--tag and --bluegreen exclude each other")
		}
		if !rel.Tagged() {
			if tag != "" || bluegreen {
				return Summary{}, &UntaggedError{Environment: env, Component: component}
			}
			return deployUntagged(layer, rel, digest, fmt.Sprintf("deploy %s %s to %s", component, ShortDigest(digest), env))
		}
		var summary Summary
		if near := rel.nearTag(tag); near != "" && !anyName {
			return Summary{}, refuse(fmt.Sprintf("deploy to it with --tag %s; if %s is to be a new tag, say so with --create", near, tag),
				"%s has no tag %q in %s (did you mean %q?)", component, tag, env, near)
		}
		target, err := deployTarget(layer, &rel, tag, bluegreen, &summary)
		if err != nil {
			return Summary{}, err
		}
		if percent, _ := rel.Traffic.Weight(target.Name); percent > 0 && target.Digest != "" {
			summary.note("%s has %d %% of the traffic: its pods are replaced under it", target.Name, percent)
		}
		summary.Message = fmt.Sprintf("deploy %s %s to %s as %s", component, ShortDigest(digest), env, target.Name)
		return summary, pinTag(layer, rel, target, digest, &summary)
	})
}

// deployUntagged pins a digest in the overlay of an untagged release.
func deployUntagged(t *Tree, rel Release, digest, message string) (Summary, error) {
	if rel.Digest == digest {
		return Summary{Message: alreadyAt(rel, "", digest)}, nil
	}
	summary := Summary{Message: message}
	pauseNotes(&summary, rel)
	return summary, setDigest(t, rel.Dir, rel.Component.Image, digest)
}

// nearTag is the tag that the name of a new one may be a misspelling of: one or two
// typing errors away. Names that differ in digits only, such as v1 and v2, are
// meant to.
func (r Release) nearTag(name string) string {
	const short, shortest = 5, 3
	limit := 2
	if len(name) < short {
		limit = 1
	}
	if _, err := r.tag(name); err == nil || len(name) < shortest || len(name) > maxLabel {
		return ""
	}
	for _, tag := range r.Tags {
		if distance(name, tag.Name) <= limit && withoutDigits(name) != withoutDigits(tag.Name) {
			return tag.Name
		}
	}
	return ""
}

func withoutDigits(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, s), "-")
}

func alreadyAt(rel Release, tag, digest string) string {
	message := fmt.Sprintf("%s is already at %s in %s", rel.Name, ShortDigest(digest), rel.Environment.Name)
	if tag != "" {
		message += " (" + tag + ")"
	}
	return message
}

// deployTarget finds or creates the tag that a deployment goes to.
func deployTarget(t *Tree, rel *Release, tag string, bluegreen bool, summary *Summary) (Tag, error) {
	if bluegreen {
		return rel.idleTag()
	}
	if tag == "" {
		return Tag{}, &TagRequiredError{Environment: rel.Environment.Name, Component: rel.Name, Tags: rel.tagNames(), Verb: "deploy"}
	}
	if target, err := rel.tag(tag); err == nil {
		return target, target.Broken
	}
	newName, err := newNameOf(t, *rel)
	if err != nil {
		return Tag{}, err
	}
	target, err := createTag(t, *rel, tag, newName)
	if err != nil {
		return Tag{}, err
	}
	rel.Tags = append(slices.Clone(rel.Tags), target)
	summary.note("created the overlay %s", target.Dir)
	return target, nil
}

// newNameOf is where a new tag of a release pulls its image from: where the tag
// with the highest weight does, or another if that one's overlay is broken.
func newNameOf(t *Tree, rel Release) (string, error) {
	current, _ := rel.Traffic.highest()
	tags := slices.DeleteFunc(slices.Clone(rel.Tags), func(tag Tag) bool { return tag.Broken != nil })
	if len(tags) == 0 {
		return "", nil
	}
	source := tags[0]
	if i := slices.IndexFunc(tags, func(tag Tag) bool { return tag.Name == current }); i >= 0 {
		source = tags[i]
	}
	p, err := readOverlayPin(t, source.Dir+"/"+kustomizationFile, rel.Component.Image)
	return p.NewName, err
}

// pinTag pins a digest in a tag's overlay and lists the tag if it is not. It
// rewrites the message when there was nothing to do.
func pinTag(t *Tree, rel Release, tag Tag, digest string, summary *Summary) error {
	_, listed := rel.Traffic.Weight(tag.Name)
	if tag.Digest == digest && listed {
		*summary = Summary{Message: alreadyAt(rel, tag.Name, digest)}
		return nil
	}
	pauseNotes(summary, rel)
	if err := setDigest(t, tag.Dir, rel.Component.Image, digest); err != nil {
		return err
	}
	if listed {
		return nil
	}
	traffic := Traffic{Weights: append(slices.Clone(rel.Traffic.Weights), Weight{Tag: tag.Name}), Mirrors: rel.Traffic.Mirrors}
	summary.note("listed %s at weight 0, so that its pods start", tag.Name)
	return setTraffic(t, rel, traffic)
}

// createTag writes the overlay of a new tag; newName is where the release pulls
// its image from, if not by its own name.
func createTag(t *Tree, rel Release, name, newName string) (Tag, error) {
	if problem := tagNameProblem(rel.Name, name); problem != "" {
		return Tag{}, refuse("", "tag %q %s", clip(name), problem)
	}
	repo := &Repo{fsys: t}
	owners, err := repo.serviceOwners(rel.Environment.Name, rel.Name+"-"+name)
	if err != nil {
		return Tag{}, err
	}
	if len(owners) > 0 {
		return Tag{}, refuse("choose another name for the tag", "tag %s of %s would share the Service %s-%s with %s in %s",
			name, rel.Name, rel.Name, name, owners[0], rel.Environment.Name)
	}
	tag := Tag{Name: name, Dir: rel.Dir + "/" + name}
	if entries, err := t.ReadDir(tag.Dir); err == nil && len(entries) > 0 {
		return Tag{}, refuse("move the folder's files away, or choose another name for the tag", "%s is a folder without kustomization.yaml: it is no tag overlay", tag.Dir)
	}
	base := rel.Dir + "/base/" + kustomizationFile
	if ok, err := exists(t, base); err != nil || !ok {
		if err == nil {
			err = &FileError{File: base, Message: "does not exist: the tags of a release share it", hint: "move what the tags have in common there"}
		}
		return Tag{}, err
	}
	values := tagValues(rel, name)
	values.NewName = newName
	data, err := scaffold("tag/kustomization.yaml", values)
	if err != nil {
		return Tag{}, err
	}
	return tag, t.WriteFile(tag.Dir+"/"+kustomizationFile, data)
}

// idleTags are the tags that get no production requests: of weight 0, or not
// listed; sorted by name.
func (r Release) idleTags() (idle []string) {
	for _, tag := range r.Tags {
		if percent, _ := r.Traffic.Weight(tag.Name); percent == 0 {
			idle = append(idle, tag.Name)
		}
	}
	return idle
}

// idleTag is the one idle tag, or fails with *IdleTagError, or with what is wrong
// with its overlay. Before the first deployment it is the tag that has the traffic:
// nothing runs there yet.
func (r Release) idleTag() (Tag, error) {
	if current, _ := r.Traffic.highest(); current != "" {
		if tag, err := r.soundTag(current); err == nil && tag.Digest == "" {
			return tag, nil
		}
	}
	idle := r.idleTags()
	if len(idle) == 1 {
		return r.soundTag(idle[0])
	}
	err := &IdleTagError{Environment: r.Environment.Name, Component: r.Name, Idle: idle}
	for _, w := range r.Traffic.Weights {
		if w.Percent > 0 {
			err.Busy = append(err.Busy, w)
		}
	}
	return Tag{}, err
}
