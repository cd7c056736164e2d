package envrepo

import (
	"fmt"
	"slices"
	"strings"
)

var trafficFields = fieldTable{
	"": {"apiVersion", "kind", "weights", "mirror"},
}

func trafficFile(releaseDir string) string { return releaseDir + "/traffic.yaml" }

// decodeTraffic decodes traffic.yaml of a release whose tag overlays are tags.
func decodeTraffic(file string, tags []string, data []byte) (Traffic, error) {
	var t Traffic
	err := decodeFile(file, "Traffic", trafficFields, data, func(o object) {
		if !o.require("weights") {
			return
		}
		sound := true
		read := func(name string) (object, []Weight) {
			if !o.has(name) {
				return object{}, nil
			}
			before := len(o.d.problems)
			shares := o.d.mapping(o.value[name], name, nil)
			var list []Weight
			for _, tag := range shares.keys {
				percent, _ := shares.integer(tag)
				list = append(list, Weight{Tag: tag, Percent: percent})
			}
			sound = sound && len(o.d.problems) == before
			return shares, list
		}
		weights, mirrors := object{}, object{}
		weights, t.Weights = read("weights")
		mirrors, t.Mirrors = read("mirror")
		if !sound {
			return // a sum over half-read numbers would mislead
		}
		for _, p := range t.problems(tags) {
			section, name := weights, "weights"
			if p.mirror {
				section, name = mirrors, "mirror"
			}
			n := o.value[name]
			field := name
			if v := section.value[p.tag]; p.tag != "" && v != nil {
				n, field = v, section.field(p.tag)
			}
			o.d.problem(n, field, p.hint, "%s", p.message)
		}
	})
	if err != nil {
		return Traffic{}, err
	}
	return t, nil
}

const weightHint = "weights are whole percentages that sum to 100, such as blue=90 and green=10"

// trafficProblem is a rule that weights or mirrors break.
type trafficProblem struct {
	mirror        bool
	tag           string // "" when it is about the whole list
	message, hint string
	unknown       bool
}

// problems checks the rules of weights and mirrors over the tags that have an
// overlay, in document order.
func (t Traffic) problems(tags []string) []trafficProblem {
	var found []trafficProblem
	add := func(mirror bool, tag, hint, format string, args ...any) {
		found = append(found, trafficProblem{mirror: mirror, tag: tag, message: fmt.Sprintf(format, args...), hint: hint})
	}
	if len(t.Weights) == 0 {
		add(false, "", "give the tag that has the traffic weight 100", "weights must list at least one tag")
		return found
	}
	sum, seen := 0, map[string]bool{}
	for _, w := range t.Weights {
		switch {
		case seen[w.Tag]:
			add(false, w.Tag, "name each tag once", "weights name tag %q twice", clip(w.Tag))
		case !slices.Contains(tags, w.Tag):
			add(false, w.Tag, tagsHint(tags), "weights name tag %q, which has no overlay%s", clip(w.Tag), didYouMean(w.Tag, tags))
			found[len(found)-1].unknown = true
		case w.Percent < 0:
			add(false, w.Tag, weightHint, "weight of %s must not be negative, found %d", w.Tag, w.Percent)
		case w.Percent > 100:
			add(false, w.Tag, weightHint, "weight of %s must be at most 100, found %d", w.Tag, w.Percent)
		}
		seen[w.Tag] = true
		sum += w.Percent
	}
	if sum != 100 {
		add(false, "", weightHint, "weights must sum to 100, found %d (%s)", sum, clip(formatWeights(t.Weights)))
	}
	mirrored := map[string]bool{}
	for _, m := range t.Mirrors {
		weight, listed := t.Weight(m.Tag)
		switch {
		case mirrored[m.Tag]:
			add(true, m.Tag, "name each tag once", "mirror names tag %q twice", clip(m.Tag))
		case !listed && !slices.Contains(tags, m.Tag):
			add(true, m.Tag, tagsHint(tags), "mirror names tag %q, which has no overlay%s", clip(m.Tag), didYouMean(m.Tag, tags))
			found[len(found)-1].unknown = true
		case !listed:
			add(true, m.Tag, fmt.Sprintf("list %s with weight 0, so that its pods run", m.Tag), "mirror names tag %q, which weights do not list", clip(m.Tag))
		case weight != 0:
			add(true, m.Tag, "mirror to a tag of weight 0, or give the tag no mirror", "mirror names tag %q, which has weight %d: it would see the same requests twice", clip(m.Tag), weight)
		case m.Percent < 1 || m.Percent > 100:
			add(true, m.Tag, "a mirror copies that percentage of production requests", "mirror of %s must be 1 to 100 percent, found %d", clip(m.Tag), m.Percent)
		}
		mirrored[m.Tag] = true
	}
	return found
}

// String is the traffic in one line, as in commit messages: "blue=90, green=10, mirror green=5".
func (t Traffic) String() string {
	s := formatWeights(t.Weights)
	if len(t.Mirrors) > 0 {
		s += ", mirror " + formatWeights(t.Mirrors)
	}
	return s
}

func formatWeights(list []Weight) string {
	parts := make([]string, 0, len(list))
	for _, w := range list {
		parts = append(parts, fmt.Sprintf("%s=%d", w.Tag, w.Percent))
	}
	return strings.Join(parts, ", ")
}

// highest returns the tag with the largest weight, the first in document
// order on a tie.
func (t Traffic) highest() (tag string, tie bool) {
	best := -1
	for _, w := range t.Weights {
		switch {
		case w.Percent > best:
			tag, best, tie = w.Tag, w.Percent, false
		case w.Percent == best:
			tie = true
		}
	}
	return tag, tie
}

// tagsHint is for weights of a tag that does not exist, and for those of a release
// without tags.
func tagsHint(tags []string) string {
	if len(tags) == 0 {
		return "the release has no tags: make them with `sluice component tag`, or remove the file"
	}
	return knownHint("tags", tags)
}
