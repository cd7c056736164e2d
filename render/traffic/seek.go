package traffic

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// aside reports whether an object is of a kind of which it is known that it leads no
// requests to a Service by name: Kubernetes' own (but for Ingress, which kindOf has),
// and the rest of what Istio and Traefik define. Those that mirror or answer errors,
// Traefik's Middlewares among them, are left as filters of routes are.
func aside(object *unstructured.Unstructured) bool {
	switch group := object.GroupVersionKind().Group; group {
	case gatewayGroup:
		return false
	case traefikGroup, oldTraefikGroup:
		return true
	default:
		return !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io") || strings.HasSuffix(group, ".istio.io")
	}
}

// seek looks for Services in an object of a kind that is not known here, by what such
// kinds have in common (HTTPProxy, Route, Mapping, TrafficSplit, HTTPScaledObject and
// others were looked at):
//
//  1. A mapping with a name, and kind Service or none, in a field that holds
//     backends: services: [{name: api, port: 80}], to: {kind: Service, name: api}.
//  2. A string in a field whose name ends with service or serviceName, as a name, a
//     host or a URL: {service: api, port: 80}, {canaryService: api-green}. A bare
//     service or serviceName is as often a label, and counts only beside a port, a
//     weight or a path.
//  3. A host beside a port.
//  4. A mapping of kind Service in targetRefs: the object is a policy for it.
//
// It is sure that requests are led there if the kind is called a route, an ingress, a
// proxy or the like, and the form is 1 or 2 with a port, weight or path. All else is
// a guess. Labels, selectors and containers name no Services.
func seek(object *unstructured.Unstructured) []reference {
	gvk := object.GroupVersionKind()
	s := seeker{namespace: object.GetNamespace(), leads: leading.MatchString(gvk.Kind), doubt: "kind " + gvk.GroupKind().String() + " is not known to Sluice"}
	for _, key := range slices.Sorted(maps.Keys(object.Object)) {
		if !passed[key] {
			s.walk(object.Object[key], key, key)
		}
	}
	return s.found
}

var (
	leading = regexp.MustCompile(`Route|Ingress|Proxy|Mapping|VirtualServer|VirtualService|VirtualHost|TrafficSplit|HTTPScaledObject`)

	// passed are the fields that name other things, in whatever kind.
	passed = fieldSet("metadata", "status", "labels", "annotations", "matchLabels", "selector", "containers", "initContainers", "volumes", "env")

	// backends are the fields that hold what requests are led to, in lower case.
	backends = fieldSet("service", "services", "serviceref", "servicerefs", "backend", "backends", "backendref", "backendrefs", "backendservices",
		"upstream", "upstreams", "alternatebackends")

	// beside are what stands beside the name of a Service that requests are led to.
	beside = fieldSet("port", "portNumber", "portName", "servicePort", "weight", "prefix", "path", "pathPrefix")

	hosts = fieldSet("host", "hostname", "address", "fqdn")
)

func fieldSet(names ...string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// seeker is seek on its way through an object.
type seeker struct {
	namespace string
	leads     bool   // the kind is called as one that leads requests
	doubt     string // for guesses
	found     []reference
}

func (s *seeker) walk(value any, path, key string) {
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			s.walk(item, fmt.Sprintf("%s[%d]", path, i), key)
		}
	case map[string]any:
		s.mapping(value, path, strings.ToLower(key))
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if passed[key] {
				continue
			}
			if text, ok := value[key].(string); ok {
				s.text(value, text, path+"."+key, strings.ToLower(key))
				continue
			}
			s.walk(value[key], path+"."+key, key)
		}
	}
}

// mapping looks at forms 1 and 4.
func (s *seeker) mapping(fields map[string]any, path, key string) {
	text := func(key string) string { value, _ := fields[key].(string); return value }
	name, kind := text("name"), text("kind")
	core := cmp.Or(text("group"), text("apiGroup"), "core") == "core" && cmp.Or(text("apiVersion"), "v1") == "v1"
	if name == "" || !core || kind != "" && kind != "Service" {
		return
	}
	r := reference{field: path, namespace: text("namespace"), service: name}
	switch {
	case kind == "Service" && strings.HasPrefix(key, "targetref"):
		r.policy = true
		s.add(r, true)
	case backends[key] || kind == "Service" && key == "to":
		s.add(r, kind == "Service" || leadsThere(fields))
	}
}

// text looks at forms 2 and 3.
func (s *seeker) text(fields map[string]any, value, path, key string) {
	r, whole, ok := serviceIn(value)
	r.field = path
	bare := key == "service" || key == "servicename"
	switch {
	case !ok:
	case bare && (whole || leadsThere(fields)):
		s.add(r, true)
	case bare:
	case strings.HasSuffix(key, "service"), strings.HasSuffix(key, "servicename"):
		s.add(r, false)
	case hosts[key] && fields["port"] != nil:
		s.add(r, false)
	}
}

// add notes a reference. Without a namespace it is to one of the object's own.
func (s *seeker) add(r reference, formSure bool) {
	r.namespace = cmp.Or(r.namespace, s.namespace)
	if !r.policy && !(formSure && s.leads) {
		r.guess, r.doubt = true, s.doubt
	}
	s.found = append(s.found, r)
}

func leadsThere(fields map[string]any) bool {
	for key := range beside {
		if fields[key] != nil {
			return true
		}
	}
	return false
}

// serviceIn reads a Service out of a name, a host or a URL. It is whole with a scheme
// or a port: nothing else than an address has those.
func serviceIn(text string) (r reference, whole, ok bool) {
	if _, rest, found := strings.Cut(text, "://"); found {
		text, whole = rest, true
	}
	text, _, _ = strings.Cut(text, "/")
	if host, _, found := strings.Cut(text, ":"); found {
		text, whole = host, true
	}
	labels := strings.Split(text, ".")
	if len(labels) > 2 && labels[2] != "svc" {
		return r, false, false
	}
	r.service = labels[0]
	if len(labels) > 1 {
		r.namespace = labels[1]
	}
	return r, whole, r.service != ""
}
