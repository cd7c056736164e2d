package traffic

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Sends reports whether objects of a kind send requests to Services that they name, or
// to what stands before one.
func Sends(kind schema.GroupKind) bool {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind.WithVersion("v1"))
	k, known := kindOf(object, "")
	return known && k.references != nil && kind.Kind != "DestinationRule"
}

// Led are the Services of its own namespace that a route sends requests to, or copies
// of them, sorted, and the objects among others (TraefikServices, delegates of a
// VirtualService) that it leads over. Nothing is sent by a weight of 0, nor by an
// object that cannot be read.
func Led(route *unstructured.Unstructured, others []*unstructured.Unstructured) (services []string, over []*unstructured.Unstructured) {
	known := map[string]*unstructured.Unstructured{}
	for _, o := range others {
		known[identity(o)] = o
	}
	led, next := map[string]bool{}, []*unstructured.Unstructured{route}
	for n := 0; n < len(next); n++ {
		delete(known, identity(next[n])) // a circle is followed once
		for _, r := range sent(next[n]) {
			kind, name := r.over()
			switch {
			case r.idle || r.policy || r.namespace != route.GetNamespace():
			case kind == "" && r.service != "":
				led[r.service] = true
			case kind != "":
				if local, marked := strings.CutSuffix(name, traefikSuffix); marked {
					name = strings.TrimPrefix(local, r.namespace+"-")
				}
				id := kind + " " + r.namespace + "/" + name
				if o := known[id]; o != nil {
					next = append(next, o)
					delete(known, id)
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(led)), next[1:]
}

// sent lists what an object sends requests to, or copies of them.
func sent(object *unstructured.Unstructured) []reference {
	k, _ := kindOf(object, "")
	if k.references == nil {
		return nil
	}
	references, err := k.references(object)
	if err != nil {
		return nil
	}
	if k.mirrors != nil {
		references = append(references, k.mirrors(object)...)
	}
	return references
}

// Governed is the Service of its own namespace that a DestinationRule is a policy for;
// "" for any other object.
func Governed(object *unstructured.Unstructured) string {
	if gvk := object.GroupVersionKind(); gvk.Group != istioGroup || gvk.Kind != "DestinationRule" {
		return ""
	}
	service, _ := destinationHost(object)
	return service
}
