package promotion

import (
	"fmt"
	"strings"
)

func trafficTitle(in Input) string {
	for _, c := range in.Components {
		return cut(fmt.Sprintf("Set traffic of %s in %s: %s", c.Name, in.Environment, orElse(trafficLine(c.NewTraffic), "nothing")), maxTitle)
	}
	return cut("Set traffic in "+in.Environment, maxTitle)
}

// trafficFacts is everything about a change of traffic but the rendered difference.
func trafficFacts(in Input, c ComponentInput) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Traffic of %s in %s\n\n", foreign(c.Name), foreign(in.Environment))
	fmt.Fprintf(&b, "- now: %s\n", foreign(orElse(trafficLine(c.OldTraffic), "not readable")))
	fmt.Fprintf(&b, "- then: %s\n", foreign(orElse(trafficLine(c.NewTraffic), "not readable")))
	b.WriteString("\n### What merging does\n\n")
	for _, share := range c.Shares {
		fmt.Fprintf(&b, "- %s, build %s: %s\n", foreign(share.Tag), code(orElse(short(share.Digest), "none")), share.effect(in))
	}
	if len(gaining(c)) > 0 {
		b.WriteString("\nNo weight is raised before the tag is ready; until then the routes stay as they are.\n")
	}
	b.WriteString("\n### Builds that gain\n\n" + gainingText(c))
	b.WriteString("\n### Configuration\n\n" + configText(in, c))
	fmt.Fprintf(&b, "\n### Readiness in %s\n\n%s", foreign(in.Environment), readinessText(c))
	return b.String()
}

// effect says what becomes of a tag, in the order in which it happens.
func (s Share) effect(in Input) string {
	var text []string
	switch {
	case s.New.Listed && !s.Old.Listed:
		text = append(text, fmt.Sprintf("its pods start, and it gets %d %% of the requests", s.New.Weight))
	case s.New.Weight != s.Old.Weight:
		text = append(text, fmt.Sprintf("from %d %% to **%d %%** of the requests", s.Old.Weight, s.New.Weight))
	case s.New.Listed:
		text = append(text, fmt.Sprintf("keeps %d %% of the requests", s.New.Weight))
	}
	switch {
	case s.New.Mirror == s.Old.Mirror:
	case s.New.Mirror == 0:
		text = append(text, "no requests are copied to it any more")
	default:
		text = append(text, fmt.Sprintf("a copy of %d %% of the requests goes to it", s.New.Mirror))
	}
	if s.Old.Listed && !s.New.Listed {
		text = append(text, fmt.Sprintf("it is scaled to zero %s after the routes have left it", duration(in.Drain)))
	}
	return strings.Join(text, ", ")
}

// gainingText names the builds whose requests become more.
func gainingText(c ComponentInput) string {
	var b strings.Builder
	for _, share := range c.Shares {
		if share.Gains() {
			fmt.Fprintf(&b, "- %s: %s\n", foreign(share.Tag), buildLine(orElse(share.Digest, "no digest"), share.Build, ""))
		}
	}
	if b.Len() == 0 {
		return "None.\n"
	}
	return b.String()
}

// readinessText tells of each tag whether it is ready, as far as that is known.
func readinessText(c ComponentInput) string {
	if !c.Here.Known {
		return fmt.Sprintf("Unknown: %s\n", foreign(orElse(c.Here.Message, "nobody reports it")))
	}
	var b strings.Builder
	for _, share := range c.Shares {
		switch h := share.Health; {
		case h == nil:
			fmt.Fprintf(&b, "- %s: not known\n", foreign(share.Tag))
		case !h.Ready:
			fmt.Fprintf(&b, "- %s: **not ready**: %s\n", foreign(share.Tag), foreign(orElse(h.Message, "no reason is reported")))
		case h.Digest != share.Digest:
			fmt.Fprintf(&b, "- %s: ready, with %s\n", foreign(share.Tag), code(orElse(short(h.Digest), "none")))
		default:
			fmt.Fprintf(&b, "- %s: ready\n", foreign(share.Tag))
		}
	}
	return b.String()
}
