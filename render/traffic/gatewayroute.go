package traffic

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// httpRoute rewrites an HTTPRoute in place.
func httpRoute(object *unstructured.Unstructured, p *split) error {
	return rewriteRules(object, p, p.mirrorHTTP)
}

// grpcRoute rewrites a GRPCRoute in place. The Gateway API declares mirrors by
// percent for HTTPRoute only.
func grpcRoute(object *unstructured.Unstructured, p *split) error {
	return rewriteRules(object, p, func(object *unstructured.Unstructured, r rule, _ entry) error {
		return &MirrorError{Component: p.component, Object: describe(object), Field: r.path, Tag: p.mirrors[0].Tag, Beside: p.mirrors[1:],
			Reason:      "the Gateway API defines no support for mirrors by percent on GRPCRoute",
			Alternative: "route the requests with an HTTPRoute, or remove the mirror from traffic.yaml"}
	})
}

// rewriteRules expands the references to the component in every rule, and calls
// mirror for each rule that sends requests to it. The rule handed on is the one
// before expansion, ours a reference of it with weight.
func rewriteRules(object *unstructured.Unstructured, p *split, mirror func(object *unstructured.Unstructured, r rule, ours entry) error) error {
	rules, err := gatewayRules(object)
	if err != nil {
		return err
	}
	for _, r := range rules {
		var ours, receiving *entry
		for i, b := range r.entries {
			if !p.owns(object, b) {
				continue
			}
			ours = &r.entries[i]
			if receiving == nil && b.weight > 0 {
				receiving = ours
			}
		}
		if ours == nil {
			continue
		}
		if err := p.expandRule(object, r); err != nil {
			return err
		}
		if len(p.mirrors) == 0 || receiving == nil {
			continue
		}
		if err := mirror(object, r, *receiving); err != nil {
			return err
		}
		p.mirrored = true
	}
	return nil
}

// expandRule replaces the references to the component in a rule by references to
// its tags, in place.
func (p *split) expandRule(object *unstructured.Unstructured, r rule) error {
	targets := make([]target, len(r.entries))
	for i, b := range r.entries {
		targets[i] = target{fields: b.fields, weight: b.weight, ours: p.owns(object, b)}
	}
	expanded, err := p.expand(object, r.path, targets, gatewayAPI, func(t target, tag string) (map[string]any, error) {
		ref := runtime.DeepCopyJSON(t.fields)
		ref["name"] = p.service(tag)
		return ref, nil
	})
	if err != nil {
		return err
	}
	r.fields["backendRefs"] = expanded
	return nil
}

// mirrorHTTP adds the mirrors to a rule of an HTTPRoute. A mirror filter applies
// to all requests of its rule, whichever backend answers them.
func (p *split) mirrorHTTP(object *unstructured.Unstructured, r rule, ours entry) error {
	refuse := func(reason, alternative string) error {
		return &MirrorError{Component: p.component, Object: describe(object), Field: r.path, Tag: p.mirrors[0].Tag, Beside: p.mirrors[1:],
			Reason: reason, Alternative: alternative}
	}
	for _, b := range r.entries {
		if !p.owns(object, b) && b.weight > 0 {
			return refuse(fmt.Sprintf("the rule also sends requests to %q, which would be copied too", b.fields["name"]),
				fmt.Sprintf("give Service %s a rule of its own, or remove the mirror from traffic.yaml", p.component))
		}
	}
	filters, present, err := mirrorFilters(object, r)
	if err != nil {
		return err
	}
	s := p.support
	if !s.Known {
		return &UnknownSupportError{Component: p.component, Object: describe(object), Field: r.path, Tag: p.mirrors[0].Tag, Class: s.Class, Missing: s.Missing}
	}
	if !s.PercentageMirror {
		return refuse(fmt.Sprintf("GatewayClass %s does not declare HTTPRouteRequestPercentageMirror", s.Class),
			"give the tag a small weight instead of a mirror, or use a gateway that mirrors by percent (with Traefik, name a TraefikService of the release in the route)")
	}
	if present+len(p.mirrors) > 1 && !s.MultipleMirrors {
		return refuse(fmt.Sprintf("the rule would have %d mirrors and GatewayClass %s does not declare HTTPRouteRequestMultipleMirrors", present+len(p.mirrors), s.Class),
			"keep one mirror: remove the route's own RequestMirror filter or mirrors from traffic.yaml")
	}
	if n := len(filters) + len(p.mirrors); n > maxFilters {
		return &LimitError{API: gatewayAPI.name, Object: describe(object), Field: r.path, Value: int64(n), Limit: maxFilters, What: "the number of filters",
			Remedy: "use fewer filters in the rule, or remove mirrors from traffic.yaml"}
	}
	for _, m := range p.mirrors {
		target := map[string]any{}
		for _, key := range []string{"group", "kind", "namespace", "port"} { // as the user wrote them
			if value, set := ours.fields[key]; set {
				target[key] = value
			}
		}
		target["name"] = p.service(m.Tag)
		filters = append(filters, map[string]any{
			"type":          "RequestMirror",
			"requestMirror": map[string]any{"backendRef": target, "percent": int64(m.Percent)},
		})
	}
	r.fields["filters"] = filters
	return nil
}

// mirrorFilters reads the filters of a rule and counts the mirrors that a user
// put there or on a single backend.
func mirrorFilters(object *unstructured.Unstructured, r rule) (filters []any, mirrors int, err error) {
	read := reader{object: describe(object)}
	if filters, err = read.list(r.fields["filters"], r.path+".filters"); err != nil {
		return nil, 0, err
	}
	count := func(filters []any) {
		for _, f := range filters {
			if fields, _ := f.(map[string]any); fields["type"] == "RequestMirror" {
				mirrors++
			}
		}
	}
	count(filters)
	for _, b := range r.entries {
		own, err := read.list(b.fields["filters"], b.field+".filters")
		if err != nil {
			return nil, 0, err
		}
		count(own)
	}
	return filters, mirrors, nil
}

// gatewayMirrors lists what the RequestMirror filters of a route copy requests to,
// those of whole rules and those of single backends.
func gatewayMirrors(object *unstructured.Unstructured) (found []reference) {
	rules, err := gatewayRules(object)
	if err != nil {
		return nil
	}
	add := func(filters any, path string) {
		items, _ := filters.([]any)
		for i, item := range items {
			ref, present, _ := unstructured.NestedFieldNoCopy(map[string]any{"filter": item}, "filter", "requestMirror", "backendRef")
			if !present {
				continue
			}
			at := fmt.Sprintf("%s.filters[%d].requestMirror.backendRef", path, i)
			if b, err := (reader{}).backend(ref, at, object.GetNamespace()); err == nil && b.service != "" {
				found = append(found, b.reference)
			}
		}
	}
	for _, r := range rules {
		add(r.fields["filters"], r.path)
		for _, b := range r.entries {
			add(b.fields["filters"], b.field)
		}
	}
	return found
}
