package github

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/promotion"
)

const (
	maxText       = 65_000 // characters of a body or a comment: GitHub takes 65,536
	maxComponents = 200    // of one promotion
)

// The components of a promotion of several stand in a marker at the end of the body.
// Anybody who may edit the text can write one too.
const (
	componentsStart = "\n<!-- sluice:components "
	componentsEnd   = " -->"
)

// mark is the comment of a key, as promotion.SplitComment takes it apart.
func mark(key, text string) string { return cut(promotion.MarkComment(key, normal(text)), maxText) }

// normal undoes what a browser does to line ends, however often it has done it.
func normal(text string) string { return lineEnd.ReplaceAllString(text, "\n") }

var lineEnd = regexp.MustCompile("\r+\n")

// withComponents is a pull request's body with what its branch does not tell: the
// components that are promoted together.
func withComponents(body string, components []string) string {
	components = slices.Compact(slices.Sorted(slices.Values(components)))
	tail := componentsStart + strings.Join(components, ",") + componentsEnd
	return cut(strings.TrimSuffix(normal(body), "\n"), maxText-len([]rune(tail))-1) + "\n" + tail
}

// splitComponents is the reverse. A body without the marker, or with one that no
// promotion has, is returned whole.
func splitComponents(text string) (body string, components []string) {
	text = normal(text)
	at := strings.LastIndex(text, componentsStart)
	if at < 0 {
		return text, nil
	}
	list, rest, ok := strings.Cut(text[at+len(componentsStart):], componentsEnd)
	if !ok || strings.TrimSpace(rest) != "" {
		return text, nil
	}
	components = strings.Split(list, ",")
	if len(components) > maxComponents || slices.ContainsFunc(components, func(name string) bool {
		_, component, ok := promotion.ParseBranch(promotion.BranchName("any", name))
		return !ok || component == promotion.AllComponents
	}) {
		return text, nil
	}
	return text[:at], slices.Compact(slices.Sorted(slices.Values(components)))
}

// The reason why a pull request was closed is a comment of its own.
const (
	reasonKey   = "closed"
	reasonStart = "Closed: "
	maxReason   = 500 // characters
)

// reasonText is the comment that gives a reason. Reasons hold names out of the
// repository, so they stand in a code span, where nothing is linked or mentioned.
func reasonText(reason string) string {
	return mark(reasonKey, reasonStart+span(cut(printable(reason), maxReason))+"\n")
}

// readReason is the reverse, of the comment without its marker.
func readReason(body string) string {
	line, _, _ := strings.Cut(body, "\n")
	rest, ok := strings.CutPrefix(line, reasonStart)
	if !ok {
		return ""
	}
	return cut(printable(unspan(rest)), maxReason)
}

// span puts a line into a Markdown code span, with more backticks around it than
// it has in it.
func span(text string) string {
	longest, run := 0, 0
	for i := range len(text) {
		if text[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	ticks := strings.Repeat("`", longest+1)
	if text == "" || strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") {
		text = " " + text + " "
	}
	return ticks + text + ticks
}

// unspan is the reverse; a text that is no code span stays as it is.
func unspan(text string) string {
	inner := strings.TrimLeft(text, "`")
	ticks := text[:len(text)-len(inner)]
	inner, ok := strings.CutSuffix(inner, ticks)
	if ticks == "" || !ok {
		return text
	}
	if trimmed := strings.TrimSuffix(strings.TrimPrefix(inner, " "), " "); len(trimmed) == len(inner)-2 {
		return trimmed
	}
	return inner
}
