package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/kio"
	kyamlutils "sigs.k8s.io/kustomize/kyaml/utils"
	"sigs.k8s.io/kustomize/kyaml/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// What stands in this file keeps input from Kustomize on which it recurses or
// grows without bound, or ends the process (a stack overflow and log.Fatal
// cannot be recovered from):
//
//   - a YAML alias inside its own anchor, or aliases of aliases: Kustomize
//     expands them without counting;
//   - a CRD definition that refers to itself: Kustomize follows $ref for ever;
//   - replacements whose target lies inside the source of one of them, and
//     JSON patches that copy: each may double an object;
//   - field paths of thousands of names, which Kustomize creates;
//   - values that cannot be written as JSON: Kustomize calls log.Fatal when it
//     wants to quote such an object in an error.

// errNotYAML says that text cannot be parsed as YAML at all.
var errNotYAML = errors.New("is not valid YAML")

// documentError is a fault of a YAML document. Its text quotes nothing.
type documentError struct {
	line   int
	first  int // where a name stands that is used twice; 0 for other faults
	reason string
	remedy string
}

func (e *documentError) Error() string {
	if e.first > 0 {
		return fmt.Sprintf("%s, first in line %d", e.reason, e.first)
	}
	return e.reason
}

// remedyYAML is what to do about an error of checkDocuments in text that stands
// inline.
func remedyYAML(err error) string {
	var doc *documentError
	if errors.As(err, &doc) {
		return doc.remedy
	}
	return "correct the YAML"
}

// contents are what a file holds.
type contents struct {
	objects int  // the items of lists counted
	lists   bool // one of them may be a list
}

// checkDocuments parses YAML documents in the way Kustomize does and checks
// each of them. The error is errNotYAML or a *documentError.
func checkDocuments(data []byte) (contents, error) {
	nodes, err := readNodes(data)
	if err != nil {
		return contents{}, errNotYAML
	}
	var found contents
	for i, n := range nodes {
		c := nodeCheck{sizes: map[*yaml.Node]extent{}}
		if _, err := c.visit(n.YNode(), 0); err != nil {
			var doc *documentError
			if errors.As(err, &doc) {
				above := linesAbove(data, i)
				doc.line += above
				if doc.first > 0 {
					doc.first += above
				}
			}
			return contents{}, err
		}
		found.count(n.YNode())
	}
	return found, nil
}

func readNodes(data []byte) ([]*yaml.RNode, error) {
	reader := kio.ByteReader{Reader: bytes.NewReader(data), OmitReaderAnnotations: true, DisableUnwrapping: true}
	return reader.Read()
}

// count takes a document in: it is one object, or as many as the items of a FooList.
func (c *contents) count(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		c.objects++
		return
	}
	var kind string
	items := -1
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch value := n.Content[i+1]; n.Content[i].Value {
		case "kind":
			kind = value.Value
			c.lists = c.lists || value.Kind != yaml.ScalarNode
		case "items":
			items = len(value.Content)
		case "<<":
			c.lists = true // it may bring in the kind
		}
	}
	list := strings.HasSuffix(kind, "List")
	c.lists = c.lists || list
	if list && items >= 0 {
		c.objects += items
		return
	}
	c.objects++
}

// extent is the size of a subtree with its aliases expanded.
type extent struct{ nodes, depth int }

// nodeCheck measures a document without expanding it.
type nodeCheck struct {
	sizes map[*yaml.Node]extent // of anchors; nodes < 0: being measured
}

func (c *nodeCheck) visit(n *yaml.Node, depth int) (extent, error) {
	if n == nil {
		return extent{}, nil
	}
	if depth > MaxNesting {
		return extent{}, &documentError{line: n.Line, reason: fmt.Sprintf("is nested deeper than %d levels", MaxNesting), remedy: "flatten the YAML"}
	}
	if n.Kind == yaml.AliasNode {
		return c.visitAlias(n, depth)
	}
	if n.Anchor != "" {
		c.sizes[n] = extent{nodes: -1}
	}
	if err := checkScalar(n); err != nil {
		return extent{}, err
	}
	if err := checkKeys(n); err != nil {
		return extent{}, err
	}
	total := extent{nodes: 1}
	for _, child := range n.Content {
		e, err := c.visit(child, depth+1)
		if err != nil {
			return extent{}, err
		}
		total.nodes += e.nodes
		total.depth = max(total.depth, e.depth+1)
		if total.nodes > MaxNodes {
			return extent{}, &documentError{line: n.Line, reason: fmt.Sprintf("has more than %d values, aliases expanded", MaxNodes), remedy: "simplify the YAML: write out what aliases repeat, or split the file"}
		}
	}
	if n.Anchor != "" {
		c.sizes[n] = total
	}
	return total, nil
}

func (c *nodeCheck) visitAlias(n *yaml.Node, depth int) (extent, error) {
	e, seen := c.sizes[n.Alias]
	if !seen { // an anchor stands before its aliases
		return extent{}, &documentError{line: n.Line, reason: "has an alias without an anchor", remedy: "define the anchor before it, or write out what it stands for"}
	}
	if e.nodes < 0 {
		return extent{}, &documentError{line: n.Line, reason: "has an alias inside its own anchor", remedy: "write out what the alias stands for"}
	}
	if depth+e.depth > MaxNesting {
		return extent{}, &documentError{line: n.Line, reason: fmt.Sprintf("is nested deeper than %d levels", MaxNesting), remedy: "flatten the YAML"}
	}
	return e, nil
}

// checkKeys refuses names used twice: the parser keeps both, and only writing
// the object fails.
func checkKeys(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	seen := make(map[string]int, len(n.Content)/2) // line by name
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			return &documentError{line: key.Line, reason: "has a name that is not a string", remedy: "give each field a plain name; quote text that starts with a bracket or a brace"}
		}
		if first, dup := seen[key.Value]; dup {
			return &documentError{line: key.Line, first: first, reason: "has a name twice in one mapping", remedy: "keep one of the two"}
		}
		seen[key.Value] = key.Line
	}
	return nil
}

// checkScalar refuses what JSON cannot hold. Plain scalars are always fine but
// for .nan and .inf; a written tag may contradict the value.
func checkScalar(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return nil
	}
	tagged := n.Style&yaml.TaggedStyle != 0
	if !tagged && n.ShortTag() != yaml.NodeTagFloat {
		return nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return &documentError{line: n.Line, reason: "has a value that its tag does not allow", remedy: "remove the tag (the word that starts with !), or correct the value"}
	}
	if _, err := json.Marshal(v); err != nil {
		return &documentError{line: n.Line, reason: "has a number that JSON cannot hold", remedy: "quote it if it is text; otherwise give a finite number"}
	}
	return nil
}

// countCopies counts the copy operations of a JSON patch; 0 for what is no
// JSON patch. Kustomize reads text that starts with a bracket as JSON and
// other text as YAML: the larger count of the two counts.
func countCopies(data []byte) int {
	asYAML, err := sigsyaml.YAMLToJSON(data)
	if err != nil {
		asYAML = nil
	}
	return max(copiesInJSON(data), copiesInJSON(asYAML))
}

func copiesInJSON(data []byte) int {
	var ops []map[string]json.RawMessage
	if json.Unmarshal(data, &ops) != nil {
		return 0
	}
	n := 0
	for _, op := range ops {
		var name string
		if json.Unmarshal(op["op"], &name) == nil && name == "copy" {
			n++
		}
	}
	return n
}

// longPath reports whether a field path has too many names.
func longPath(p string) bool { return strings.Count(p, "/")+strings.Count(p, ".") >= MaxFieldPath }

var refusedLongPath = refusal{fmt.Sprintf("has a field path of more than %d names", MaxFieldPath), "shorten it"}

// checkLongPaths looks at every string of a configuration.
func checkLongPaths(config any) refusal {
	if !eachString(config, func(f field) bool { return !longPath(f.value) }) {
		return refusedLongPath
	}
	return refusal{}
}

// decodeReplacements reads a replacements file as Kustomize does: one or a
// list.
func decodeReplacements(data []byte) ([]types.Replacement, error) {
	var list []types.Replacement
	if err := sigsyaml.Unmarshal(data, &list); err == nil {
		return list, nil
	}
	var one types.Replacement
	err := sigsyaml.Unmarshal(data, &one)
	return []types.Replacement{one}, err
}

// checkReplacements refuses a target path that lies inside a source path: the
// copied value would hold a copy of itself, doubled by each replacement. Which
// objects are meant is not looked at.
func checkReplacements(all []types.Replacement) refusal {
	var sources [][]string
	for _, r := range all {
		if r.Source == nil {
			continue
		}
		p := r.Source.FieldPath
		if longPath(p) {
			return refusedLongPath
		}
		if p == "" {
			p = types.DefaultReplacementFieldPath
		}
		sources = append(sources, kyamlutils.SmarterPathSplitter(p, "."))
	}
	for _, r := range all {
		for _, t := range r.Targets {
			if t == nil {
				continue
			}
			for _, p := range t.FieldPaths {
				if longPath(p) {
					return refusedLongPath
				}
				target := kyamlutils.SmarterPathSplitter(p, ".")
				for _, source := range sources {
					if inside(target, source) {
						return refusal{fmt.Sprintf("replaces %s, which lies inside the source %s of a replacement", quoted(p), quoted(strings.Join(source, "."))),
							"copy single values, not mappings or lists that are targets too"}
					}
				}
			}
		}
	}
	return refusal{}
}

// inside reports whether path target may lie strictly below path source.
// List selectors and wildcards match anything.
func inside(target, source []string) bool {
	if len(target) <= len(source) {
		return false
	}
	for i, s := range source {
		if s != target[i] && !wild(s) && !wild(target[i]) {
			return false
		}
	}
	return true
}

func wild(segment string) bool {
	return segment == "*" || strings.HasPrefix(segment, "[") || strings.Trim(segment, "0123456789-") == ""
}

// checkCRDs refuses OpenAPI definitions that refer to themselves, or to so many
// others that following each reference takes for ever. It looks at the parsed
// document and not at decoded values: of names used twice, which one counts
// depends on the decoder.
func checkCRDs(data []byte) refusal {
	if len(bytes.TrimSpace(data)) == 0 {
		return refusal{"is empty", "remove it from crds"}
	}
	var compact bytes.Buffer
	if json.Compact(&compact, data) == nil {
		data = compact.Bytes() // JSON may be indented with tabs, YAML may not
	}
	var doc yaml.Node
	if yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc) != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return refusal{"is not a mapping of OpenAPI definitions", "give the definitions that kustomize's crds field wants, or remove it"}
	}
	graph := map[string][]string{}
	for i, content := 0, doc.Content[0].Content; i+1 < len(content); i += 2 {
		refs, ok := references(graph[content[i].Value], content[i+1])
		if !ok {
			return refusal{"has YAML aliases", "write them out"}
		}
		graph[content[i].Value] = refs
	}
	if !bounded(graph) {
		return refusal{"has definitions that refer to themselves or to too many others",
			"keep only the definitions with x-kubernetes extensions, without recursive references"}
	}
	return refusal{}
}

// bounded reports whether following all references from any definition ends,
// and soon.
func bounded(graph map[string][]string) bool {
	const limit = 10_000
	cost := map[string]int{}
	var follow func(name string) int
	follow = func(name string) int {
		if c, ok := cost[name]; ok {
			return c // -1 while being followed: a cycle
		}
		cost[name] = -1
		total := 1
		for _, to := range graph[name] {
			c := follow(to)
			if total += c; c < 0 || total > limit {
				return -1
			}
		}
		cost[name] = total
		return total
	}
	for name := range graph {
		if follow(name) < 0 {
			return false
		}
	}
	return true
}

// references appends the $ref values below n; false when it has aliases.
func references(refs []string, n *yaml.Node) ([]string, bool) {
	if n.Kind == yaml.AliasNode {
		return refs, false
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && child.Kind == yaml.ScalarNode && strings.EqualFold(n.Content[i-1].Value, "$ref") {
			refs = append(refs, child.Value)
			continue
		}
		var ok bool
		if refs, ok = references(refs, child); !ok {
			return refs, false
		}
	}
	return refs, true
}

var lfsPrefix = []byte("version https://git-lfs.github.com/spec/")

// isLFS refuses the stand-ins of Git LFS: applying one would be silent.
func isLFS(data []byte) refusal {
	if bytes.HasPrefix(data, lfsPrefix) {
		return refusal{"is a Git LFS pointer, not the file", "commit the file itself"}
	}
	return refusal{}
}

func tooLarge(file string, limit int) error {
	size := fmt.Sprintf("%d KiB", limit>>10)
	if limit >= 1<<20 {
		size = fmt.Sprintf("%d MiB", limit>>20)
	}
	return &InputError{File: file, Reason: "is larger than " + size, Remedy: "split it, or keep it out of the repository"}
}
