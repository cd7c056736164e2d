package envrepo

import (
	"fmt"
	"slices"
)

// SetTraffic replaces the weights and mirrors of a tagged release. Tags that
// stay listed keep their place in the file, new ones come last; a tag that is
// left out is scaled to zero. The traffic that stands in the file need not be
// valid: this is also how it is repaired.
func SetTraffic(t *Tree, env, component string, tr Traffic) (Summary, error) {
	return editTraffic(t, env, component, func(rel Release) (Traffic, Summary, error) {
		if rel.Traffic.Equal(tr) {
			return tr, Summary{Message: fmt.Sprintf("traffic of %s is %s already", inEnvironment(rel, ""), rel.Traffic)}, nil
		}
		return tr, Summary{Message: fmt.Sprintf("set traffic of %s to %s", inEnvironment(rel, ""), tr)}, nil
	})
}

// RequireTraffic fails with *TrafficChangedError unless a tagged release has exactly
// these weights, whatever their order: a tag of weight 0 is not one that is left out.
// An edit that calls it first is conditional, also when it is made again on newer
// files.
func RequireTraffic(t *Tree, env, component string, want []Weight) error {
	_, rel, err := openRelease(t, env, component)
	if err != nil {
		return err
	}
	if !rel.Tagged() {
		return &UntaggedError{Environment: env, Component: component}
	}
	if !sameShares(rel.Traffic.Weights, want) {
		return &TrafficChangedError{Environment: env, Component: component, Current: *rel.Traffic, Expected: want}
	}
	return nil
}

// editTraffic lets shift decide the new traffic of a tagged release, checks
// and writes it. In rel, Traffic is empty where the file's is not valid.
func editTraffic(t *Tree, env, component string, shift func(Release) (Traffic, Summary, error)) (Summary, error) {
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, err := Open(layer)
		if err != nil {
			return Summary{}, err
		}
		rel, err := repo.overlay(env, component)
		if err != nil {
			return Summary{}, err
		}
		if component == EnvironmentRelease {
			return Summary{}, repo.unknownComponent(component)
		}
		if !rel.Tagged() {
			return Summary{}, &UntaggedError{Environment: env, Component: component}
		}
		file := trafficFile(rel.Dir)
		src, err := readFile(layer, file)
		if err != nil {
			return Summary{}, err
		}
		current, invalid := decodeTraffic(file, rel.tagNames(), src)
		rel.Traffic = &current
		want, summary, err := shift(rel)
		if err != nil {
			return Summary{}, err
		}
		if err := checkTraffic(rel, want); err != nil {
			return Summary{}, err
		}
		if invalid == nil && current.Equal(want) {
			return summary, nil
		}
		pauseNotes(&summary, rel)
		return summary, setTraffic(layer, rel, want)
	})
}

// checkTraffic checks traffic that somebody asks for, before it is written.
func checkTraffic(rel Release, tr Traffic) error {
	if problems := tr.problems(rel.tagNames()); len(problems) > 0 {
		first := problems[0]
		if first.unknown {
			return &UnknownTagError{Environment: rel.Environment.Name, Component: rel.Name, Tag: first.tag, Known: rel.tagNames()}
		}
		return refuse(first.hint, "traffic of %s: %s", inEnvironment(rel, ""), first.message)
	}
	for _, w := range tr.Weights {
		percent, listed := rel.Traffic.Weight(w.Tag)
		tag, err := rel.tag(w.Tag)
		if err != nil || listed && w.Percent <= percent {
			continue // whatever is wrong with a tag, it can be left
		}
		if tag.Broken != nil {
			return fmt.Errorf("traffic of %s: tag %s: %w", inEnvironment(rel, ""), w.Tag, tag.Broken)
		}
		if tag.Digest == "" {
			return refuse(fmt.Sprintf("deploy a build to it first: `sluice deploy %s --environment %s --build BUILD --tag %s`", rel.Name, rel.Environment.Name, w.Tag),
				"traffic of %s: tag %s has no digest: nothing is deployed there", inEnvironment(rel, ""), w.Tag)
		}
	}
	return nil
}

// PromoteTraffic moves all traffic to another tag: to, or with two tags the
// one that is not the current one, which is the tag with the largest weight.
// The other listed tags stay at weight 0 and mirrors are cleared. Done again,
// it moves the traffic back.
func PromoteTraffic(t *Tree, env, component, to string) (Summary, error) {
	return editTraffic(t, env, component, func(rel Release) (Traffic, Summary, error) {
		if len(rel.Traffic.Weights) == 0 {
			return Traffic{}, Summary{}, invalidTraffic(t, rel)
		}
		target := to
		if target == "" {
			var err error
			if target, err = rel.otherTag(); err != nil {
				return Traffic{}, Summary{}, err
			}
		}
		var want Traffic
		for _, w := range rel.Traffic.Weights {
			w.Percent = 0
			if w.Tag == target {
				w.Percent = 100
			}
			want.Weights = append(want.Weights, w)
		}
		if _, listed := want.Weight(target); !listed {
			want.Weights = append(want.Weights, Weight{Tag: target, Percent: 100})
		}
		summary := Summary{Message: fmt.Sprintf("promote %s to all traffic of %s", target, inEnvironment(rel, ""))}
		if rel.Traffic.Equal(want) {
			summary.Message = fmt.Sprintf("%s has all traffic of %s already", target, inEnvironment(rel, ""))
		} else if len(rel.Traffic.Mirrors) > 0 {
			summary.note("cleared the mirror %s", formatWeights(rel.Traffic.Mirrors))
		}
		return want, summary, nil
	})
}

// invalidTraffic is what is wrong with the file of a release.
func invalidTraffic(t *Tree, rel Release) error {
	file := trafficFile(rel.Dir)
	src, err := readFile(t, file)
	if err != nil {
		return err
	}
	_, err = decodeTraffic(file, rel.tagNames(), src)
	return err
}

// otherTag is the tag that traffic moves to when nobody says which.
func (r Release) otherTag() (string, error) {
	choose := func(reason string) (string, error) {
		return "", refuse("name the tag that gets all traffic with --to; "+knownHint("tags", r.tagNames()), "promoting traffic of %s: %s", inEnvironment(r, ""), reason)
	}
	current, tie := r.Traffic.highest()
	if tie {
		return choose(fmt.Sprintf("no tag has the largest weight (%s)", formatWeights(r.Traffic.Weights)))
	}
	var others []string
	for _, w := range r.Traffic.Weights {
		if w.Tag != current {
			others = append(others, w.Tag)
		}
	}
	if len(others) == 0 {
		others = slices.DeleteFunc(r.tagNames(), func(name string) bool { return name == current })
	}
	switch len(others) {
	case 0:
		return "", refuse(fmt.Sprintf("`sluice deploy %s --environment %s --build BUILD --tag NAME` creates another", r.Name, r.Environment.Name),
			"promoting traffic of %s: %s is its only tag", inEnvironment(r, ""), current)
	case 1:
		return others[0], nil
	}
	return choose(fmt.Sprintf("there are several other tags than %s", current))
}

// SuspendTags takes tags off the list, so that they are scaled to zero; their
// overlays stay. A tag with weight, or one that a mirror goes to, is refused.
func SuspendTags(t *Tree, env, component string, tags []string) (Summary, error) {
	return editTraffic(t, env, component, func(rel Release) (Traffic, Summary, error) {
		if len(rel.Traffic.Weights) == 0 {
			return Traffic{}, Summary{}, invalidTraffic(t, rel)
		}
		if len(tags) == 0 {
			return Traffic{}, Summary{}, refuse("name tags with --tags; "+knownHint("tags", rel.tagNames()), "suspending tags of %s: none named", inEnvironment(rel, ""))
		}
		suspended := ""
		for i, name := range tags {
			if _, err := rel.tag(name); err != nil {
				return Traffic{}, Summary{}, err
			}
			if err := rel.refuseInUse(name); err != nil {
				return Traffic{}, Summary{}, err
			}
			if i > 0 {
				suspended += ", "
			}
			suspended += name
		}
		want := Traffic{Mirrors: rel.Traffic.Mirrors}
		for _, w := range rel.Traffic.Weights {
			if !slices.Contains(tags, w.Tag) {
				want.Weights = append(want.Weights, w)
			}
		}
		summary := Summary{Message: fmt.Sprintf("suspend %s of %s", suspended, inEnvironment(rel, ""))}
		if len(want.Weights) == len(rel.Traffic.Weights) {
			summary.Message = fmt.Sprintf("%s of %s is suspended already", suspended, inEnvironment(rel, ""))
		}
		return want, summary, nil
	})
}

func (r Release) refuseInUse(tag string) error {
	err := &TagInUseError{Environment: r.Environment.Name, Component: r.Name, Tag: tag}
	if err.Percent, _ = r.Traffic.Weight(tag); err.Percent > 0 {
		err.hint = fmt.Sprintf("move its traffic first: `sluice traffic set %s --environment %s --tags …`", r.Name, r.Environment.Name)
		return err
	}
	for _, m := range r.Traffic.Mirrors {
		if m.Tag == tag {
			err.Percent, err.Mirror = m.Percent, true
			err.hint = fmt.Sprintf("clear the mirror first: `sluice traffic set %s --environment %s --tags …` without --mirror", r.Name, r.Environment.Name)
			return err
		}
	}
	return nil
}
