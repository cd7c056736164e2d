package envrepo

import (
	"fmt"
	"slices"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Summary says in words what an edit did.
type Summary struct {
	Message string   // one line, used as the subject of the commit
	Changed bool     // false: it was so already, and there is nothing to commit
	Notes   []string // what else the user should know, one sentence each
}

func (s *Summary) note(format string, args ...any) {
	s.Notes = append(s.Notes, printable(fmt.Sprintf(format, args...)))
}

// edit runs an edit on a layer of its own, so that one that fails leaves t as
// it was.
func edit(t *Tree, do func(*Tree) (Summary, error)) (Summary, error) {
	layer := NewTree(t)
	summary, err := do(layer)
	if err != nil {
		return Summary{}, err
	}
	summary.Changed = !layer.Empty()
	if err := t.apply(layer); err != nil {
		return Summary{}, err
	}
	return summary, nil
}

// editRelease is edit for the release of a component, which must not be the
// reserved one. Tags that the edit does not touch may be broken.
func editRelease(t *Tree, env, component string, do func(*Tree, *Repo, Release) (Summary, error)) (Summary, error) {
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, rel, err := openRelease(layer, env, component)
		if err != nil {
			return Summary{}, err
		}
		return do(layer, repo, rel)
	})
}

func openRelease(t *Tree, env, component string) (*Repo, Release, error) {
	repo, err := Open(t)
	if err != nil {
		return nil, Release{}, err
	}
	if _, err := repo.Environment(env); err != nil {
		return nil, Release{}, err
	}
	if component == EnvironmentRelease {
		return nil, Release{}, repo.unknownComponent(component)
	}
	rel, err := repo.PartialRelease(env, component)
	return repo, rel, err
}

// setDigest pins the component's image in an overlay.
func setDigest(t *Tree, dir, image, digest string) error {
	file := dir + "/" + kustomizationFile
	src, err := readFile(t, file)
	if err != nil {
		return err
	}
	out, err := withDigest(file, src, image, digest)
	if err != nil {
		return err
	}
	return t.WriteFile(file, out)
}

// withDigest returns a kustomization.yaml that pins image at digest.
func withDigest(file string, src []byte, image, digest string) ([]byte, error) {
	f, err := openYAML(file, src)
	if err != nil {
		return nil, err
	}
	if f.root, err = parsedMapping(file, f.root); err != nil {
		return nil, err
	}
	p, err := findPin(file, f.root, image)
	if err != nil {
		return nil, err
	}
	item := mapNode(0, entry{"name", textNode(image)}, entry{"digest", textNode(digest)})
	images := f.get(f.root, "images")
	switch {
	case p.Digest == digest:
		return src, nil
	case p.digest != nil:
		f.setScalar(p.digest, yaml.NodeTagString, digest)
	case p.entry != nil:
		f.rewrite(p.entry, keepAll, entry{"digest", textNode(digest)})
	case images == nil:
		f.rewrite(f.root, keepAll, entry{"images", listNode(0, item)})
	case isNull(images):
		f.replace(images, listNode(0, item))
	default:
		f.rewrite(images, keepAll, entry{value: item})
	}
	out, err := f.bytes()
	if err != nil {
		return nil, err
	}
	// What was written is read back: a digest that did not land is worse than an error.
	root, err := parseKustomization(file, out)
	if err != nil {
		return nil, err
	}
	if p, err = findPin(file, root, image); err != nil {
		return nil, err
	}
	if p.Digest != digest {
		return nil, &FileError{File: file, Message: fmt.Sprintf("editing the digest of %s failed: the file pins %q afterwards", image, p.Digest), hint: "edit the file by hand"}
	}
	return out, nil
}

func parsedMapping(file string, root *yaml.Node) (*yaml.Node, error) {
	if root.Kind != yaml.MappingNode {
		return nil, &FileError{File: file, Line: root.Line, Message: "must be a mapping, found " + describe(root)}
	}
	return root, nil
}

// setTraffic writes the weights and mirrors of a tagged release.
func setTraffic(t *Tree, rel Release, want Traffic) error {
	file := trafficFile(rel.Dir)
	src, err := readFile(t, file)
	if err != nil {
		return err
	}
	out, err := withTraffic(file, src, rel.tagNames(), want)
	if err != nil {
		return err
	}
	return t.WriteFile(file, out)
}

// withTraffic returns a traffic.yaml with other weights and mirrors. Tags that
// stay keep their place, new ones come last.
func withTraffic(file string, src []byte, tags []string, want Traffic) ([]byte, error) {
	f, err := openYAML(file, src)
	if err != nil {
		return nil, err
	}
	if f.root, err = parsedMapping(file, f.root); err != nil {
		return nil, err
	}
	weights, mirror := f.get(f.root, "weights"), f.get(f.root, "mirror")
	if weights == nil || weights.Kind != yaml.MappingNode || mirror != nil && mirror.Kind != yaml.MappingNode && !isNull(mirror) {
		_, err := decodeTraffic(file, tags, src)
		return nil, err
	}
	f.setShares(weights, want.Weights)
	switch {
	case mirror == nil && len(want.Mirrors) > 0:
		f.rewrite(f.root, keepAll, entry{"mirror", sharesNode(weights.Style&yaml.FlowStyle, want.Mirrors)})
	case mirror == nil:
	case len(want.Mirrors) > 0 && mirror.Kind == yaml.MappingNode:
		f.setShares(mirror, want.Mirrors)
	case len(want.Mirrors) > 0:
		f.replace(mirror, sharesNode(weights.Style&yaml.FlowStyle, want.Mirrors))
	case f.commented(mirror):
		f.rewrite(mirror, func(int) bool { return true })
	default:
		f.rewrite(f.root, func(i int) bool { return f.root.Content[2*i+1] == mirror })
	}
	out, err := f.bytes()
	if err != nil {
		return nil, err
	}
	got, err := decodeTraffic(file, tags, out)
	if err != nil {
		return nil, err
	}
	if !got.Equal(want) {
		return nil, &FileError{File: file, Message: fmt.Sprintf("editing the traffic failed: the file says %s afterwards", got), hint: "edit the file by hand"}
	}
	return out, nil
}

// commented reports whether a flow mapping has a comment behind it, which
// would be lost if the field went away.
func (f *yamlFile) commented(n *yaml.Node) bool {
	s, ok := f.span(n)
	return ok && n.Style&yaml.FlowStyle != 0 && f.endsLine(s.end) && f.lineEnd(s.end) > f.skipSpaces(s.end)
}

func sharesNode(style yaml.Style, shares []Weight) *yaml.Node {
	n := mapNode(style)
	for _, w := range shares {
		n.Content = append(n.Content, textNode(w.Tag), numberNode(w.Percent))
	}
	return n
}

// setShares makes a mapping from tag to percent say what shares says.
func (f *yamlFile) setShares(n *yaml.Node, shares []Weight) {
	find := func(tag string) int {
		return slices.IndexFunc(shares, func(w Weight) bool { return w.Tag == tag })
	}
	var add []entry
	for _, w := range shares {
		value := f.get(n, w.Tag)
		if value == nil {
			add = append(add, entry{w.Tag, numberNode(w.Percent)})
			continue
		}
		if text := fmt.Sprint(w.Percent); value.Kind != yaml.ScalarNode || value.Value != text || value.ShortTag() != yaml.NodeTagInt {
			f.setScalar(value, yaml.NodeTagInt, text)
		}
	}
	f.rewrite(n, func(i int) bool { return find(n.Content[2*i].Value) < 0 }, add...)
}

// Equal compares without regard to order.
func (t Traffic) Equal(other Traffic) bool {
	return sameShares(t.Weights, other.Weights) && sameShares(t.Mirrors, other.Mirrors)
}

func sameShares(a, b []Weight) bool {
	if len(a) != len(b) {
		return false
	}
	for _, w := range a {
		if !slices.Contains(b, w) {
			return false
		}
	}
	return true
}

// inEnvironment names a release in messages: "api in production (green)".
func inEnvironment(rel Release, tag string) string {
	s := rel.Name + " in " + rel.Environment.Name
	if tag != "" {
		s += " (" + tag + ")"
	}
	return s
}

// pauseNotes says what keeps the cluster from following.
func pauseNotes(s *Summary, rel Release) {
	if rel.Environment.Paused {
		s.note("environment %s is paused: nothing is applied there until it is resumed", rel.Environment.Name)
	}
	if rel.Component.Paused {
		s.note("component %s is paused: nothing of it is applied until it is resumed", rel.Name)
	}
}
