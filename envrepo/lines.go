package envrepo

import "sigs.k8s.io/kustomize/kyaml/yaml"

// Line is the line on which a value stands in one of the project's YAML files: at
// names the way to it, a string for a field and an int for an item of a list. It
// is 0 where there is no such value. It is for those who find fault with a value
// that was decoded well.
func (r *Repo) Line(file string, at ...any) int {
	data, err := readFile(r.fsys, file)
	if err != nil {
		return 0
	}
	n, err := parseDocument(file, data)
	if err != nil {
		return 0
	}
	for _, step := range at {
		if n = child(follow(n), step); n == nil {
			return 0
		}
	}
	return n.Line
}

// child is a field or an item of a node, nil when it has none.
func child(n *yaml.Node, step any) *yaml.Node {
	switch step := step.(type) {
	case string:
		return nodeAt(n, step)
	case int:
		if n.Kind == yaml.SequenceNode && step >= 0 && step < len(n.Content) {
			return n.Content[step]
		}
	}
	return nil
}
