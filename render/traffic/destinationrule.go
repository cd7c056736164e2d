package traffic

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// destinationHost is the Service that a DestinationRule is for, and the host as it
// is written. Wildcards are for none: they hold for the Services of tags as well.
func destinationHost(object *unstructured.Unstructured) (service, host string) {
	host, _, _ = unstructured.NestedString(object.Object, "spec", "host")
	service, namespace, doubt := istioService(host, object.GetNamespace())
	if namespace != object.GetNamespace() || doubt != "" {
		return "", host
	}
	return service, host
}

// destinationPolicy is the Service that a DestinationRule is a policy for, in whichever
// namespace. A host that Istio takes for no Service has none.
func destinationPolicy(object *unstructured.Unstructured) ([]reference, error) {
	host, _, _ := unstructured.NestedString(object.Object, "spec", "host")
	service, namespace, doubt := istioService(host, object.GetNamespace())
	if service == "" || doubt != "" {
		return nil, nil
	}
	return []reference{{field: "spec.host", namespace: namespace, service: service, policy: true}}, nil
}

// destinationRule copies a DestinationRule for the component's Service, one for each
// tag that routes name: Istio looks for the policy of a destination by its host. The
// user's own stays for those who call the plain Service, and one that the release
// has for a tag's Service, once or in the tag's overlay, takes the place of the copy:
// of two for one host Istio takes one policy, and says not which.
func destinationRule(object *unstructured.Unstructured, p *split) error {
	_, host := destinationHost(object)
	for _, w := range p.weights {
		if len(p.policies[p.service(w.Tag)]) > 0 {
			continue
		}
		policy := companion(object.GetAPIVersion(), "DestinationRule", destinationName(object, w.Tag), object)
		spec := runtime.DeepCopyJSON(object.Object["spec"].(map[string]any))
		spec["host"] = istioHost(host, p.service(w.Tag))
		policy.Object["spec"] = spec
		if err := p.add(policy, object); err != nil {
			return err
		}
	}
	return nil
}

func destinationName(object *unstructured.Unstructured, tag string) string {
	return object.GetName() + "-for-" + tag
}

func destinationCompanions(object *unstructured.Unstructured, _ string, tags []string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, tag := range tags {
		all = append(all, companion(object.GetAPIVersion(), "DestinationRule", destinationName(object, tag), object))
	}
	return all
}

// checkSubset makes sure that the subset of a destination exists for every tag that
// takes the component's place. One that selects pods by labels is refused: whether a
// tag has such pods is not known, and one without them would answer nothing.
func (p *split) checkSubset(object *unstructured.Unstructured, d entry) error {
	if d.subset == "" {
		return nil
	}
	refuse := func(reason, remedy string) error {
		return &SubsetError{Object: describe(object), Field: d.field, Component: p.component, Subset: d.subset, Reason: reason, Remedy: remedy}
	}
	for _, w := range p.weights {
		service := p.service(w.Tag)
		if own := p.policies[service]; len(own) > 0 {
			if _, found := subset(own, d.subset); !found {
				return refuse("the DestinationRule for Service "+service+" has no such subset", "add the subset there")
			}
			continue
		}
		labelled, found := subset(p.copied, d.subset)
		_, elsewhere := subset(p.policies[p.component], d.subset)
		switch {
		case !found && elsewhere:
			return refuse("the DestinationRule for Service "+p.component+" that has it stands in the overlay of a tag, and is copied for no tag",
				"move the DestinationRule to what all tags share, or have it name Service "+service)
		case !found:
			return refuse(fmt.Sprintf("no DestinationRule of the release for Service %s or %s has it", service, p.component), "move the DestinationRule into the release, or route to the Service without a subset")
		case labelled:
			return refuse("it selects pods by labels, and whether every tag has such pods is not known",
				fmt.Sprintf("take the labels from the subset and give what it selects a tag of its own, or write a DestinationRule for Service %s yourself", service))
		}
	}
	return nil
}

// subset looks for a subset in DestinationRules, and for labels in it.
func subset(policies []*unstructured.Unstructured, name string) (labelled, found bool) {
	for _, policy := range policies {
		subsets, _, _ := unstructured.NestedFieldNoCopy(policy.Object, "spec", "subsets")
		items, _ := subsets.([]any)
		for _, item := range items {
			fields, _ := item.(map[string]any)
			if fields["name"] == name {
				labels, _ := fields["labels"].(map[string]any)
				return len(labels) > 0, true
			}
		}
	}
	return false, false
}
