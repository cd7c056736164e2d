package traffic

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// target is one entry of a list of weighted references.
type target struct {
	fields map[string]any
	weight int64
	ours   bool // it means the component's Service
}

// bounds are what an API allows in one list of weighted references.
type bounds struct {
	name       string // of the API, for messages
	weight     int64  // of one reference
	sum        int64  // of all weights of a list
	references int    // in a list; 0 for any number
	idle       bool   // references of weight 0 are harmless
}

var gatewayAPI = bounds{name: "the Gateway API", weight: maxWeight, sum: maxWeight * maxReferences, references: maxReferences, idle: true}

// expand replaces the references to the component in a list by references to its
// tags, which to makes:
//
//  1. A reference to the component of weight w becomes one for each tag, of
//     weight w × percent; any other reference of weight v gets v × 100. As the
//     percents sum to 100 every share of the list stays what it was, and the
//     component's share is divided as the percents say.
//  2. All weights are divided by their greatest common divisor, which keeps them
//     readable and below the limit. The sole reference of a list needs no common
//     scale: there the percents themselves are written.
//  3. The limits of the API are checked on the outcome.
func (p *split) expand(object *unstructured.Unstructured, path string, targets []target, b bounds, to func(t target, tag string) (map[string]any, error)) ([]any, error) {
	var refs []map[string]any
	var weights []int64
	for _, t := range targets {
		if !t.ours {
			refs, weights = append(refs, t.fields), append(weights, t.weight*100)
			continue
		}
		for _, w := range p.weights {
			if w.Percent == 0 && !b.idle {
				continue
			}
			ref, err := to(t, w.Tag)
			if err != nil {
				return nil, err
			}
			refs, weights = append(refs, ref), append(weights, t.weight*int64(w.Percent))
		}
	}
	p.followed = true
	divisor := gcd(weights)
	if len(targets) == 1 {
		divisor = max(targets[0].weight, 1)
	}
	limit := func(value, limit int64, what, remedy string) error {
		return &LimitError{API: b.name, Object: describe(object), Field: path, Value: value, Limit: limit, What: what, Remedy: remedy}
	}
	if b.references > 0 && len(refs) > b.references {
		return nil, limit(int64(len(refs)), int64(b.references), "the number of backendRefs", "use fewer other backends in the rule, or list fewer tags in traffic.yaml")
	}
	sum := int64(0)
	expanded := make([]any, len(refs))
	for i, ref := range refs {
		weight := weights[i] / divisor
		if weight > b.weight {
			return nil, limit(weight, b.weight, fmt.Sprintf("the weight of %q", referred(ref)), "use smaller weights with a common divisor in the list")
		}
		sum += weight
		ref["weight"] = weight
		expanded[i] = ref
	}
	if sum > b.sum {
		return nil, limit(sum, b.sum, "the sum of the weights", "use smaller weights with a common divisor in the list")
	}
	return expanded, nil
}

// referred is what a reference names.
func referred(ref map[string]any) any {
	if destination, ok := ref["destination"].(map[string]any); ok {
		return destination["host"]
	}
	return ref["name"]
}

// gcd is the greatest common divisor, 1 when all numbers are 0.
func gcd(numbers []int64) int64 {
	var d int64
	for _, n := range numbers {
		for n != 0 {
			d, n = n, d%n
		}
	}
	return max(d, 1)
}

// look notes which objects the release has, those of its tags included.
func (p *split) look(objects, beside []*unstructured.Unstructured) {
	p.declared, p.written = map[string]bool{}, map[string]bool{}
	p.policies = map[string][]*unstructured.Unstructured{}
	for i, object := range slices.Concat(objects, beside) {
		id := identity(object)
		if p.declared[id] {
			continue // handed in twice
		}
		p.declared[id] = true
		if gvk := object.GroupVersionKind(); gvk.Group == istioGroup && gvk.Kind == "DestinationRule" {
			service, _ := destinationHost(object)
			p.policies[service] = append(p.policies[service], object)
			if i < len(objects) && service == p.component {
				p.copied = append(p.copied, object)
			}
		}
	}
}

// add writes an object that another one of the release needs, unless it has been
// written for one before: those of the same name are equal.
func (p *split) add(object, needs *unstructured.Unstructured) error {
	id := identity(object)
	switch {
	case p.written[id]:
		return nil
	case p.declared[id]:
		return &TakenError{Object: describe(object), For: describe(needs)}
	}
	p.written[id] = true
	object.SetLabels(needs.GetLabels())
	object.SetAnnotations(map[string]string{ExpandedFrom: needs.GetKind() + "/" + needs.GetName()})
	p.added = append(p.added, object)
	return nil
}

// companion is an object without contents, in the namespace of the one it is for.
func companion(apiVersion, kind, name string, needs *unstructured.Unstructured) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	object.SetName(name)
	if namespace := needs.GetNamespace(); namespace != "" {
		object.SetNamespace(namespace)
	}
	return object
}

// identity tells objects apart, whatever version of their kind they are written in.
func identity(object *unstructured.Unstructured) string {
	return object.GroupVersionKind().GroupKind().String() + " " + object.GetNamespace() + "/" + object.GetName()
}
