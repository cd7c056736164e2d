package promotion

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// A forge has no place for some of what a pull request is, and no key by which a
// comment is found again. Both stand in comments of HTML, which a forge does not
// show. Whoever may edit the text may edit them: they are read to be shown, and
// nothing is decided by them.

// MaxNote bounds how much of a note is read, in bytes.
const MaxNote = 64 << 10

const (
	markerPrefix = "<!-- sluice:"
	markerSuffix = " -->"
	notePrefix   = markerPrefix + "pull "
)

// Note is what an adapter keeps in a pull request's body.
type Note struct {
	Components []string `json:"components,omitempty"` // of a promotion of several
	Reason     string   `json:"reason,omitempty"`     // why it was closed
	Landed     string   `json:"landed,omitempty"`     // closed because this revision of the target already holds it
	Head       string   `json:"head,omitempty"`       // where it was when it was closed
}

// Append adds the note to a body.
func (n Note) Append(body string) string {
	data, err := json.Marshal(n)
	if err != nil {
		return body // strings always encode
	}
	// JSON escapes <, > and &, so the note cannot end its comment.
	return body + "\n" + notePrefix + string(data) + markerSuffix + "\n"
}

// SplitNote undoes Append: it returns the body and the note at its end, or the
// text as it is and nothing.
func SplitNote(text string) (body string, n Note) {
	// A forge's form may have changed the ends of lines, and cut the last.
	normal := strings.ReplaceAll(text, "\r\n", "\n")
	start := strings.LastIndex(normal, "\n"+notePrefix)
	if start < 0 {
		return text, Note{}
	}
	rest := strings.TrimRight(normal[start+1+len(notePrefix):], "\n ")
	data, ended := strings.CutSuffix(rest, strings.TrimRight(markerSuffix, " "))
	if !ended || len(data) > MaxNote || json.Unmarshal([]byte(data), &n) != nil || !n.valid() {
		return text, Note{}
	}
	n.Reason = OneLine(n.Reason, maxReason)
	return normal[:start], n
}

// maxReason is the longest reason for closing, in characters.
const maxReason = 500

var fullHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// IsCommit reports whether s is the whole hash of a commit.
func IsCommit(s string) bool { return fullHash.MatchString(s) }

func (n Note) valid() bool {
	return !slices.ContainsFunc(n.Components, func(c string) bool { return !nameFormat.MatchString(c) }) &&
		(n.Landed == "" || IsCommit(n.Landed)) && (n.Head == "" || IsCommit(n.Head))
}

// MarkComment puts the marker of a key, which CheckKey takes, above a comment's
// body, so that SplitComment finds both again.
func MarkComment(key, body string) string { return markerPrefix + key + markerSuffix + "\n" + body }

// SplitComment undoes MarkComment; ok is false for a comment that does not begin
// with a marker: in a quotation it does not count.
func SplitComment(text string) (key, body string, ok bool) {
	first, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	key, ok = strings.CutPrefix(strings.TrimRight(first, " \t"), markerPrefix)
	if ok {
		key, ok = strings.CutSuffix(key, markerSuffix)
	}
	if !ok || CheckKey(key) != nil {
		return "", "", false
	}
	return key, body, true
}

// ClosingComment is the body of the comment that says why a pull request was
// closed.
func ClosingComment(reason string) string {
	return "Closed by Sluice: " + code(cut(plain(reason), maxReason)) + "\n"
}

// OneLine is foreign text as one line of at most n characters, with nothing in it
// that would not be seen: for errors and terminals, not for Markdown.
func OneLine(text string, n int) string { return cut(plain(text), n) }
