package traffic

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// weighted is a Service in a list, and its weight there.
type weighted struct {
	service string
	weight  int64
}

// Carried reads what Transform wrote, or somebody since: the weights of the tags in
// each list of a route that has any of them. Where a list has others too, those of
// the tags are still in proportion to each other. An object that cannot be read has
// none.
func Carried(route *unstructured.Unstructured, component string, tags []string) []map[string]int64 {
	k, _ := kindOf(route, component)
	if k.lists == nil {
		return nil
	}
	lists, err := k.lists(route)
	if err != nil {
		return nil
	}
	var all []map[string]int64
	for _, list := range lists {
		weights := map[string]int64{}
		for _, w := range list {
			if tag, ours := strings.CutPrefix(w.service, component+"-"); ours && slices.Contains(tags, tag) {
				weights[tag] += w.weight
			}
		}
		if len(weights) > 0 {
			all = append(all, weights)
		}
	}
	return all
}

// Rank orders objects that are applied together: what has the lower rank comes
// first, as others name it. They are deleted in the opposite order.
func Rank(object *unstructured.Unstructured) int {
	gvk := object.GroupVersionKind()
	switch {
	case gvk.Group == "":
		return 0
	case object.GetAnnotations()[ExpandedFrom] != "":
		return 1
	case gvk.Kind == "TraefikService", gvk.Kind == "DestinationRule":
		return 2
	}
	return 3
}
