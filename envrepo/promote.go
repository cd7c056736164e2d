package envrepo

import (
	"fmt"
	"regexp"
	"strings"
)

// PromotionEdit is what Promote did.
type PromotionEdit struct {
	Summary

	From, To             string // environments
	OldDigest, NewDigest string // of the overlay that was edited; OldDigest "" when it had none
	Tag                  string // "" in an untagged release
}

// SourceDigest is what a promotion out of a release takes: the digest of its
// overlay, or of the tag with the highest weight, the first in document order
// on a tie.
func SourceDigest(rel Release) (string, error) {
	digest, where := rel.Digest, ""
	if rel.Tagged() {
		name, _ := rel.Traffic.highest()
		tag, err := rel.soundTag(name)
		if err != nil {
			return "", err
		}
		digest, where = tag.Digest, name
	}
	if digest == "" {
		return "", refuse(fmt.Sprintf("deploy a build there first: `sluice deploy %s --environment %s --build BUILD`", rel.Name, rel.Environment.Name),
			"%s has no digest: nothing is deployed there yet", inEnvironment(rel, where))
	}
	return digest, nil
}

// Promote copies a digest from the environment that to is promoted from. digest
// is "" for what SourceDigest says, or that of a recorded build. In a tagged
// release it goes to the one idle tag, which tag or bluegreen may name, and
// leaves weights alone; only a tag that is not listed is listed at weight 0. A
// digest that is there already is no change.
func Promote(t *Tree, component, to, tag string, bluegreen bool, digest string) (PromotionEdit, error) {
	var p PromotionEdit
	summary, err := editRelease(t, to, component, func(layer *Tree, repo *Repo, rel Release) (Summary, error) {
		p = PromotionEdit{From: rel.Environment.Promotion.From, To: to}
		if p.From == "" {
			return Summary{}, refuse(fmt.Sprintf("builds get there with `sluice deploy %s --environment %s --build BUILD`", component, to),
				"nothing is promoted into %s: it is the first environment", to)
		}
		if tag != "" && bluegreen {
			return Summary{}, refuse("give one of them", "--tag and --bluegreen exclude each other")
		}
		var err error
		if p.NewDigest, err = promoted(repo, component, p.From, digest); err != nil {
			return Summary{}, err
		}
		if !rel.Tagged() {
			if tag != "" || bluegreen {
				return Summary{}, &UntaggedError{Environment: to, Component: component}
			}
			p.OldDigest = rel.Digest
			return deployUntagged(layer, rel, p.NewDigest, fmt.Sprintf("promote %s %s from %s to %s", component, ShortDigest(p.NewDigest), p.From, to))
		}
		return promoteTag(layer, rel, tag, bluegreen, &p)
	})
	if err != nil {
		return PromotionEdit{}, err
	}
	p.Summary = summary
	return p, nil
}

// promoted is the digest to promote.
func promoted(repo *Repo, component, from, digest string) (string, error) {
	if digest != "" {
		if !ValidDigest(digest) {
			return "", &NotDigestError{Ref: digest, Exact: true}
		}
		_, err := repo.Build(component, digest)
		return digest, err
	}
	source, err := repo.PartialRelease(from, component)
	if err != nil {
		return "", err
	}
	return SourceDigest(source)
}

// promoteTag promotes into a tagged release.
func promoteTag(t *Tree, rel Release, tag string, bluegreen bool, p *PromotionEdit) (Summary, error) {
	if tag == "" {
		current, _ := rel.Traffic.highest()
		if live, err := rel.tag(current); err == nil && live.Digest == p.NewDigest {
			p.Tag, p.OldDigest = live.Name, live.Digest
			return Summary{Message: alreadyAt(rel, live.Name, live.Digest)}, nil
		}
	}
	target, err := rel.promotionTag(tag)
	if err != nil {
		return Summary{}, err
	}
	p.Tag, p.OldDigest = target.Name, target.Digest
	summary := Summary{Message: fmt.Sprintf("promote %s %s from %s to %s as %s", rel.Name, ShortDigest(p.NewDigest), p.From, p.To, target.Name)}
	for _, m := range rel.Traffic.Mirrors {
		if m.Tag == target.Name && target.Digest != p.NewDigest {
			summary.note("%s receives a mirror of %d %% of the requests", m.Tag, m.Percent)
		}
	}
	return summary, pinTag(t, rel, target, p.NewDigest, &summary)
}

// promotionTag is the idle tag, narrowed by a name: a promotion never changes
// what production requests reach.
func (r Release) promotionTag(name string) (Tag, error) {
	if name == "" {
		return r.idleTag()
	}
	tag, err := r.soundTag(name)
	if err != nil {
		return Tag{}, err
	}
	if percent, _ := r.Traffic.Weight(name); percent > 0 && tag.Digest != "" {
		return Tag{}, &TagInUseError{Environment: r.Environment.Name, Component: r.Name, Tag: name, Percent: percent,
			hint: "a promotion goes to an idle tag: leave --tag away, or take its traffic away first with `sluice traffic set`"}
	}
	return tag, nil
}

const rollbackSubject = "roll back "

// GoesBack reports whether a commit went back to what was before: one that Rollback
// gave its message, a revert of Git's, or the merge of a pull request that was either.
func GoesBack(message string) bool {
	lines := strings.SplitN(message, "\n", 4)
	for _, line := range lines[:min(3, len(lines))] {
		line = strings.ToLower(mergePrefix.ReplaceAllString(line, ""))
		if strings.HasPrefix(line, rollbackSubject) || strings.HasPrefix(line, "revert \"") {
			return true
		}
	}
	return false
}

// mergePrefix begins the message of a merge that Sluice makes. A forge's own names
// the branch there, and has the title two lines below.
var mergePrefix = regexp.MustCompile(`^Merge pull request #[0-9]+: `)

// Rollback pins an earlier digest, which the caller finds in the history of
// the repository. A tagged release needs tag; weights stay as they are.
func Rollback(t *Tree, env, component, tag, digest string) (Summary, error) {
	return editRelease(t, env, component, func(layer *Tree, repo *Repo, rel Release) (Summary, error) {
		if !ValidDigest(digest) {
			return Summary{}, &NotDigestError{Ref: digest, Exact: true}
		}
		dir, current := rel.Dir, rel.Digest
		switch {
		case !rel.Tagged() && tag != "":
			return Summary{}, &UntaggedError{Environment: env, Component: component}
		case rel.Tagged() && tag == "":
			return Summary{}, &TagRequiredError{Environment: env, Component: component, Tags: rel.tagNames(), Verb: "rollback"}
		case rel.Tagged():
			target, err := rel.soundTag(tag)
			if err != nil {
				return Summary{}, err
			}
			dir, current = target.Dir, target.Digest
		}
		if current == digest {
			return Summary{Message: alreadyAt(rel, tag, digest)}, nil
		}
		summary := Summary{Message: fmt.Sprintf(rollbackSubject+"%s to %s", inEnvironment(rel, tag), ShortDigest(digest))}
		if _, err := repo.Build(component, digest); err != nil {
			summary.note("no build record of %s", ShortDigest(digest))
		}
		pauseNotes(&summary, rel)
		return summary, setDigest(layer, dir, rel.Component.Image, digest)
	})
}
