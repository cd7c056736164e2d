package traffic

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// rule is one list of weighted references in a route of the Gateway API or of Istio.
// The maps are those of the object.
type rule struct {
	fields   map[string]any
	path     string
	entries  []entry
	delegate *reference // what takes the requests of a rule without entries
	http     bool       // Istio: its requests can be mirrored
}

// entry is a reference in a list of weighted ones.
type entry struct {
	target
	reference
	subset string // Istio: of the pods behind the Service
}

// owns reports whether a reference of the object means the component's Service.
func (p *split) owns(object *unstructured.Unstructured, e entry) bool {
	return e.doubt == "" && e.service == p.component && e.namespace == object.GetNamespace()
}

// referencesOf lists what the rules of a route lead to.
func referencesOf(read func(*unstructured.Unstructured) ([]rule, error)) func(*unstructured.Unstructured) ([]reference, error) {
	return func(object *unstructured.Unstructured) ([]reference, error) {
		rules, err := read(object)
		var references []reference
		for _, r := range rules {
			for _, e := range r.entries {
				e.idle = e.weight == 0
				references = append(references, e.reference)
			}
			if r.delegate != nil {
				references = append(references, *r.delegate)
			}
		}
		return references, err
	}
}

// listsOf reads the weights in the rules of a route.
func listsOf(read func(*unstructured.Unstructured) ([]rule, error)) func(*unstructured.Unstructured) ([][]weighted, error) {
	return func(object *unstructured.Unstructured) ([][]weighted, error) {
		rules, err := read(object)
		var lists [][]weighted
		for _, r := range rules {
			var list []weighted
			for _, e := range r.entries {
				list = append(list, weighted{e.service, e.weight})
			}
			lists = append(lists, list)
		}
		return lists, err
	}
}
