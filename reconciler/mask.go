package reconciler

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// masked is a message in one line with the decrypted values taken out: plain, in
// one line, in the encoding of a Secret, and quoted as in JSON and in Go.
func masked(message string, values []string) string {
	for _, form := range formsOf(values, len(message)) {
		message = strings.ReplaceAll(message, form, "(secret)")
	}
	return strings.Join(strings.Fields(message), " ")
}

// shortestMasked is the shortest value that is looked for: a shorter one would
// take letters out of every word.
const shortestMasked = 3

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
	v.Message = masked(v.Message, values)
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
