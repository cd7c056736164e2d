package envrepo

import (
	"bytes"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// yamlFile is a YAML file under edit. Its comments, order, quotes and
// indentation belong to the user, so an edit replaces bytes instead of printing
// the file anew:
//
//  1. The file is parsed twice, into root, which never changes and whose
//     positions say where the bytes are, and into want.
//  2. Each edit changes want, and notes which bytes of the source to replace.
//  3. bytes applies the replacements, parses the result and compares it with
//     want. So an edit that went wrong, however odd the formatting, is noticed.
//  4. Then, or when an edit found no way to do it in place, want is printed.
//     That keeps comments and order, but neither spacing nor indentation.
type yamlFile struct {
	name    string
	src     []byte
	root    *yaml.Node
	want    *yaml.Node
	twin    map[*yaml.Node]*yaml.Node // from root to want
	lines   []int                     // offset of each line
	cursor  cursor
	splices []splice
	print   bool // an edit found no way to do it in place
}

// splice replaces the bytes from start to end.
type splice struct {
	start, end int
	text       string
}

// entry is what an edit adds to a mapping or a sequence: a value, with its
// name in a mapping. A collection with FlowStyle is written on one line
// wherever it goes.
type entry struct {
	key   string
	value *yaml.Node
}

// oldBool are strings that readers of YAML 1.1, of which Kubernetes has some,
// take for a boolean.
var oldBool = regexp.MustCompile(`^(?i:y|yes|n|no|on|off)$`)

func textNode(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagString, Value: s}
	if oldBool.MatchString(s) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

func numberNode(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagInt, Value: strconv.Itoa(n)}
}

// mapNode makes a mapping of entries.
func mapNode(style yaml.Style, entries ...entry) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: yaml.NodeTagMap, Style: style}
	for _, e := range entries {
		n.Content = append(n.Content, textNode(e.key), e.value)
	}
	return n
}

func listNode(style yaml.Style, items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: yaml.NodeTagSeq, Style: style, Content: items}
}

// writeNode prints a node: in flow style on one line, and then with all
// strings quoted, as in JSON, on demand.
func writeNode(n *yaml.Node, flow, quoted bool) (string, error) {
	var out bytes.Buffer
	if flow {
		n = restyle(n, quoted)
	}
	if err := yaml.NewEncoder(&out).Encode(n); err != nil {
		return "", fmt.Errorf("printing YAML: %w", err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func restyle(n *yaml.Node, quoted bool) *yaml.Node {
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: yaml.FlowStyle}
	if n.Kind == yaml.ScalarNode {
		if c.Style = n.Style &^ (yaml.LiteralStyle | yaml.FoldedStyle); quoted && n.ShortTag() == yaml.NodeTagString {
			c.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, child := range n.Content {
		c.Content = append(c.Content, restyle(child, quoted))
	}
	return c
}

// openYAML parses a file for editing.
func openYAML(name string, src []byte) (*yamlFile, error) {
	root, err := parseDocument(name, src)
	if err != nil {
		return nil, err
	}
	want, err := parseDocument(name, src)
	if err != nil {
		return nil, err
	}
	f := &yamlFile{name: name, src: src, root: root, want: want, twin: map[*yaml.Node]*yaml.Node{}}
	f.pair(root, want)
	f.lines = lineOffsets(src)
	return f, nil
}

func (f *yamlFile) pair(a, b *yaml.Node) {
	f.twin[a] = b
	for i := range a.Content {
		f.pair(a.Content[i], b.Content[i])
	}
}

// get returns the value of a field of a mapping of root, nil when there is none.
func (f *yamlFile) get(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// setScalar replaces a scalar's value. A string keeps its quotes; value must
// not need any. tag is the type that the value must have afterwards.
func (f *yamlFile) setScalar(n *yaml.Node, tag, value string) {
	w := f.twin[n]
	style := w.Style & (yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle)
	if tag != yaml.NodeTagString {
		style = 0
	}
	*w = yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Style: style,
		HeadComment: w.HeadComment, LineComment: w.LineComment, FootComment: w.FootComment}
	at, ok := f.span(n)
	if !ok || n.Kind != yaml.ScalarNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		f.print = true
		return
	}
	switch {
	case style != 0:
		at.start++
		at.end--
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Value == "":
		f.print = true
		return
	}
	f.splices = append(f.splices, splice{at.start, at.end, value})
}

// replace puts another value in a node's place. There is no way to do that in
// the place of any node, so the file is printed.
func (f *yamlFile) replace(n, value *yaml.Node) {
	*f.twin[n] = *value
	f.print = true
}

// bytes returns the edited file.
func (f *yamlFile) bytes() ([]byte, error) {
	if !f.print {
		if out, ok := f.spliced(); ok {
			if root, err := parseDocument(f.name, out); err == nil && sameTree(root, f.want) {
				return out, nil
			}
		}
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	if f.sequenceIndent() > 0 {
		encoder.DefaultSeqIndent()
	}
	if err := encoder.Encode(f.want); err != nil {
		return nil, fmt.Errorf("editing %s: %w", f.name, err)
	}
	root, err := parseDocument(f.name, out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("editing %s: %w", f.name, err)
	}
	if !sameTree(root, f.want) {
		return nil, &FileError{File: f.name, Message: "cannot be edited without changing something else", hint: "edit the file by hand, or write it in a plainer style"}
	}
	return out.Bytes(), nil
}

// spliced applies the replacements; false when two of them overlap.
func (f *yamlFile) spliced() ([]byte, bool) {
	sort.SliceStable(f.splices, func(i, j int) bool {
		a, b := f.splices[i], f.splices[j]
		if a.start != b.start {
			return a.start < b.start
		}
		return a.end == a.start && b.end > b.start // insert first, then delete
	})
	var out []byte
	at := 0
	for _, s := range f.splices {
		if s.start < at || s.end < s.start || s.end > len(f.src) {
			return nil, false
		}
		out = append(out, f.src[at:s.start]...)
		out = append(out, s.text...)
		at = s.end
	}
	return append(out, f.src[at:]...), true
}

// sameTree compares what two documents mean, key order included: not
// positions, comments and styles.
func sameTree(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Value != b.Value || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind != yaml.AliasNode && a.ShortTag() != b.ShortTag() {
		return false
	}
	for i := range a.Content {
		if !sameTree(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// sequenceIndent is by how much the file's block sequences are indented below
// their key: 0 when there is none to learn from.
func (f *yamlFile) sequenceIndent() int {
	indent, _ := f.indents(f.root)
	return max(0, indent)
}

// indents returns how far the first block sequence and the first block mapping
// stand right of their key, −1 where there is none.
func (f *yamlFile) indents(n *yaml.Node) (sequence, mapping int) {
	sequence, mapping = -1, -1
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && c.Style&yaml.FlowStyle == 0 && c.Line > n.Content[i-1].Line {
			by := c.Column - n.Content[i-1].Column
			if c.Kind == yaml.SequenceNode && sequence < 0 {
				sequence = by
			}
			if c.Kind == yaml.MappingNode && mapping < 0 {
				mapping = by
			}
		}
		s, m := f.indents(c)
		if sequence < 0 {
			sequence = s
		}
		if mapping < 0 {
			mapping = m
		}
	}
	return sequence, mapping
}

// rewrite removes entries of a mapping or a sequence of root, by index, and
// adds others after the ones that stay. It may be called once for a node.
func (f *yamlFile) rewrite(n *yaml.Node, remove func(i int) bool, add ...entry) {
	f.rewriteWant(n, remove, add)
	spans, ok := f.entries(n)
	if ok && n.Style&yaml.FlowStyle != 0 {
		ok = f.rewriteFlow(n, spans, remove, add)
	} else if ok {
		ok = f.rewriteBlock(n, spans, remove, add)
	}
	f.print = f.print || !ok
}

func keepAll(int) bool { return false }

func (f *yamlFile) rewriteWant(n *yaml.Node, remove func(i int) bool, add []entry) {
	w := f.twin[n]
	step := 1
	if n.Kind == yaml.MappingNode {
		step = 2
	}
	var content []*yaml.Node
	for i := 0; i+step <= len(n.Content); i += step {
		if !remove(i / step) {
			content = append(content, w.Content[i:i+step]...)
		}
	}
	for _, e := range add {
		if step == 2 {
			content = append(content, textNode(e.key))
		}
		content = append(content, e.value)
	}
	w.Content = content
}

// rewriteBlock removes whole lines and adds lines.
func (f *yamlFile) rewriteBlock(n *yaml.Node, spans []span, remove func(i int) bool, add []entry) bool {
	if len(spans) == 0 {
		return false
	}
	after := spans[len(spans)-1]
	for i, s := range spans {
		if !remove(i) {
			after = s
			continue
		}
		if !f.startsLine(s.start) || !f.endsLine(s.end) {
			return false
		}
		f.splices = append(f.splices, splice{f.lines[f.lineAt(s.start)], f.nextLine(s.end), ""})
	}
	if len(add) == 0 {
		return true
	}
	if !f.endsLine(after.end) {
		return false
	}
	at := f.nextLine(after.end)
	if n == f.root {
		at = f.documentEnd(at)
	}
	var text strings.Builder
	if at == len(f.src) && f.lineEnd(f.lines[len(f.lines)-1]) == at && f.lines[len(f.lines)-1] < at {
		text.WriteString(f.eol()) // the last line has no break
	}
	for _, e := range add {
		lines, err := f.blockLines(n, e)
		if err != nil {
			return false
		}
		for _, line := range lines {
			text.WriteString(strings.Repeat(" ", n.Column-1) + line + f.eol())
		}
	}
	f.splices = append(f.splices, splice{at, at, text.String()})
	return true
}

// blockLines writes an entry in block style, without the indentation of the
// collection that it goes into.
func (f *yamlFile) blockLines(n *yaml.Node, e entry) ([]string, error) {
	text, err := writeNode(e.value, e.value.Style&yaml.FlowStyle != 0, false)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(text, "\n")
	if n.Kind == yaml.SequenceNode {
		for i := range lines {
			lines[i] = strings.Repeat(" ", min(i, 1)*2) + lines[i]
		}
		lines[0] = "- " + lines[0]
		return lines, nil
	}
	key, err := writeNode(textNode(e.key), true, false)
	if err != nil {
		return nil, err
	}
	if e.value.Kind == yaml.ScalarNode || e.value.Style&yaml.FlowStyle != 0 {
		lines[0] = key + ": " + lines[0]
		return lines, nil
	}
	sequence, by := f.indents(f.root)
	if e.value.Kind == yaml.SequenceNode {
		by = max(0, sequence)
	} else if by < 1 {
		by = yaml.DefaultIndent
	}
	for i := range lines {
		lines[i] = strings.Repeat(" ", by) + lines[i]
	}
	return append([]string{key + ":"}, lines...), nil
}

// documentEnd is where a line can be added to the document, whose last field
// ends before after: behind what comments follow, before the end marker and
// the blank lines at the end of the file.
func (f *yamlFile) documentEnd(after int) int {
	for i := f.lineAt(after); i < len(f.lines); i++ {
		start := f.lines[i]
		line := f.src[start:f.lineEnd(start)]
		if start < after {
			continue
		}
		if bytes.HasPrefix(line, []byte("...")) {
			break
		}
		if len(bytes.TrimSpace(line)) > 0 {
			after = f.nextLine(start)
		}
	}
	return after
}

// rewriteFlow removes entries and adds others within the brackets, on lines of
// their own where the entries have such.
func (f *yamlFile) rewriteFlow(n *yaml.Node, spans []span, remove func(i int) bool, add []entry) bool {
	texts, err := flowTexts(n, add)
	if err != nil {
		return false
	}
	start, ok := f.offset(n)
	if !ok {
		return false
	}
	if len(spans) == 0 {
		at := f.skipProperties(n, start) + 1
		f.splices = append(f.splices, splice{at, at, strings.Join(texts, ", ")})
		return true
	}
	last, kept := len(spans)-1, -1
	for i := range spans {
		if !remove(i) {
			kept = i
		}
	}
	if kept < 0 {
		f.splices = append(f.splices, splice{spans[0].start, spans[last].end, strings.Join(texts, ", ")})
		return true
	}
	f.removeFlow(spans, kept, remove, len(add) > 0)
	if len(add) > 0 {
		f.addFlow(spans[kept], texts, f.commaAfter(spans[last]) > 0)
	}
	return true
}

func flowTexts(n *yaml.Node, add []entry) ([]string, error) {
	quoted := len(n.Content) > 0 && n.Content[0].Style&yaml.DoubleQuotedStyle != 0 // as in JSON
	var texts []string
	for _, e := range add {
		text, err := writeNode(e.value, true, quoted)
		if err != nil {
			return nil, err
		}
		if n.Kind == yaml.MappingNode {
			key, err := writeNode(textNode(e.key), true, quoted)
			if err != nil {
				return nil, err
			}
			text = key + ": " + text
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// removeFlow removes entries; kept is the last one that stays.
func (f *yamlFile) removeFlow(spans []span, kept int, remove func(i int) bool, adding bool) {
	lines := false
	for i, s := range spans {
		switch {
		case !remove(i):
		case f.ownLine(s):
			f.splices = append(f.splices, splice{f.lines[f.lineAt(s.start)], f.nextLine(max(s.end, f.commaAfter(s))), ""})
			lines = true
		case i < kept:
			f.splices = append(f.splices, splice{s.start, spans[i+1].start, ""})
		default:
			// With the comma before it; its own, if it has one, takes that one's place.
			f.splices = append(f.splices, splice{spans[i-1].end, s.end, ""})
		}
	}
	last := len(spans) - 1
	if comma := f.commaAfter(spans[kept]); lines && !adding && kept < last && comma > 0 && f.commaAfter(spans[last]) == 0 {
		f.splices = append(f.splices, splice{comma - 1, comma, ""})
	}
}

// addFlow adds entries after the last one that stays; trailing: the last
// entry has a comma too.
func (f *yamlFile) addFlow(after span, texts []string, trailing bool) {
	if !f.ownLine(after) {
		f.splices = append(f.splices, splice{after.end, after.end, ", " + strings.Join(texts, ", ")})
		return
	}
	if f.commaAfter(after) == 0 {
		f.splices = append(f.splices, splice{after.end, after.end, ","})
	}
	indent := string(f.src[f.lines[f.lineAt(after.start)]:after.start])
	var text strings.Builder
	for i, t := range texts {
		text.WriteString(indent + t)
		if trailing || i < len(texts)-1 {
			text.WriteString(",")
		}
		text.WriteString(f.eol())
	}
	at := f.nextLine(after.end)
	f.splices = append(f.splices, splice{at, at, text.String()})
}
