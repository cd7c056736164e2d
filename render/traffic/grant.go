package traffic

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// referenceGrant adds the Services of all tags to a ReferenceGrant that names
// the component's Service, right after it. A grant without a name covers them
// already.
func referenceGrant(object *unstructured.Unstructured, p *split) error {
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return err
	}
	items, err := read.list(spec["to"], "spec.to")
	if err != nil {
		return err
	}
	granted := map[string]bool{}
	names := make([]string, len(items)) // of Services, "" for all else
	for i, item := range items {
		if names[i], err = read.grantedService(item, fmt.Sprintf("spec.to[%d]", i)); err != nil {
			return err
		}
		granted[names[i]] = true
	}
	if !granted[p.component] {
		return nil
	}
	var to []any
	for i, item := range items {
		to = append(to, item)
		if names[i] != p.component {
			continue
		}
		group, _ := item.(map[string]any)["group"].(string) // as the user wrote it
		for _, tag := range p.tags {
			if name := p.service(tag); !granted[name] {
				granted[name] = true
				to = append(to, map[string]any{"group": group, "kind": "Service", "name": name})
			}
		}
	}
	if len(to) > maxReferences {
		return &LimitError{API: gatewayAPI.name, Object: describe(object), Field: "spec.to", Value: int64(len(to)), Limit: maxReferences, What: "the number of entries",
			Remedy: "grant all Services by an entry without a name, or split the ReferenceGrant"}
	}
	spec["to"] = to
	return nil
}

// grantedService reads one entry of spec.to: the Service it names, or "".
func (r reader) grantedService(value any, path string) (string, error) {
	fields, err := r.fields(value, path)
	if err != nil {
		return "", err
	}
	group, err := r.text(fields, path, "group", "")
	if err != nil {
		return "", err
	}
	kind, err := r.text(fields, path, "kind", "")
	if err != nil {
		return "", err
	}
	name, err := r.text(fields, path, "name", "")
	if err != nil || group != "" && group != coreGroup || kind != "Service" {
		return "", err
	}
	return name, nil
}
