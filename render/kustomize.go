package render

import (
	"encoding/json"
	"errors"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// runKustomize builds a folder of an in-memory file system with the options of
// kubectl kustomize. Builds may run in parallel: without the field openapi,
// which the guard refuses, they share no state that changes.
func runKustomize(mem *memoryFS, dir string) ([]*unstructured.Unstructured, error) {
	if len(mem.listings) > 0 {
		// A listing is mostly read from outside of its folder. What may be read at all,
		// the guard has decided: mem has nothing else.
		if objects, err := krustyRun(mem, dir, types.LoadRestrictionsNone); err == nil {
			return objects, nil
		}
	}
	return krustyRun(mem.withoutListings(), dir, types.LoadRestrictionsRootOnly)
}

func krustyRun(mem *memoryFS, dir string, restrictions types.LoadRestrictions) (objects []*unstructured.Unstructured, err error) {
	defer func() {
		if recover() != nil {
			objects, err = nil, &BuildError{Dir: dir, Err: errPanic}
		}
	}()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // kubectl's: by kind, unless sortOptions says otherwise
	options.LoadRestrictions = restrictions
	m, err := krusty.MakeKustomizer(options).Run(mem, "/"+dir)
	if err != nil {
		return nil, &BuildError{Dir: dir, Err: err}
	}
	objects = make([]*unstructured.Unstructured, 0, m.Size())
	for _, r := range m.Resources() {
		u, err := toObject(&r.RNode)
		if err != nil {
			return nil, &BuildError{Dir: dir, Err: err}
		}
		objects = append(objects, u)
	}
	return objects, nil
}

// toObject converts in the way in which Kustomize prints YAML, that is, by
// JSON. The direct conversion gives the same at a tenth of the cost; values
// that it does not know take the long way.
func toObject(r *yaml.RNode) (*unstructured.Unstructured, error) {
	if v, err := toValue(r.YNode()); err == nil {
		if m, ok := v.(map[string]any); ok {
			return &unstructured.Unstructured{Object: m}, nil
		}
	}
	data, err := r.MarshalJSON()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	err = utiljson.Unmarshal(data, &u.Object)
	return u, err
}

var errLongWay = errors.New("not a plain value")

// toValue converts mappings with string names, lists and scalars.
func toValue(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() != yaml.NodeTagString {
				return nil, errLongWay
			}
			if _, dup := m[key.Value]; dup {
				return nil, errLongWay
			}
			v, err := toValue(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[key.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := toValue(item)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return toScalar(n)
	}
	return nil, errLongWay
}

func toScalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case yaml.NodeTagString:
		return n.Value, nil
	case yaml.NodeTagNull:
		if n.Value == "null" || n.Value == "~" { // "{a}" is written as {a: ""}
			return nil, nil
		}
	case yaml.NodeTagInt:
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(i, 10) == n.Value {
			return i, nil
		}
	case yaml.NodeTagBool:
		switch n.Value {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	if n.ShortTag() != yaml.NodeTagInt && n.ShortTag() != yaml.NodeTagFloat {
		return nil, errLongWay // times, binary and own tags change when they are written
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	err = utiljson.Unmarshal(data, &v)
	return v, err
}
