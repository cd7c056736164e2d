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
	return rewriteRules(object, p, func(object *unstructured.Unstructured, r rule, _ backend) error {
		return &MirrorError{Component: p.component, Object: describe(object), Field: r.path, Tag: p.mirrors[0].Tag,
			Reason:      "the Gateway API defines no support for mirrors by percent on GRPCRoute",
			Alternative: "route the requests with an HTTPRoute, or remove the mirror from traffic.yaml"}
	})
}

// rewriteRules expands the references to the component in every rule, and calls
// mirror for each rule that sends requests to it. The rule handed on is the one
// before expansion, ours a reference of it with weight.
func rewriteRules(object *unstructured.Unstructured, p *split, mirror func(object *unstructured.Unstructured, r rule, ours backend) error) error {
	rules, err := gatewayRules(object)
	if err != nil {
		return err
	}
	for _, r := range rules {
		var ours, receiving *backend
		for i, b := range r.backends {
			if !p.owns(object, b) {
				continue
			}
			ours = &r.backends[i]
			if receiving == nil && b.weight > 0 {
				receiving = ours
			}
		}
		if ours == nil {
			continue
		}
		if err := p.expand(object, r); err != nil {
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

// owns reports whether a reference of the object means the component's Service.
func (p *split) owns(object *unstructured.Unstructured, b backend) bool {
	return b.service == p.component && b.namespace == object.GetNamespace()
}

// expand replaces the references to the component in a rule by references to its
// tags, in place:
//
//  1. A reference to the component of weight w becomes one for each tag, of
//     weight w × percent; any other reference of weight v gets v × 100. As the
//     percents sum to 100 every share of the rule stays what it was, and the
//     component's share is divided as the percents say.
//  2. All weights are divided by their greatest common divisor, which keeps them
//     readable and below the limit. The sole reference of a rule needs no common
//     scale: there the percents themselves are written.
//  3. The limits of the Gateway API are checked on the outcome.
func (p *split) expand(object *unstructured.Unstructured, r rule) error {
	var refs []map[string]any
	var weights []int64
	for _, b := range r.backends {
		if !p.owns(object, b) {
			refs, weights = append(refs, b.fields), append(weights, b.weight*100)
			continue
		}
		for _, w := range p.weights {
			ref := runtime.DeepCopyJSON(b.fields)
			ref["name"] = p.service(w.Tag)
			refs, weights = append(refs, ref), append(weights, b.weight*int64(w.Percent))
		}
	}
	divisor := gcd(weights)
	if len(r.backends) == 1 {
		divisor = max(r.backends[0].weight, 1)
	}
	if len(refs) > maxReferences {
		return &LimitError{Object: describe(object), Field: r.path, Value: int64(len(refs)), Limit: maxReferences, What: "the number of backendRefs",
			Remedy: "use fewer other backends in the rule, or list fewer tags in traffic.yaml"}
	}
	expanded := make([]any, len(refs))
	for i, ref := range refs {
		weight := weights[i] / divisor
		if weight > maxWeight {
			return &LimitError{Object: describe(object), Field: r.path, Value: weight, Limit: maxWeight,
				What:   fmt.Sprintf("the weight of %q", ref["name"]),
				Remedy: "use smaller weights with a common divisor in the rule's backendRefs"}
		}
		ref["weight"] = weight
		expanded[i] = ref
	}
	r.fields["backendRefs"] = expanded
	return nil
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

// mirrorHTTP adds the mirrors to a rule of an HTTPRoute. A mirror filter applies
// to all requests of its rule, whichever backend answers them.
func (p *split) mirrorHTTP(object *unstructured.Unstructured, r rule, ours backend) error {
	refuse := func(tag, reason, alternative string) error {
		return &MirrorError{Component: p.component, Object: describe(object), Field: r.path, Tag: tag, Reason: reason, Alternative: alternative}
	}
	for _, b := range r.backends {
		if !p.owns(object, b) && b.weight > 0 {
			return refuse(p.mirrors[0].Tag, fmt.Sprintf("the rule also sends requests to %q, which would be copied too", b.fields["name"]),
				fmt.Sprintf("give Service %s a rule of its own, or remove the mirror from traffic.yaml", p.component))
		}
	}
	filters, present, err := mirrorFilters(object, r)
	if err != nil {
		return err
	}
	s := p.support
	if !s.Known {
		return &UnknownSupportError{Component: p.component, Object: describe(object), Field: r.path, Tag: p.mirrors[0].Tag, Class: s.Class}
	}
	if !s.PercentageMirror {
		return refuse(p.mirrors[0].Tag, fmt.Sprintf("GatewayClass %s does not declare HTTPRouteRequestPercentageMirror", s.Class),
			"give the tag a small weight instead of a mirror, or use a gateway that mirrors by percent")
	}
	if last := p.mirrors[len(p.mirrors)-1].Tag; present+len(p.mirrors) > 1 && !s.MultipleMirrors {
		return refuse(last, fmt.Sprintf("the rule would have %d mirrors and GatewayClass %s does not declare HTTPRouteRequestMultipleMirrors", present+len(p.mirrors), s.Class),
			"keep one mirror: remove the route's own RequestMirror filter or the mirror from traffic.yaml")
	}
	if n := len(filters) + len(p.mirrors); n > maxFilters {
		return &LimitError{Object: describe(object), Field: r.path, Value: int64(n), Limit: maxFilters, What: "the number of filters",
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
	for _, b := range r.backends {
		own, err := read.list(b.fields["filters"], b.path+".filters")
		if err != nil {
			return nil, 0, err
		}
		count(own)
	}
	return filters, mirrors, nil
}
