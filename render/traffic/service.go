package traffic

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// plainService points the Service that callers inside the cluster use at the
// tag of the highest weight. A Service without a selector (an ExternalName, or
// one with EndpointSlices of its own) is left alone.
func plainService(object *unstructured.Unstructured, p *split) error {
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return err
	}
	if spec["selector"] == nil {
		return nil
	}
	selector, err := read.fields(spec["selector"], "spec.selector")
	if err != nil {
		return err
	}
	selector[InstanceLabel] = p.service(p.heaviest())
	return nil
}
