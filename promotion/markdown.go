package promotion

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What people and programs write into a repository is hostile input to a pull
// request's body: it may hold HTML, links, mentions, references to issues and
// control characters. A forge turns mentions and references into links after
// Markdown, so that escaping with backslashes does not stop them; inside code
// it leaves them alone. Foreign text therefore always goes into a code span, a
// fenced block or <code>, never into prose.

// plain makes one line of any text: white space becomes single spaces,
// characters that are not for display become their escape.
func plain(text string) string {
	var b strings.Builder
	space := false
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		writeVisible(&b, r)
	}
	return b.String()
}

// writeVisible writes r, or its escape when it would not be seen or would
// change what is seen around it (control characters, bidirectional overrides).
func writeVisible(b *strings.Builder, r rune) {
	if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) {
		fmt.Fprintf(b, "\\u%04X", r)
		return
	}
	b.WriteRune(r)
}

// cut shortens text to at most n characters.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// unmarked breaks what begins an HTML comment. Forges and programs keep marks in
// such comments, and look for them without minding code: foreign text must not
// hold one.
func unmarked(text string) string { return strings.ReplaceAll(text, "<!--", "<! --") }

// code puts foreign text into a code span of one line.
func code(text string) string {
	text = unmarked(plain(text))
	if text == "" {
		return "(empty)"
	}
	ticks := strings.Repeat("`", longestRun(text, '`')+1)
	if strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") {
		text = " " + text + " "
	}
	return ticks + text + ticks
}

// block puts foreign text into a fenced block.
func block(language, text string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if r == '\n' || r == '\t' {
			b.WriteRune(r)
			continue
		}
		writeVisible(&b, r)
	}
	content := unmarked(strings.TrimRight(b.String(), "\n"))
	fence := strings.Repeat("`", max(3, longestRun(content, '`')+1))
	return fence + language + "\n" + content + "\n" + fence + "\n"
}

// summary puts foreign text into the summary line of a <details> element,
// which is HTML and not Markdown.
func summary(text string) string {
	return "<code>" + html.EscapeString(unmarked(plain(text))) + "</code>"
}

// plainURL is what may stand in a Markdown link without escaping.
var plainURL = regexp.MustCompile(`^https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/?&=%+,;:-]*)?(#[A-Za-z0-9._~/=-]*)?$`)

// link makes a link of an address when it is a harmless one, and shows it as
// code otherwise. label is our own text.
func link(label, address string) string {
	if safeURL(address) {
		return "[" + label + "](" + address + ")"
	}
	return label + " " + code(address)
}

// noticed are pages that a forge tells of every link to them.
var noticed = regexp.MustCompile(`/(issues|pull|pulls|merge_requests|commit|discussions)/`)

// safeURL reports whether an address may be linked: http(s), without a user
// name, of harmless characters, and to no page that would be notified.
func safeURL(address string) bool { return harmless(address) && !noticed.MatchString(address) }

// harmless reports whether an address may be linked that our own forge gave: to a
// page of this very repository.
func harmless(address string) bool {
	if len(address) > 500 || !plainURL.MatchString(address) {
		return false
	}
	u, err := url.Parse(address)
	return err == nil && u.User == nil && u.Host != ""
}

// longestRun counts the longest run of c in text.
func longestRun(text string, c byte) int {
	longest, run := 0, 0
	for i := range len(text) {
		if text[i] != c {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}
