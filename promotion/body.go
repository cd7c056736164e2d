package promotion

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render/diff"
)

// Limits of the text of a pull request. Forges take 65,536 characters.
const (
	maxBody        = 60_000 // characters of the whole text
	maxRest        = 5_000  // characters that are left of it for the names of what is too long, and the footer
	maxTitle       = 200    // characters
	maxForeign     = 200    // characters of one foreign text in a line
	maxCommits     = 20     // builds listed between two digests
	maxChecks      = 50     // checks listed of one build
	foldedLines    = 30     // a longer difference of one object is folded
	maxObjectLines = 300    // a longer one is cut
	maxNames       = 60     // names in one list
	maxNamesText   = 2_000  // characters of one list of names
)

// Title returns the title of a pull request, also the subject of
// its commit.
func Title(in Input) string {
	if in.Kind == KindTraffic {
		return trafficTitle(in)
	}
	if len(in.Components) == 1 {
		c := in.Components[0]
		if c.Returns {
			return cut(fmt.Sprintf("Roll back %s in %s: %s", c.Name, in.Environment, short(c.New)), maxTitle)
		}
		return cut(fmt.Sprintf("Promote %s to %s: %s", c.Name, in.Environment, short(c.New)), maxTitle)
	}
	return cut(fmt.Sprintf("Promote %d components to %s", len(in.Components), in.Environment), maxTitle)
}

// Body returns the evidence as Markdown: what changes, what made it, what it
// does to traffic and whether it is safe. The same facts give the same text.
// Nothing foreign in it is markup, and nothing of a Secret is in it.
func Body(in Input) string {
	command := "sluice promote"
	if in.Kind == KindTraffic {
		command = "sluice traffic"
	}
	footer := "\n---\nSluice writes this text and renews it with `" + command + "`. " +
		"The gates are published as statuses of the head; whoever merges judges them anew.\n"
	sections := make([]string, len(in.Components))
	used := 2 * maxRest // a difference may be longer than its share by the names that it ends with
	for i, c := range in.Components {
		sections[i] = facts(in, c)
		used += utf8.RuneCountInString(sections[i])
	}
	var b strings.Builder
	for i, c := range in.Components {
		if utf8.RuneCountInString(b.String())+utf8.RuneCountInString(sections[i]) > maxBody-maxRest {
			fmt.Fprintf(&b, "\nToo long to show: %s.\n", names(in.Components[i:]))
			break
		}
		b.WriteString(sections[i])
		share := max(0, maxBody-used) / (len(in.Components) - i)
		text := difference(in, c, share)
		if utf8.RuneCountInString(b.String())+utf8.RuneCountInString(text) > maxBody-maxRest {
			// The names alone of many objects are long.
			text = fmt.Sprintf("\n### Rendered difference in %s\n\nToo long to show: `sluice diff --environment %s --ref %s` shows it.\n",
				foreign(in.Environment), in.Environment, in.Head)
		}
		used += utf8.RuneCountInString(text)
		b.WriteString(text)
	}
	return strings.TrimPrefix(b.String(), "\n") + footer
}

func names(components []ComponentInput) string {
	var list []string
	for _, c := range components {
		list = append(list, c.Name)
	}
	return codes(list)
}

// codes lists foreign names, each as code.
func codes(list []string) string {
	var out []string
	length := 0
	for i, name := range list {
		if i == maxNames || length > maxNamesText {
			return strings.Join(out, ", ") + fmt.Sprintf(" and %d more", len(list)-i)
		}
		out = append(out, foreign(name))
		length += utf8.RuneCountInString(out[i])
	}
	return strings.Join(out, ", ")
}

// foreign shows one foreign text of bounded length.
func foreign(text string) string { return code(cut(plain(text), maxForeign)) }

// facts is everything about one component but the rendered difference.
func facts(in Input, c ComponentInput) string {
	if in.Kind == KindTraffic {
		return trafficFacts(in, c)
	}
	var b strings.Builder
	old := "nothing yet"
	if c.Old != "" {
		old = code(short(c.Old))
	}
	fmt.Fprintf(&b, "\n## %s: %s → %s\n\n", foreign(c.Name), old, code(short(c.New)))
	into := foreign(in.Environment)
	if c.Tag != "" {
		into += ", tag " + foreign(c.Tag)
	}
	source := orElse(in.Policy.From, "nowhere")
	if c.Returns {
		source = in.Environment
		fmt.Fprintf(&b, "Back to a digest that %s has had before.\n\n", into)
	} else {
		fmt.Fprintf(&b, "From %s to %s.\n\n", foreign(source), into)
	}
	if c.Old != "" {
		fmt.Fprintf(&b, "- now: %s\n", buildLine(c.Old, c.OldBuild, c.OldPage))
	}
	fmt.Fprintf(&b, "- then: %s\n", buildLine(c.New, c.NewBuild, c.NewPage))

	b.WriteString("\n### Source\n\n" + sourceText(c))
	b.WriteString("\n### Traffic\n\n" + trafficText(c))
	b.WriteString("\n### Configuration\n\n" + configText(in, c))
	b.WriteString("\n### Checks\n\n" + checksText(in, c))
	fmt.Fprintf(&b, "\n### Health in %s\n\n%s", foreign(source), healthText(in, c))
	return b.String()
}

func buildLine(digest string, b *envrepo.Build, page string) string {
	text := foreign(digest)
	if b == nil {
		return text + ", no build record"
	}
	text += ", built " + stamp(b.CreatedAt)
	switch {
	case b.Run.URL != "":
		text += ", " + link("run "+foreign(orElse(b.Run.ID, "log")), b.Run.URL)
	case b.Run.ID != "":
		text += ", run " + foreign(b.Run.ID)
	}
	if harmless(page) {
		text += ", [record](" + page + ")"
	}
	return text
}

func sourceText(c ComponentInput) string {
	var b strings.Builder
	if c.NewBuild == nil {
		return "No build record says where the digest comes from.\n"
	}
	if c.Back {
		b.WriteString("**The new digest was built before the one it replaces.**\n\n")
	}
	shown := c.Between
	if len(shown) == 0 {
		shown = []envrepo.Build{*c.NewBuild}
	}
	for i, build := range shown {
		if i == maxCommits {
			fmt.Fprintf(&b, "- and %d more builds\n", len(shown)-i)
			break
		}
		commit := orElse(build.Source.Commit, "unknown commit")
		if hexCommit.MatchString(commit) {
			commit = commit[:min(12, len(commit))]
		}
		fmt.Fprintf(&b, "- %s", foreign(commit))
		if subject, _, _ := strings.Cut(strings.TrimSpace(build.Source.Message), "\n"); subject != "" {
			fmt.Fprintf(&b, " %s", foreign(subject))
		}
		fmt.Fprintf(&b, " (build %s)\n", foreign(build.ID()))
	}
	if address := compareURL(c.OldBuild, c.NewBuild); address != "" {
		fmt.Fprintf(&b, "\n[Compare the commits](%s)\n", address)
	} else if c.NewBuild.Source.Repository != "" {
		fmt.Fprintf(&b, "\nRepository: %s\n", foreign(c.NewBuild.Source.Repository))
	}
	return b.String()
}

var hexCommit = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// compareURL is the page of the source's forge that shows the commits between
// two builds, "" when it is not known.
func compareURL(from, to *envrepo.Build) string {
	if from == nil || to == nil || from.Source.Repository != to.Source.Repository ||
		!hexCommit.MatchString(from.Source.Commit) || !hexCommit.MatchString(to.Source.Commit) ||
		from.Source.Commit == to.Source.Commit {
		return ""
	}
	base := strings.TrimSuffix(strings.TrimSuffix(to.Source.Repository, "/"), ".git")
	u, err := url.Parse(base)
	if err != nil || !safeURL(base) || u.RawQuery != "" || u.Fragment != "" {
		return ""
	}
	if strings.Contains(u.Host, "gitlab") {
		base += "/-"
	}
	return base + "/compare/" + from.Source.Commit + "..." + to.Source.Commit
}

func trafficText(c ComponentInput) string {
	if c.NewTraffic == nil {
		return "The release is untagged: its pods are replaced by the new digest, and the traffic goes with them.\n"
	}
	weight, listed := c.NewTraffic.Weight(c.Tag)
	var was bool
	if c.OldTraffic != nil {
		_, was = c.OldTraffic.Weight(c.Tag)
	}
	var b strings.Builder
	switch {
	case !listed:
		fmt.Fprintf(&b, "%s is not listed in the weights: it gets the digest and runs no pods. No traffic moves.\n", foreign(c.Tag))
	case weight > 0:
		fmt.Fprintf(&b, "**%s serves %d %% of the traffic: its pods are replaced by the new digest.**\n", foreign(c.Tag), weight)
	case was:
		fmt.Fprintf(&b, "%s gets the digest at weight 0. No traffic moves.\n", foreign(c.Tag))
	default:
		fmt.Fprintf(&b, "%s gets the digest and is listed at weight 0, so that its pods start. No traffic moves.\n", foreign(c.Tag))
	}
	for _, mirror := range c.NewTraffic.Mirrors {
		if mirror.Tag == c.Tag && mirror.Percent > 0 {
			fmt.Fprintf(&b, "It receives a copy of %d %% of the requests.\n", mirror.Percent)
		}
	}
	fmt.Fprintf(&b, "\nWeights: %s\n", foreign(weights(c.NewTraffic)))
	return b.String()
}

func weights(t *envrepo.Traffic) string {
	var list []string
	for _, w := range t.Weights {
		list = append(list, fmt.Sprintf("%s=%d", w.Tag, w.Percent))
	}
	return strings.Join(list, " ")
}

func configText(in Input, c ComponentInput) string {
	if c.RenderError != "" {
		return "**The result does not render:** " + foreign(c.RenderError) + "\n"
	}
	if len(c.Contracts) == 0 {
		return "No contract is recorded.\n"
	}
	var b strings.Builder
	for _, contract := range c.Contracts {
		who := fmt.Sprintf("- %s (%s)", code(short(contract.Digest)), contract.who())
		switch {
		case !contract.Known:
			fmt.Fprintf(&b, "%s: no contract is recorded\n", who)
		case len(contract.Missing) > 0:
			fmt.Fprintf(&b, "%s: **missing** %s\n", who, codes(contract.Missing))
		case len(contract.Required) == 0:
			fmt.Fprintf(&b, "%s: nothing is required\n", who)
		case len(contract.Unsure) > 0:
			fmt.Fprintf(&b, "%s: requires %s\n", who, codes(contract.Required))
		default:
			fmt.Fprintf(&b, "%s: has %s\n", who, codes(contract.Required))
		}
		if len(contract.Invalid) > 0 {
			fmt.Fprintf(&b, "  **not allowed:** %s\n", codes(contract.Invalid))
		}
		if len(contract.Unsure) > 0 {
			fmt.Fprintf(&b, "  not certain: %s\n", codes(contract.Unsure))
		}
	}
	if !in.Policy.Gates.Config {
		b.WriteString("\nNot demanded by the policy.\n")
	}
	return b.String()
}

func checksText(in Input, c ComponentInput) string {
	var b strings.Builder
	demanded := slices.Clone(in.Policy.Gates.Checks)
	if c.NewBuild != nil {
		for i, check := range c.NewBuild.Checks {
			if i == maxChecks {
				fmt.Fprintf(&b, "- and %d more\n", len(c.NewBuild.Checks)-i)
				break
			}
			name := foreign(check.Name)
			switch {
			case safeURL(check.URL):
				name = link(name, check.URL)
			case check.URL != "":
				name += " " + foreign(check.URL)
			}
			fmt.Fprintf(&b, "- %s %s", name, foreign(check.Status))
			if check.Summary != "" {
				fmt.Fprintf(&b, ": %s", foreign(check.Summary))
			}
			if slices.Contains(demanded, check.Name) {
				b.WriteString(" (demanded)")
			}
			b.WriteString("\n")
		}
	}
	for _, name := range demanded {
		if c.NewBuild == nil || checkStatus(*c.NewBuild, name) == notRecorded {
			fmt.Fprintf(&b, "- %s **not recorded** (demanded)\n", foreign(name))
		}
	}
	if b.Len() == 0 {
		return "None is recorded and none is demanded.\n"
	}
	return b.String()
}

func healthText(in Input, c ComponentInput) string {
	if c.Returns {
		return returnText(c)
	}
	var b strings.Builder
	h := c.Health
	switch {
	case !h.Known:
		fmt.Fprintf(&b, "Unknown: %s\n", foreign(orElse(h.Message, "nobody reports it")))
	case c.MovedOn:
		run, ran := served(h, c.New)
		fmt.Fprintf(&b, "Has gone on to %s. ", code(short(c.Source)))
		if ran {
			fmt.Fprintf(&b, "This digest was ready there from %s to %s.\n", stamp(run.Since), stamp(run.Until))
		} else {
			b.WriteString("This digest was not ready there when it was replaced.\n")
		}
	case !slices.Contains(h.Digests, c.New):
		fmt.Fprintf(&b, "Does not run this digest; it runs %s.\n", codes(shorts(h.Digests)))
	case !h.Ready:
		fmt.Fprintf(&b, "**Not ready**: %s\n", foreign(orElse(h.Message, "no reason is reported")))
	case h.Since.IsZero():
		b.WriteString("Ready with this digest.\n")
	default:
		fmt.Fprintf(&b, "Ready with this digest since %s.\n", stamp(h.Since))
	}
	if soak := in.Policy.Gates.Soak; soak > 0 {
		fmt.Fprintf(&b, "A soak of %s is demanded", duration(soak))
		if !c.MovedOn && unhealthy(in, c) == "" && !h.Since.IsZero() {
			fmt.Fprintf(&b, ", over at %s", stamp(h.Since.Add(soak)))
		}
		b.WriteString(".\n")
	}
	return b.String()
}

func shorts(digests []string) []string {
	var out []string
	for _, d := range digests {
		out = append(out, short(d))
	}
	if len(out) == 0 {
		return []string{"nothing"}
	}
	return out
}

// difference shows the objects that merging changes, in at most limit
// characters or little more.
func difference(in Input, c ComponentInput, limit int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### Rendered difference in %s\n\n", foreign(in.Environment))
	if c.RenderError != "" {
		return b.String() + "None: the result does not render.\n"
	}
	if c.OldError != "" {
		fmt.Fprintf(&b, "What is there now does not render (%s), so all of it is shown as new.\n\n", foreign(c.OldError))
	}
	changes := slices.DeleteFunc(slices.Clone(c.Objects), func(d diff.Change) bool { return d.Kind == diff.None })
	if len(changes) == 0 {
		b.WriteString("No object changes.\n\n")
	}
	var omitted []string
	all := fmt.Sprintf("`sluice diff --environment %s --ref %s` shows all", in.Environment, in.Head)
	if harmless(c.OverlayPage) {
		all += " of what [the overlay](" + c.OverlayPage + ") becomes"
	}
	for _, change := range changes {
		text := object(change, all)
		if utf8.RuneCountInString(b.String())+utf8.RuneCountInString(text) > limit {
			omitted = append(omitted, change.ID)
			continue
		}
		b.WriteString(text)
	}
	if len(omitted) > 0 {
		fmt.Fprintf(&b, "Too long to show: %s. %s.\n\n", codes(omitted), all)
	}
	if len(c.Keyless) > 0 {
		fmt.Fprintf(&b, "Encrypted, by name only: %s\n\n", codes(c.Keyless))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// object shows the difference of one object, folded when it is long; all says where
// what is cut can be seen.
func object(change diff.Change, all string) string {
	text := strings.TrimRight(change.Text, "\n")
	lines := strings.Split(text, "\n")
	rest := ""
	if len(lines) > maxObjectLines {
		rest = fmt.Sprintf("%d more lines: %s.\n\n", len(lines)-maxObjectLines, all)
		text = strings.Join(lines[:maxObjectLines], "\n")
	}
	if len(lines) <= foldedLines {
		return fmt.Sprintf("%s %s\n\n%s\n", change.Kind, foreign(change.ID), block("diff", text))
	}
	return fmt.Sprintf("<details><summary>%s %s</summary>\n\n%s\n%s</details>\n\n",
		html.EscapeString(change.Kind), summary(cut(change.ID, maxForeign)), block("diff", text), rest)
}
