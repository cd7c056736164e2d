package traffic

import (
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	gatewayGroup = "gateway.networking.k8s.io"

	// coreGroup is a name that gateways (Traefik among them) take for the core group,
	// which has the empty one.
	coreGroup = "core"
)

// ParentRef is a parent that a Gateway API route attaches to.
type ParentRef struct {
	Group       string // gateway.networking.k8s.io by default
	Kind        string // Gateway by default; others (a mesh's Service) have no GatewayClass, so their support is unknown
	Namespace   string // the route's own by default
	Name        string
	SectionName string // "" = all listeners
}

// Gateways lists the parents of a Gateway API route in its order: those whose
// GatewayClass decides on mirrors. Other kinds, and parents without a name, give
// none.
func Gateways(route *unstructured.Unstructured) []ParentRef {
	if route.GroupVersionKind().Group != gatewayGroup {
		return nil
	}
	raw, _, _ := unstructured.NestedFieldNoCopy(route.Object, "spec", "parentRefs")
	items, _ := raw.([]any)
	var parents []ParentRef
	for _, item := range items {
		fields, _ := item.(map[string]any)
		text := func(key, fallback string) string {
			if s, _ := fields[key].(string); s != "" {
				return s
			}
			return fallback
		}
		parent := ParentRef{
			Group:       text("group", gatewayGroup),
			Kind:        text("kind", "Gateway"),
			Namespace:   text("namespace", route.GetNamespace()),
			Name:        text("name", ""),
			SectionName: text("sectionName", ""),
		}
		if group, set := fields["group"].(string); set {
			parent.Group = group // "" is the core group, not the default
		}
		if parent.Name != "" {
			parents = append(parents, parent)
		}
	}
	return parents
}

// gatewayRules reads the rules of a route. The maps are those of the object.
func gatewayRules(object *unstructured.Unstructured) ([]rule, error) {
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return nil, err
	}
	items, err := read.list(spec["rules"], "spec.rules")
	if err != nil {
		return nil, err
	}
	rules := make([]rule, 0, len(items))
	for i, item := range items {
		r := rule{path: fmt.Sprintf("spec.rules[%d]", i)}
		if r.fields, err = read.fields(item, r.path); err != nil {
			return nil, err
		}
		refs, err := read.list(r.fields["backendRefs"], r.path+".backendRefs")
		if err != nil {
			return nil, err
		}
		for j, ref := range refs {
			b, err := read.backend(ref, fmt.Sprintf("%s.backendRefs[%d]", r.path, j), object.GetNamespace())
			if err != nil {
				return nil, err
			}
			r.entries = append(r.entries, b)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// reader takes values out of an object whose shape nobody has checked yet.
type reader struct{ object string }

func (r reader) malformed(path, want string) error {
	return &MalformedError{Object: r.object, Field: path, Want: want}
}

// fields reads a mapping that must be there.
func (r reader) fields(value any, path string) (map[string]any, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, r.malformed(path, "a mapping")
	}
	return fields, nil
}

// list reads a list that may be absent or null.
func (r reader) list(value any, path string) ([]any, error) {
	items, ok := value.([]any)
	if !ok && value != nil {
		return nil, r.malformed(path, "a list")
	}
	return items, nil
}

// text reads a string that may be absent or null.
func (r reader) text(fields map[string]any, path, key, fallback string) (string, error) {
	switch value := fields[key].(type) {
	case nil:
		return fallback, nil
	case string:
		return value, nil
	default:
		return "", r.malformed(path+"."+key, "a string")
	}
}

func (r reader) backend(value any, path, namespace string) (entry, error) {
	b := entry{reference: reference{field: path}}
	var err error
	if b.fields, err = r.fields(value, path); err != nil {
		return b, err
	}
	var group, kind, name string
	for _, f := range []struct {
		key, fallback string
		into          *string
	}{{"group", "", &group}, {"kind", "Service", &kind}, {"name", "", &name}, {"namespace", namespace, &b.namespace}} {
		if *f.into, err = r.text(b.fields, path, f.key, f.fallback); err != nil {
			return b, err
		}
	}
	if name == "" {
		return b, r.malformed(path+".name", "a name")
	}
	if group == coreGroup {
		group = ""
	}
	switch {
	case group == "" && kind == "Service":
		b.service = name
	case group == traefikGroup && kind == "TraefikService":
		b.traefik = name
	case group == istioGroup && kind == "Hostname":
		b.service, b.namespace, _ = istioService(name, b.namespace)
		b.doubt = "weights are not written into references of kind Hostname"
	case kind == "ServiceImport":
		b.service, b.doubt = name, "a ServiceImport is the Service of all clusters, which has no tags"
	case strings.Contains(strings.ToLower(kind), "service"):
		b.service, b.doubt = name, "kind "+schema.GroupKind{Group: group, Kind: kind}.String()+" is not known to Sluice"
	default:
		b.unknown, b.name = schema.GroupKind{Group: group, Kind: kind}.String(), name
	}
	b.weight, err = r.weight(b.fields, path, 1, maxWeight)
	return b, err
}

// weight reads a weight that may be absent or null.
func (r reader) weight(fields map[string]any, path string, fallback, limit int64) (int64, error) {
	raw := fields["weight"]
	if raw == nil {
		return fallback, nil
	}
	weight, ok := whole(raw)
	if !ok || weight < 0 || weight > limit {
		return 0, r.malformed(path+".weight", fmt.Sprintf("a whole number from 0 to %d", limit))
	}
	return weight, nil
}

// whole reads a whole number; JSON decoders differ in the type they give.
func whole(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) <= math.MaxInt32
	}
	return 0, false
}
