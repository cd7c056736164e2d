package envrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const (
	// maxFile bounds every file that is decoded. The largest honest one, a
	// sluice.yaml, has a few kilobytes.
	maxFile = 1 << 20
	// maxItems bounds lists and free mappings: some checks cost their square.
	maxItems = 1000
	// maxProblems bounds what is reported of one file.
	maxProblems = 30
)

// fieldTable names the fields of a kind, by the path of the object that holds
// them: "" is the document, "environments[]" an item of its list. It is what
// the decoder accepts and what the published schema is tested against.
type fieldTable map[string][]string

// decoder collects every problem of one file of one of Sluice's kinds.
type decoder struct {
	file     string
	kind     string
	fields   fieldTable
	problems []*FileError
}

// object is a mapping that is being decoded: its fields by name.
type object struct {
	d     *decoder
	path  string
	node  *yaml.Node
	keys  []string // in document order
	value map[string]*yaml.Node
}

// decodeFile parses one file of a kind and calls decode with its document. It
// returns every problem found, sorted by line.
func decodeFile(file, kind string, fields fieldTable, data []byte, decode func(object)) error {
	root, err := parseDocument(file, data)
	if err != nil {
		return err
	}
	d := &decoder{file: file, kind: kind, fields: fields}
	d.refuseReferences(root)
	if len(d.problems) == 0 {
		if d.header(root); len(d.problems) == 0 {
			decode(d.object(root, ""))
		}
	}
	return joinProblems(d.problems)
}

var (
	yamlErrorLine = regexp.MustCompile(`^line ([0-9]+): (.*)$`)
	// The errors of the parser's second stage count lines from 0.
	yamlErrorFromZero = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or '[]}]'|<.*>)$`)
)

// parseDocument parses a file that holds exactly one YAML document. Positions
// in the nodes count from 1, columns in characters.
func parseDocument(file string, data []byte) (root *yaml.Node, err error) {
	whole := func(hint, format string, args ...any) error {
		return &FileError{File: file, Message: fmt.Sprintf(format, args...), hint: hint}
	}
	if len(data) > maxFile {
		return nil, whole("", "is larger than 1 MiB")
	}
	if !utf8.Valid(data) {
		return nil, whole("save it as UTF-8", "is not UTF-8 text")
	}
	// The parser panics on some inputs that it takes for its own bugs.
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, whole("", "parsing YAML: %v", p)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, whole("", "is empty")
		}
		return nil, syntaxError(file, err)
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, syntaxError(file, err)
	default:
		return nil, &FileError{File: file, Line: second.Line, Message: "holds several YAML documents, one is due", hint: "remove what follows the line ---"}
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, whole("", "is empty")
	}
	root = document.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == yaml.NodeTagNull {
		return nil, whole("", "is empty")
	}
	return root, nil
}

// syntaxError takes the line out of the parser's message: its errors are text only.
func syntaxError(file string, err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	problem := &FileError{File: file, Message: "parsing YAML: " + clipTo(message, 300)} // it may quote the file
	if m := yamlErrorLine.FindStringSubmatch(message); m != nil {
		problem.Line, _ = strconv.Atoi(m[1])
		if yamlErrorFromZero.MatchString(m[2]) {
			problem.Line++
		}
		problem.Message = "parsing YAML: " + clipTo(m[2], 300)
	}
	return problem
}

// refuseReferences refuses anchors, aliases and explicit tags: nothing here
// needs them, and they are how a small file becomes a large one.
func (d *decoder) refuseReferences(n *yaml.Node) {
	switch {
	case len(d.problems) >= maxProblems:
		return
	case n.Kind == yaml.AliasNode:
		d.problem(n, "", "write the value out", "YAML alias *%s is not supported", clip(n.Value))
	case n.Anchor != "":
		d.problem(n, "", "remove the anchor", "YAML anchor &%s is not supported", clip(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.problem(n, "", "remove the tag", "YAML tag %s is not supported", clip(n.Tag))
	}
	for _, child := range n.Content {
		d.refuseReferences(child)
	}
}

// header checks apiVersion and kind before anything else: in a file of another
// kind every other complaint would mislead.
func (d *decoder) header(root *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		d.problem(root, "", "", "must be a mapping, found %s", describe(root))
		return
	}
	for _, want := range []struct{ field, value string }{{"apiVersion", APIVersion}, {"kind", d.kind}} {
		var found *yaml.Node
		for i := 0; i+1 < len(root.Content); i += 2 {
			if root.Content[i].Value == want.field {
				found = root.Content[i+1]
				break
			}
		}
		switch {
		case found == nil:
			d.problem(root, want.field, fmt.Sprintf("add the line %s: %s", want.field, want.value), "missing required field %q in %s", want.field, d.kind)
		case found.Kind != yaml.ScalarNode || found.Value != want.value:
			d.problem(found, want.field, "", "%s must be %s, found %s", want.field, want.value, describe(found))
		}
	}
}

func (d *decoder) problem(n *yaml.Node, field, hint, format string, args ...any) {
	if len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, &FileError{File: d.file, Line: n.Line, Field: field, Message: fmt.Sprintf(format, args...), hint: hint})
}

var listIndex = regexp.MustCompile(`\[[0-9]+\]`)

// object reads a mapping whose fields the kind's table lists.
func (d *decoder) object(n *yaml.Node, path string) object {
	return d.mapping(n, path, d.fields[listIndex.ReplaceAllString(path, "[]")])
}

// mapping reads a mapping; known nil: any names.
func (d *decoder) mapping(n *yaml.Node, path string, known []string) object {
	o := object{d: d, path: path, node: n, value: map[string]*yaml.Node{}}
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "", "%s must be a mapping, found %s", path, describe(n))
		return o
	}
	if len(n.Content) > 2*maxItems {
		d.problem(n, path, "", "%s must have at most %d fields, found %d", o.title(), maxItems, len(n.Content)/2)
		return o
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != yaml.NodeTagString {
			d.problem(key, path, "quote it", "a name in %s must be a string, found %s", o.title(), describe(key))
			continue
		}
		if line, seen := first[key.Value]; seen {
			d.problem(key, o.field(key.Value), "remove one of them", "duplicate field %q in %s, first given in line %d", clip(key.Value), o.title(), line)
			continue
		}
		first[key.Value] = key.Line
		if known != nil && !slices.Contains(known, key.Value) {
			d.problem(key, o.field(key.Value), knownHint("fields", known), "unknown field %q in %s%s", clip(key.Value), o.title(), didYouMean(key.Value, known))
			continue
		}
		o.keys = append(o.keys, key.Value)
		o.value[key.Value] = value
	}
	return o
}

// title names the object in messages: the kind, and the path below it.
func (o object) title() string {
	if o.path == "" {
		return o.d.kind
	}
	return o.d.kind + " " + o.path
}

// field is the path of a field. Its name may be whatever the file says.
func (o object) field(name string) string {
	if o.path == "" {
		return clip(name)
	}
	return o.path + "." + clip(name)
}

func (o object) has(name string) bool { return o.value[name] != nil }

func (o object) problem(name, hint, format string, args ...any) {
	n := o.node
	if v := o.value[name]; v != nil {
		n = v
	}
	o.d.problem(n, o.field(name), hint, "%s "+format, append([]any{o.field(name)}, args...)...)
}

// require reports a missing field.
func (o object) require(name string) bool {
	if o.has(name) {
		return true
	}
	// In a value of the wrong type the type is the problem, and it is reported already.
	if o.node.Kind == yaml.MappingNode {
		o.d.problem(o.node, o.field(name), "", "missing required field %q in %s", name, o.title())
	}
	return false
}

// text reads a string; check may be nil and says what is wrong with it.
func (o object) text(name string, check func(string) string) string {
	n := o.value[name]
	if n == nil {
		return ""
	}
	value, ok := o.d.text(n, o.field(name))
	if ok && check != nil {
		if problem := check(value); problem != "" {
			o.d.problem(n, o.field(name), "", "%s %q %s", o.field(name), clip(value), problem)
		}
	}
	return value
}

func (d *decoder) text(n *yaml.Node, field string) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == yaml.NodeTagString {
		return n.Value, true
	}
	hint := ""
	if n.Kind == yaml.ScalarNode && n.ShortTag() != yaml.NodeTagNull {
		hint = fmt.Sprintf("quote it: %q", clip(n.Value))
	}
	d.problem(n, field, hint, "%s must be a string, found %s", field, describe(n))
	return "", false
}

// flag reads a boolean.
func (o object) flag(name string) bool {
	n := o.value[name]
	if n == nil {
		return false
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != yaml.NodeTagBool {
		o.problem(name, "", "must be true or false, found %s", describe(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,8})$`)

// integer reads a whole number, as decimal digits only.
func (o object) integer(name string) (int, bool) {
	n := o.value[name]
	if n.Kind != yaml.ScalarNode || n.ShortTag() != yaml.NodeTagInt || !decimal.MatchString(n.Value) {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.ShortTag() == yaml.NodeTagString && decimal.MatchString(n.Value) {
			hint = "remove the quotes"
		}
		o.problem(name, hint, "must be a whole number, found %s", describe(n))
		return 0, false
	}
	value, err := strconv.Atoi(n.Value)
	return value, err == nil
}

// duration reads a duration in Go's notation within bounds.
func (o object) duration(name string, preset, least, most time.Duration) time.Duration {
	n := o.value[name]
	if n == nil {
		return preset
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != yaml.NodeTagString {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.ShortTag() == yaml.NodeTagInt {
			hint = fmt.Sprintf("give a unit: %ss", clip(n.Value))
		}
		o.problem(name, hint, "must be a duration such as 30s or 5m, found %s", describe(n))
		return preset
	}
	value, err := time.ParseDuration(n.Value)
	if err != nil {
		o.problem(name, "", "must be a duration such as 30s or 5m, found %q", clip(n.Value))
		return preset
	}
	if value < least || value > most {
		o.problem(name, "", "must be between %s and %s, found %s", formatDuration(least), formatDuration(most), clip(n.Value))
		return preset
	}
	return value
}

// formatDuration drops the units that are zero: 24h, not 24h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// child reads a nested object; false when the field is absent.
func (o object) child(name string) (object, bool) {
	n := o.value[name]
	if n == nil {
		return object{d: o.d, path: o.field(name), node: o.node}, false
	}
	return o.d.object(n, o.field(name)), true
}

// list returns the items of a sequence with their paths.
func (o object) list(name string) []item {
	n := o.value[name]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		o.problem(name, "", "must be a list, found %s", describe(n))
		return nil
	}
	if len(n.Content) > maxItems {
		o.problem(name, "", "must have at most %d items, found %d", maxItems, len(n.Content))
		return nil
	}
	items := make([]item, 0, len(n.Content))
	for i, c := range n.Content {
		items = append(items, item{node: c, path: fmt.Sprintf("%s[%d]", o.field(name), i)})
	}
	return items
}

type item struct {
	node *yaml.Node
	path string
}

// texts reads a list of distinct strings.
func (o object) texts(name string, check func(string) string) []string {
	var values []string
	for _, it := range o.list(name) {
		value, ok := o.d.text(it.node, it.path)
		if !ok {
			continue
		}
		if problem := check(value); problem != "" {
			o.d.problem(it.node, it.path, "", "%s %q %s", it.path, clip(value), problem)
			continue
		}
		if slices.Contains(values, value) {
			o.d.problem(it.node, it.path, "remove one of them", "%s %q is listed twice", it.path, clip(value))
			continue
		}
		values = append(values, value)
	}
	return values
}

// describe names a value's type, and a scalar's value, for error messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case yaml.NodeTagNull:
		return "nothing"
	case yaml.NodeTagString:
		return fmt.Sprintf("%q", clip(n.Value))
	}
	return clip(n.Value)
}

// clip bounds what an error message repeats of its input.
func clip(s string) string { return clipTo(s, 80) }

func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// oneOf says that a value is none of the allowed ones.
func oneOf(allowed ...string) func(string) string {
	return func(s string) string {
		if slices.Contains(allowed, s) {
			return ""
		}
		return "must be " + strings.Join(allowed, " or ")
	}
}

func matching(pattern *regexp.Regexp, what string) func(string) string {
	return func(s string) string {
		if len(s) <= 253 && pattern.MatchString(s) {
			return ""
		}
		return "must be " + what
	}
}
