package traffic

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	traefikGroup    = "traefik.io"
	oldTraefikGroup = "traefik.containo.us" // of Traefik 2, which Traefik 3 does not read

	// traefikSuffix marks a name as one of Traefik's Kubernetes provider, where
	// names of other providers ("web@file") are allowed too.
	traefikSuffix = "@kubernetescrd"
)

// traefikAPI has no bound on weights but that of its integers, on 32 bits. A Service without
// endpoints makes Traefik drop the whole route, even at weight 0.
var traefikAPI = bounds{name: "Traefik", weight: math.MaxInt32, sum: math.MaxInt64}

// traefikKind are the kinds of Traefik that send requests anywhere.
func traefikKind(name string, rewrite func(*unstructured.Unstructured, *split) error) (kind, bool) {
	switch name {
	case "IngressRoute", "IngressRouteTCP", "IngressRouteUDP", "TraefikService":
		return kind{references: traefikReferences, mirrors: traefikCopies, rewrite: rewrite, lists: traefikLists, companions: traefikCompanions}, true
	}
	return kind{}, false
}

// traefikList is a list of weighted services: that of a route, or of a
// TraefikService. The maps are those of the object.
type traefikList struct {
	holder   map[string]any // has the list as "services"
	path     string         // of the list
	targets  []entry
	soleAll  bool // a sole entry gets all requests, whatever its weight
	mirrored bool // its requests can be mirrored
}

// traefikObject is what an object of Traefik sends requests to.
type traefikObject struct {
	lists     []traefikList
	mirroring *entry      // the main service of a TraefikService of kind mirroring
	unread    []reference // in parts that are not understood
}

func readTraefik(object *unstructured.Unstructured) (traefikObject, error) {
	if object.GetKind() == "TraefikService" {
		return readTraefikService(object)
	}
	var out traefikObject
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return out, err
	}
	routes, err := read.list(spec["routes"], "spec.routes")
	if err != nil {
		return out, err
	}
	http := object.GetKind() == "IngressRoute"
	for i, item := range routes {
		at := fmt.Sprintf("spec.routes[%d]", i)
		route, err := read.fields(item, at)
		if err != nil {
			return out, err
		}
		list, err := read.traefikList(route, at, object.GetNamespace(), http)
		if err != nil {
			return out, err
		}
		list.soleAll, list.mirrored = true, http
		out.lists = append(out.lists, list)
	}
	return out, nil
}

func readTraefikService(object *unstructured.Unstructured) (traefikObject, error) {
	var out traefikObject
	read := reader{object: describe(object)}
	spec, err := read.fields(object.Object["spec"], "spec")
	if err != nil {
		return out, err
	}
	for _, key := range slices.Sorted(maps.Keys(spec)) {
		at := "spec." + key
		switch key {
		case "weighted", "highestRandomWeight":
			fields, err := read.fields(spec[key], at)
			if err != nil {
				return out, err
			}
			list, err := read.traefikList(fields, at, object.GetNamespace(), true)
			if err != nil {
				return out, err
			}
			list.mirrored = true
			out.lists = append(out.lists, list)
		case "mirroring":
			main, err := read.traefikTarget(spec[key], at, object.GetNamespace(), true)
			if err != nil {
				return out, err
			}
			if _, err := read.list(main.fields["mirrors"], at+".mirrors"); err != nil {
				return out, err
			}
			out.mirroring = &main
		default:
			out.unread = append(out.unread, unreadReferences(spec[key], at, object.GetNamespace())...)
		}
	}
	return out, nil
}

func (r reader) traefikList(holder map[string]any, at, namespace string, http bool) (traefikList, error) {
	list := traefikList{holder: holder, path: at + ".services"}
	items, err := r.list(holder["services"], list.path)
	if err != nil {
		return list, err
	}
	for i, item := range items {
		t, err := r.traefikTarget(item, fmt.Sprintf("%s[%d]", list.path, i), namespace, http)
		if err != nil {
			return list, err
		}
		list.targets = append(list.targets, t)
	}
	return list, nil
}

// traefikTarget reads one entry. A Service of HTTP may be named with Traefik's
// suffix; a TraefikService so named is one of namespace-name.
func (r reader) traefikTarget(value any, path, namespace string, http bool) (entry, error) {
	t := entry{reference: reference{field: path}}
	var err error
	if t.fields, err = r.fields(value, path); err != nil {
		return t, err
	}
	var name, kind string
	for _, f := range []struct {
		key, fallback string
		into          *string
	}{{"name", "", &name}, {"kind", "Service", &kind}, {"namespace", namespace, &t.namespace}} {
		if *f.into, err = r.text(t.fields, path, f.key, f.fallback); err != nil {
			return t, err
		}
	}
	if name == "" {
		return t, r.malformed(path+".name", "a name")
	}
	if t.namespace == "" {
		t.namespace = namespace
	}
	switch {
	case http && kind == "TraefikService":
		t.traefik = name
	case http && kind == "Service":
		t.service = strings.TrimSuffix(name, traefikSuffix)
	case !http:
		t.service = name
	}
	t.weight, err = r.weight(t.fields, path, 1, traefikAPI.weight)
	return t, err
}

// unreadReferences are the Services that may be meant in a part of a
// TraefikService that is not known here: whatever is named as one is.
func unreadReferences(value any, path, namespace string) []reference {
	var found []reference
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			found = append(found, unreadReferences(item, fmt.Sprintf("%s[%d]", path, i), namespace)...)
		}
	case map[string]any:
		if name, _ := value["name"].(string); name != "" && value["kind"] != "TraefikService" {
			found = append(found, reference{field: path, namespace: namespace, service: strings.TrimSuffix(name, traefikSuffix),
				doubt: "this part of a TraefikService is not known to Sluice"})
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			found = append(found, unreadReferences(value[key], path+"."+key, namespace)...)
		}
	}
	return found
}

// traefikReferences lists what an object sends requests to. The targets of
// mirrors are none of them.
func traefikReferences(object *unstructured.Unstructured) ([]reference, error) {
	read, err := readTraefik(object)
	if err != nil {
		return nil, err
	}
	references := read.unread
	for _, list := range read.lists {
		for _, t := range list.targets {
			t.idle = t.weight == 0 && !(list.soleAll && len(list.targets) == 1)
			references = append(references, t.reference)
		}
	}
	if read.mirroring != nil {
		references = append(references, read.mirroring.reference)
	}
	return references, nil
}

// traefikCopies lists what a TraefikService of kind mirroring copies requests to.
func traefikCopies(object *unstructured.Unstructured) (found []reference) {
	read, err := readTraefik(object)
	if err != nil || read.mirroring == nil {
		return nil
	}
	mirrors, _ := read.mirroring.fields["mirrors"].([]any)
	for i, m := range mirrors {
		at := fmt.Sprintf("%s.mirrors[%d]", read.mirroring.field, i)
		if t, err := (reader{}).traefikTarget(m, at, object.GetNamespace(), true); err == nil && t.service != "" {
			found = append(found, t.reference)
		}
	}
	return found
}

// traefikLists takes a TraefikService that mirrors a tag for that tag's Service.
func traefikLists(object *unstructured.Unstructured) ([][]weighted, error) {
	read, err := readTraefik(object)
	var lists [][]weighted
	for _, l := range read.lists {
		var list []weighted
		for _, t := range l.targets {
			service := t.service
			if at := strings.LastIndex(t.traefik, mirrorInfix); at >= 0 {
				service = t.traefik[:at]
			}
			if l.soleAll && len(l.targets) == 1 {
				t.weight = 1
			}
			list = append(list, weighted{service, t.weight})
		}
		lists = append(lists, list)
	}
	if main := read.mirroring; main != nil {
		lists = append(lists, []weighted{{main.service, 1}})
	}
	return lists, err
}

// traefikRoute rewrites an IngressRoute, an IngressRouteTCP or UDP, or a
// TraefikService in place.
func traefikRoute(object *unstructured.Unstructured, p *split) error {
	read, err := readTraefik(object)
	if err != nil {
		return err
	}
	for _, list := range read.lists {
		if err := p.expandTraefik(object, list); err != nil {
			return err
		}
	}
	if main := read.mirroring; main != nil && p.owns(object, *main) {
		return p.expandMirroring(object, *main)
	}
	return nil
}

// oldTraefikRoute refuses an object that Traefik 3 does not read.
func oldTraefikRoute(object *unstructured.Unstructured, p *split) error {
	references, err := traefikReferences(object)
	if err != nil {
		return err
	}
	for _, r := range references {
		if r.service == p.component && r.namespace == object.GetNamespace() {
			return &UnclearError{Object: describe(object), Field: r.field, Service: r.service,
				Reason: "weights are not written into " + oldTraefikGroup + ", which Traefik 3 does not read; write it as " + traefikGroup + "/v1alpha1"}
		}
	}
	return nil
}

// maybeService reports whether a name of Traefik's own may be that of the balancer
// it makes for the Service of the component or of a tag: namespace-api-80, where
// namespace-name is a TraefikService as well.
func (p *split) maybeService(r reference) bool {
	name, marked := strings.CutSuffix(r.traefik, traefikSuffix)
	name, here := strings.CutPrefix(name, r.namespace+"-")
	if !marked || !here || p.declared["TraefikService."+traefikGroup+" "+r.namespace+"/"+name] {
		return false
	}
	return name == p.component || strings.HasPrefix(name, p.component+"-")
}

// expandTraefik replaces the references to the component in a list by references
// to its tags, in place. Where there are mirrors, each leads over a TraefikService
// that copies its requests: what else of the list there is keeps its own.
func (p *split) expandTraefik(object *unstructured.Unstructured, list traefikList) error {
	targets := make([]target, len(list.targets))
	ours, receives := false, false
	for i, t := range list.targets {
		if list.soleAll && len(targets) == 1 && t.weight == 0 {
			t.weight = 1
		}
		t.ours = p.owns(object, t)
		ours, receives = ours || t.ours, receives || t.ours && t.weight > 0
		targets[i] = t.target
	}
	if !ours {
		return nil
	}
	mirror := len(p.mirrors) > 0 && receives
	if mirror && !list.mirrored {
		return &MirrorError{Component: p.component, Object: describe(object), Field: strings.TrimSuffix(list.path, ".services"), Tag: p.mirrors[0].Tag, Beside: p.mirrors[1:],
			Reason:      "Traefik mirrors HTTP requests only",
			Alternative: "route the requests with an IngressRoute, or remove the mirror from traffic.yaml"}
	}
	expanded, err := p.expand(object, list.path, targets, traefikAPI, func(t target, tag string) (map[string]any, error) {
		if mirror && t.weight > 0 {
			return p.mirroring(object, t.fields, tag)
		}
		return p.traefikTag(t.fields, tag), nil
	})
	if err != nil {
		return err
	}
	list.holder["services"] = expanded
	p.mirrored = p.mirrored || mirror
	return nil
}

// traefikTag is a reference to a tag as the user wrote the one to the component.
func (p *split) traefikTag(fields map[string]any, tag string, without ...string) map[string]any {
	ref := runtime.DeepCopyJSON(fields)
	for _, key := range without {
		delete(ref, key)
	}
	suffix := strings.TrimPrefix(fields["name"].(string), p.component)
	ref["name"] = p.service(tag) + suffix
	return ref
}

// mirroring adds the TraefikService that copies the requests of one tag, and
// returns the reference to it.
func (p *split) mirroring(object *unstructured.Unstructured, fields map[string]any, tag string) (map[string]any, error) {
	name := mirrorName(p.component, tag, fields)
	spec := p.traefikTag(fields, tag, "weight")
	spec["mirrors"] = p.traefikMirrors(fields)
	service := companion(traefikGroup+"/v1alpha1", "TraefikService", name, object)
	service.Object["spec"] = map[string]any{"mirroring": spec}
	return map[string]any{"kind": "TraefikService", "name": name}, p.add(service, object)
}

func (p *split) traefikMirrors(fields map[string]any) []any {
	var mirrors []any
	for _, m := range p.mirrors {
		mirror := p.traefikTag(fields, m.Tag, "weight", "sticky", "mirrors", "mirrorBody", "maxBodySize")
		mirror["percent"] = int64(m.Percent)
		mirrors = append(mirrors, mirror)
	}
	return mirrors
}

// expandMirroring has a user's own mirroring of the component send requests to its
// tags, and copy them to those of traffic.yaml too. Its main service is a single
// one: several tags go into a weighted TraefikService.
func (p *split) expandMirroring(object *unstructured.Unstructured, main entry) error {
	own, _ := main.fields["mirrors"].([]any) // a list, as was read
	mirrors := append(slices.Clone(own), p.traefikMirrors(main.fields)...)
	p.mirrored = p.mirrored || len(p.mirrors) > 0
	if tag := p.heaviest(); p.percent(tag) == 100 {
		main.fields["name"] = p.traefikTag(main.fields, tag)["name"]
	} else {
		name := splitName(p.component, main.fields)
		weighted := companion(traefikGroup+"/v1alpha1", "TraefikService", name, object)
		services, err := p.expand(object, main.field, []target{{fields: main.fields, weight: 1, ours: true}}, traefikAPI,
			func(t target, tag string) (map[string]any, error) {
				return p.traefikTag(t.fields, tag, ofMirroring...), nil
			})
		if err != nil {
			return err
		}
		weighted.Object["spec"] = map[string]any{"weighted": map[string]any{"services": services}}
		if err := p.add(weighted, object); err != nil {
			return err
		}
		maps.DeleteFunc(main.fields, func(key string, _ any) bool { return !slices.Contains(ofMirroring, key) })
		main.fields["kind"], main.fields["name"] = "TraefikService", name
	}
	if len(mirrors) > 0 {
		main.fields["mirrors"] = mirrors
	}
	return nil
}

// ofMirroring are the fields that a mirroring has besides its main service.
var ofMirroring = []string{"mirrors", "mirrorBody", "maxBodySize"}

// traefikCompanions are the TraefikServices that mirrors, and a user's mirroring
// over several tags, need.
func traefikCompanions(object *unstructured.Unstructured, component string, tags []string) []*unstructured.Unstructured {
	read, err := readTraefik(object)
	if err != nil || object.GroupVersionKind().Group != traefikGroup {
		return nil
	}
	p := &split{component: component}
	var all []*unstructured.Unstructured
	add := func(name string) {
		all = append(all, companion(traefikGroup+"/v1alpha1", "TraefikService", name, object))
	}
	for _, list := range read.lists {
		for _, t := range list.targets {
			if !list.mirrored || !p.owns(object, t) {
				continue
			}
			for _, tag := range tags {
				add(mirrorName(component, tag, t.fields))
			}
		}
	}
	if main := read.mirroring; main != nil && p.owns(object, *main) {
		add(splitName(component, main.fields))
	}
	return all
}

const mirrorInfix = "-mirror-"

func mirrorName(component, tag string, fields map[string]any) string {
	return component + "-" + tag + mirrorInfix + fingerprint(fields)
}

func splitName(component string, fields map[string]any) string {
	return component + "-split-" + fingerprint(fields)
}

// fingerprint tells references apart that differ in more than what they name and
// its weight: the port, the scheme, a cookie.
func fingerprint(fields map[string]any) string {
	rest := maps.Clone(fields)
	for _, key := range append([]string{"name", "namespace", "kind", "weight"}, ofMirroring...) {
		delete(rest, key)
	}
	text, err := json.Marshal(rest)
	if err != nil {
		panic(err) // objects hold JSON values
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:5])
}
