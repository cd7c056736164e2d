package traffic

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

const istioGroup = "networking.istio.io"

// istioAPI holds weights, and their sum, in 32 bits. Destinations of weight 0 are
// passed over.
var istioAPI = bounds{name: "Istio", weight: math.MaxInt32, sum: math.MaxInt32, idle: true}

// readVirtualService reads the entries of spec.http, spec.tcp and spec.tls. A redirect
// or a direct response has no destinations. The maps are those of the object.
func readVirtualService(object *unstructured.Unstructured) ([]rule, error) {
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return nil, err
	}
	var routes []rule
	for _, section := range []string{"http", "tls", "tcp"} {
		items, err := read.list(spec[section], "spec."+section)
		if err != nil {
			return nil, err
		}
		for i, item := range items {
			r := rule{path: fmt.Sprintf("spec.%s[%d]", section, i), http: section == "http"}
			if r.fields, err = read.fields(item, r.path); err != nil {
				return nil, err
			}
			list, err := read.list(r.fields["route"], r.path+".route")
			if err != nil {
				return nil, err
			}
			for j, entry := range list {
				d, err := read.istioDestination(entry, fmt.Sprintf("%s.route[%d]", r.path, j), object.GetNamespace())
				if err != nil {
					return nil, err
				}
				if len(list) == 1 {
					d.weight = max(d.weight, 1) // it gets everything, whatever its weight
				}
				r.entries = append(r.entries, d)
			}
			r.delegate = delegateOf(r, object.GetNamespace())
			routes = append(routes, r)
		}
	}
	return routes, nil
}

func (r reader) istioDestination(value any, path, namespace string) (entry, error) {
	d := entry{reference: reference{field: path}}
	var err error
	if d.fields, err = r.fields(value, path); err != nil {
		return d, err
	}
	at := path + ".destination"
	destination, err := r.fields(d.fields["destination"], at)
	if err != nil {
		return d, err
	}
	host, err := r.text(destination, at, "host", "")
	if err != nil {
		return d, err
	}
	if host == "" {
		return d, r.malformed(at+".host", "a host")
	}
	if d.subset, err = r.text(destination, at, "subset", ""); err != nil {
		return d, err
	}
	d.service, d.namespace, d.doubt = istioService(host, namespace)
	d.weight, err = r.weight(d.fields, path, 0, istioAPI.weight)
	return d, err
}

// istioService is the Service that a host means to an object in a namespace.
// Istio takes a host without a dot for the name of a Service in the namespace of
// the object, and any other for a complete name: api.shop is not api.shop.svc.
func istioService(host, namespace string) (service, in, doubt string) {
	name, rest, dotted := strings.Cut(host, ".")
	if !dotted {
		return host, namespace, ""
	}
	in, domain, _ := strings.Cut(rest, ".")
	switch {
	case domain == "" || domain == "svc":
		return name, in, fmt.Sprintf("Istio takes host %q for a complete name, which no Service has; the short one is %s", host, name)
	case domain == "svc.clusterset.local":
		return name, in, fmt.Sprintf("host %q is the Service of all clusters, which has no tags", host)
	case strings.HasPrefix(domain, "svc."):
		return name, in, ""
	}
	return "", "", "" // somebody else's
}

// istioHost is a host that means another Service of the same namespace, in the form
// of the one that was written.
func istioHost(written, service string) string {
	_, rest, dotted := strings.Cut(written, ".")
	if !dotted {
		return service
	}
	return service + "." + rest
}

// delegateOf is the VirtualService that a route leads to in place of destinations.
func delegateOf(r rule, namespace string) *reference {
	delegate, _ := r.fields["delegate"].(map[string]any)
	name, _ := delegate["name"].(string)
	if name == "" {
		return nil
	}
	in, _ := delegate["namespace"].(string)
	return &reference{field: r.path + ".delegate", namespace: cmp.Or(in, namespace), delegate: name}
}

// virtualService rewrites a VirtualService in place.
func virtualService(object *unstructured.Unstructured, p *split) error {
	routes, err := readVirtualService(object)
	if err != nil {
		return err
	}
	for _, r := range routes {
		targets := make([]target, len(r.entries))
		var ours, receiving *entry
		for i, d := range r.entries {
			d.ours = p.owns(object, d)
			targets[i] = d.target
			if !d.ours {
				continue
			}
			if err := p.checkSubset(object, d); err != nil {
				return err
			}
			ours = &r.entries[i]
			if receiving == nil && d.weight > 0 {
				receiving = ours
			}
		}
		if ours == nil {
			continue
		}
		expanded, err := p.expand(object, r.path+".route", targets, istioAPI, func(t target, tag string) (map[string]any, error) {
			ref := runtime.DeepCopyJSON(t.fields)
			ref["destination"] = p.istioTag(ref, tag)
			return ref, nil
		})
		if err != nil {
			return err
		}
		r.fields["route"] = expanded
		if len(p.mirrors) == 0 || receiving == nil {
			continue
		}
		if err := p.mirrorIstio(object, r, *receiving); err != nil {
			return err
		}
		p.mirrored = true
	}
	return nil
}

// istioTag is the destination of a reference, at a tag's Service.
func (p *split) istioTag(ref map[string]any, tag string) map[string]any {
	destination := runtime.DeepCopyJSON(ref["destination"].(map[string]any))
	destination["host"] = istioHost(destination["host"].(string), p.service(tag))
	return destination
}

// mirrorIstio adds the mirrors to a route. Istio copies the requests of the whole
// route, whichever destination answers them. A single mirror is written as every
// version of Istio reads it.
func (p *split) mirrorIstio(object *unstructured.Unstructured, r rule, ours entry) error {
	refuse := func(reason, alternative string) error {
		return &MirrorError{Component: p.component, Object: describe(object), Field: r.path, Tag: p.mirrors[0].Tag, Beside: p.mirrors[1:], Reason: reason, Alternative: alternative}
	}
	if !r.http {
		return refuse("Istio mirrors HTTP requests only", "route the requests in spec.http, or remove the mirror from traffic.yaml")
	}
	for _, d := range r.entries {
		if !p.owns(object, d) && d.weight > 0 {
			return refuse(fmt.Sprintf("the rule also sends requests to %q, which would be copied too", referred(d.fields)),
				fmt.Sprintf("give Service %s a rule of its own, or remove the mirror from traffic.yaml", p.component))
		}
	}
	for _, key := range []string{"mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"} {
		if r.fields[key] != nil {
			return refuse("the rule has "+key+" of its own, beside which Istio allows no other mirror", "write the rule's own mirror as an entry of mirrors")
		}
	}
	own, err := reader{object: describe(object)}.list(r.fields["mirrors"], r.path+".mirrors")
	if err != nil {
		return err
	}
	percentage := func(percent int) map[string]any { return map[string]any{"value": int64(percent)} }
	if m := p.mirrors[0]; len(own)+len(p.mirrors) == 1 {
		r.fields["mirror"], r.fields["mirrorPercentage"] = p.istioTag(ours.fields, m.Tag), percentage(m.Percent)
		return nil
	}
	mirrors := slices.Clone(own)
	for _, m := range p.mirrors {
		mirrors = append(mirrors, map[string]any{"destination": p.istioTag(ours.fields, m.Tag), "percentage": percentage(m.Percent)})
	}
	r.fields["mirrors"] = mirrors
	return nil
}

// istioMirrors lists what the routes of a VirtualService copy requests to, as mirror or
// in mirrors.
func istioMirrors(object *unstructured.Unstructured) (found []reference) {
	routes, err := readVirtualService(object)
	if err != nil {
		return nil
	}
	add := func(destination any, path string) {
		d, err := (reader{}).istioDestination(map[string]any{"destination": destination}, path, object.GetNamespace())
		if err == nil && d.service != "" {
			found = append(found, d.reference)
		}
	}
	for _, r := range routes {
		add(r.fields["mirror"], r.path+".mirror")
		mirrors, _ := r.fields["mirrors"].([]any)
		for i, m := range mirrors {
			fields, _ := m.(map[string]any)
			add(fields["destination"], fmt.Sprintf("%s.mirrors[%d]", r.path, i))
		}
	}
	return found
}
