package traffic

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ingressReferences lists the Services of an Ingress. It has no weights, so it is
// only ever checked.
func ingressReferences(object *unstructured.Unstructured) ([]reference, error) {
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return nil, err
	}
	var references []reference
	add := func(backend any, path string) {
		fields, _ := backend.(map[string]any)
		service, _ := fields["service"].(map[string]any)
		if name, _ := service["name"].(string); name != "" {
			references = append(references, reference{field: path, namespace: object.GetNamespace(), service: name})
		}
	}
	add(spec["defaultBackend"], "spec.defaultBackend")
	rules, err := read.list(spec["rules"], "spec.rules")
	if err != nil {
		return nil, err
	}
	for i, item := range rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		rule, err := read.fields(item, at)
		if err != nil {
			return nil, err
		}
		http, _ := rule["http"].(map[string]any)
		paths, err := read.list(http["paths"], at+".http.paths")
		if err != nil {
			return nil, err
		}
		for j, item := range paths {
			path, _ := item.(map[string]any)
			add(path["backend"], fmt.Sprintf("%s.http.paths[%d].backend", at, j))
		}
	}
	return references, nil
}
