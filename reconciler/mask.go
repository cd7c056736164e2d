package reconciler

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// masked is a message in one line with the decrypted values taken out: plain, in
// one line, in the encoding of a Secret, and quoted as in JSON and in Go. What was
// clipped on its way here, by whomever, has lost the end of a value perhaps: the
// beginning that is left of one goes as well.
func masked(message string, values []string) string {
	for _, form := range formsOf(values, len(message)) {
		message = strings.ReplaceAll(message, form, secretMark)
	}
	if strings.Contains(message, ellipsis) {
		message = withoutBeginnings(message, formsOf(values, math.MaxInt))
	}
	return strings.Join(strings.Fields(message), " ")
}

const (
	secretMark = "(secret)"
	// ellipsis ends what was clipped, in all packages.
	ellipsis = "…"
	// shortestMasked is the shortest value, and beginning of one, that is looked
	// for: a shorter one would take letters out of every word.
	shortestMasked = 3
)

// withoutBeginnings takes out what stands in front of an ellipsis and is the
// beginning of one of the forms: the longest.
func withoutBeginnings(message string, forms []string) string {
	parts := strings.Split(message, ellipsis)
	for i, part := range parts[:len(parts)-1] {
		longest := 0
		for _, form := range forms {
			longest = max(longest, overlap(part, form))
		}
		if longest >= shortestMasked {
			parts[i] = part[:len(part)-longest] + secretMark
		}
	}
	return strings.Join(parts, ellipsis)
}

// overlap is the length of the longest end of text that form begins with.
func overlap(text, form string) int {
	for n := min(len(text), len(form)); n > 0; n-- {
		if strings.HasSuffix(text, form[:n]) {
			return n
		}
	}
	return 0
}

// formsOf are the ways in which values can stand in a text of some length, the
// longest first: one value may be part of another.
func formsOf(values []string, length int) []string {
	var forms []string
	for _, v := range values {
		line := strings.Join(strings.Fields(v), " ")
		candidates := []string{line}
		if len(v) <= length {
			inGo := strconv.Quote(v)
			inJSON, _ := json.Marshal(v) // a string always can be
			candidates = append(candidates, v, strings.TrimSpace(v), base64.StdEncoding.EncodeToString([]byte(v)),
				inGo[1:len(inGo)-1], string(inJSON[1:len(inJSON)-1]))
		}
		for _, form := range candidates {
			if shortestMasked <= len(form) && len(form) <= length {
				forms = append(forms, form)
			}
		}
	}
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return slices.Compact(forms)
}

// masked is the verdict with the decrypted values taken out of all that it says.
// Not only errors quote them: so do pods when they end, and what a readiness
// expression makes of an object.
func (v Verdict) masked(values []string) Verdict {
	if len(values) == 0 {
		return v
	}
	v.Message, v.hint = masked(v.Message, values), masked(v.hint, values)
	v.Notes = slices.Clone(v.Notes)
	for i := range v.Notes {
		v.Notes[i] = masked(v.Notes[i], values)
	}
	v.tags = slices.Clone(v.tags)
	for i := range v.tags {
		v.tags[i].Message = masked(v.tags[i].Message, values)
	}
	return v
}
