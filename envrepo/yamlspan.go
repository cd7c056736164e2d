package envrepo

// Where the nodes of a YAML file stand in its bytes: the parser says only where
// they start.

import (
	"bytes"
	"sigs.k8s.io/kustomize/kyaml/yaml"
	"sort"
	"strings"
	"unicode/utf8"
)

// span is where a node or an entry stands in the source.
type span struct{ start, end int }

// lineOffsets finds the lines as the YAML parser counts them.
func lineOffsets(src []byte) []int {
	start := 0
	if bytes.HasPrefix(src, []byte("\uFEFF")) {
		start = len("\uFEFF")
	}
	lines := []int{start}
	for i := start; i < len(src); {
		n := lineBreak(src[i:])
		if n == 0 {
			i++
			continue
		}
		i += n
		lines = append(lines, i)
	}
	return lines
}

// lineBreak returns the length of the line break that s starts with, or 0.
func lineBreak(s []byte) int {
	switch {
	case len(s) == 0:
		return 0
	case s[0] == '\n':
		return 1
	case s[0] == '\r' && len(s) > 1 && s[1] == '\n':
		return 2
	case s[0] == '\r':
		return 1
	case s[0] == 0xC2 && len(s) > 1 && s[1] == 0x85:
		return 2
	case s[0] == 0xE2 && len(s) > 2 && s[1] == 0x80 && (s[2] == 0xA8 || s[2] == 0xA9):
		return 3
	}
	return 0
}

// offset is where a node starts. Columns count characters; the last answer is
// where the next search on the same line begins, since a long line would cost
// its square otherwise.
func (f *yamlFile) offset(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(f.lines) {
		return 0, false
	}
	if f.cursor.line != n.Line || f.cursor.column > n.Column {
		f.cursor = cursor{line: n.Line, column: 1, offset: f.lines[n.Line-1]}
	}
	for ; f.cursor.column < n.Column; f.cursor.column++ {
		if f.cursor.offset >= len(f.src) {
			return 0, false
		}
		_, size := utf8.DecodeRune(f.src[f.cursor.offset:])
		f.cursor.offset += size
	}
	return f.cursor.offset, true
}

type cursor struct{ line, column, offset int }

// span is where a node stands; false when that cannot be told.
func (f *yamlFile) span(n *yaml.Node) (span, bool) {
	start, ok := f.offset(n)
	if !ok {
		return span{}, false
	}
	end, ok := f.end(n, start)
	return span{start, end}, ok && start <= end && end <= len(f.src)
}

func (f *yamlFile) end(n *yaml.Node, start int) (int, bool) {
	at := f.skipProperties(n, start)
	switch n.Kind {
	case yaml.AliasNode:
		return at + 1 + len(n.Value), true
	case yaml.ScalarNode:
		return f.scalarEnd(n, at)
	}
	if n.Style&yaml.FlowStyle == 0 {
		if len(n.Content) == 0 {
			return 0, false
		}
		last, ok := f.span(n.Content[len(n.Content)-1])
		return last.end, ok
	}
	at++ // the opening bracket
	if len(n.Content) > 0 {
		last, ok := f.span(n.Content[len(n.Content)-1])
		if !ok {
			return 0, false
		}
		at = last.end
	}
	for at = f.skipBlank(at); at < len(f.src) && (f.src[at] == ',' || f.src[at] == ':'); {
		at = f.skipBlank(at + 1)
	}
	if at >= len(f.src) || f.src[at] != '}' && f.src[at] != ']' {
		return 0, false
	}
	return at + 1, true
}

// skipProperties skips the anchor and the tag before a value.
func (f *yamlFile) skipProperties(n *yaml.Node, at int) int {
	if n.Anchor == "" && n.Style&yaml.TaggedStyle == 0 || n.Style&yaml.FlowStyle == 0 && n.Kind != yaml.ScalarNode {
		return at
	}
	for at < len(f.src) && (f.src[at] == '&' || f.src[at] == '!') {
		for at < len(f.src) && f.src[at] != ' ' && lineBreak(f.src[at:]) == 0 {
			at++
		}
		at = f.skipBlank(at)
	}
	return at
}

// scalarEnd finds the end of a scalar that starts at at.
func (f *yamlFile) scalarEnd(n *yaml.Node, at int) (int, bool) {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return f.quotedEnd(at, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		return f.quotedEnd(at, '\'')
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return f.literalEnd(n, at)
	}
	// Plain: the value as it stands, but that line folding makes one space, or
	// line breaks, of what separates words.
	value := n.Value
	for value != "" {
		if value[0] == ' ' || value[0] == '\n' {
			blank := f.skipSpaces(at)
			if blank == at {
				return 0, false
			}
			at, value = blank, strings.TrimLeft(value, " \n\t")
			continue
		}
		if at >= len(f.src) || f.src[at] != value[0] {
			return 0, false
		}
		at, value = at+1, value[1:]
	}
	return at, true
}

func (f *yamlFile) quotedEnd(at int, quote byte) (int, bool) {
	if at >= len(f.src) || f.src[at] != quote {
		return 0, false
	}
	for i := at + 1; i < len(f.src); i++ {
		switch {
		case quote == '"' && f.src[i] == '\\':
			i++
		case quote == '\'' && f.src[i] == quote && i+1 < len(f.src) && f.src[i+1] == quote:
			i++
		case f.src[i] == quote:
			return i + 1, true
		}
	}
	return 0, false
}

// literalEnd finds the end of a block scalar: the last line that is indented
// as its first one.
func (f *yamlFile) literalEnd(n *yaml.Node, at int) (int, bool) {
	end := f.lineEnd(at)
	header, _, _ := strings.Cut(string(f.src[at:end]), "#")
	if strings.Contains(header, "+") {
		return 0, false // blank lines at its end belong to it
	}
	if strings.TrimSpace(n.Value) == "" {
		return end, n.Value == ""
	}
	indent := -1
	for i := f.lineAt(at) + 1; i < len(f.lines); i++ {
		start := f.lines[i]
		text := start
		for text < len(f.src) && f.src[text] == ' ' {
			text++
		}
		if text >= len(f.src) || lineBreak(f.src[text:]) > 0 {
			continue
		}
		if indent < 0 {
			indent = text - start
		}
		if text-start < indent {
			break
		}
		end = f.lineEnd(text)
	}
	return end, indent > 0
}

func (f *yamlFile) lineAt(at int) int {
	return sort.Search(len(f.lines), func(i int) bool { return f.lines[i] > at }) - 1
}

// lineEnd is the end of the line without its break.
func (f *yamlFile) lineEnd(at int) int {
	for at < len(f.src) && lineBreak(f.src[at:]) == 0 {
		at++
	}
	return at
}

// nextLine is the start of the line after the one that holds at.
func (f *yamlFile) nextLine(at int) int {
	at = f.lineEnd(at)
	return at + lineBreak(f.src[at:])
}

// skipSpaces skips spaces and line breaks.
func (f *yamlFile) skipSpaces(at int) int {
	for at < len(f.src) {
		if f.src[at] == ' ' || f.src[at] == '\t' {
			at++
		} else if n := lineBreak(f.src[at:]); n > 0 {
			at += n
		} else {
			break
		}
	}
	return at
}

// skipBlank skips spaces, line breaks and comments.
func (f *yamlFile) skipBlank(at int) int {
	for {
		at = f.skipSpaces(at)
		if at >= len(f.src) || f.src[at] != '#' {
			return at
		}
		at = f.lineEnd(at)
	}
}

// startsLine reports whether nothing but spaces stands before at on its line.
func (f *yamlFile) startsLine(at int) bool {
	start := f.lines[f.lineAt(at)]
	for at > start && (f.src[at-1] == ' ' || f.src[at-1] == '\t') {
		at--
	}
	return at == start
}

// endsLine reports whether nothing but spaces and a comment stands after at on
// its line.
func (f *yamlFile) endsLine(at int) bool {
	for at < len(f.src) && (f.src[at] == ' ' || f.src[at] == '\t') {
		at++
	}
	return at == len(f.src) || f.src[at] == '#' || lineBreak(f.src[at:]) > 0
}

// eol is the file's line break.
func (f *yamlFile) eol() string {
	if end := f.lineEnd(0); lineBreak(f.src[end:]) == 2 && f.src[end] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// entries are the spans of the entries of a mapping (from key to the end of
// the value) or a sequence (in block style from the dash on).
func (f *yamlFile) entries(n *yaml.Node) ([]span, bool) {
	var spans []span
	block := n.Style&yaml.FlowStyle == 0
	start, ok := f.offset(n)
	if !ok {
		return nil, false
	}
	at := f.skipProperties(n, start)
	if n.Kind == yaml.SequenceNode {
		for _, c := range n.Content {
			s, ok := f.span(c)
			if !ok {
				return nil, false
			}
			if block {
				if s.start = f.skipBlank(at); s.start >= len(f.src) || f.src[s.start] != '-' {
					return nil, false
				}
			}
			spans = append(spans, s)
			at = s.end
		}
		return spans, true
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := f.span(n.Content[i])
		if !ok {
			return nil, false
		}
		value, ok := f.span(n.Content[i+1])
		if !ok {
			return nil, false
		}
		if marker := f.skipBlank(at); block && marker < key.start && f.src[marker] == '?' {
			key.start = marker
		}
		at = max(value.end, key.end)
		spans = append(spans, span{key.start, at})
	}
	return spans, true
}

// commaAfter is the end of the comma that follows an entry of a flow
// collection, 0 when none does.
func (f *yamlFile) commaAfter(s span) int {
	if at := f.skipBlank(s.end); at < len(f.src) && f.src[at] == ',' {
		return at + 1
	}
	return 0
}

// ownLine reports whether an entry, with its comma, has a line to itself.
func (f *yamlFile) ownLine(s span) bool {
	end := max(s.end, f.commaAfter(s))
	return f.startsLine(s.start) && f.endsLine(end) && f.lineAt(end) == f.lineAt(s.end)
}
