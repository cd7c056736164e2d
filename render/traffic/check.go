package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Finding is one place where a release's weights would not be followed.
type Finding struct {
	Object    string // kind namespace/name of the route
	Field     string // path of the reference; "" when the route cannot be read
	Service   string
	Component string
	Tag       string // "" when the plain Service is named
	Message   string // whole sentence, with object and field
	Hint      string // what to do
}

// Foreign looks through the objects of one release for routes that name the
// Service of a tag of another release: they would silently ignore its weights.
// tagged lists the tags of each tagged component of the environment except the
// release's own (Transform refuses those). Findings are in the order of objects.
func Foreign(objects []*unstructured.Unstructured, tagged map[string][]string) []Finding {
	owners := map[string]Finding{}
	for _, component := range slices.Sorted(maps.Keys(tagged)) {
		for _, tag := range tagged[component] {
			owners[component+"-"+tag] = Finding{Component: component, Tag: tag}
		}
	}
	return find(objects, func(f *Finding, r reference, _ kind) bool {
		owner, found := owners[f.Service]
		if !found {
			return false
		}
		f.Component, f.Tag = owner.Component, owner.Tag
		f.Hint = fmt.Sprintf("move the route into the release of component %s and name Service %s", f.Component, f.Component)
		if r.doubt != "" {
			f.Message = fmt.Sprintf("%s: %s may mean Service %s of tag %s, which ignores the weights of component %s: %s", f.Object, f.Field, f.Service, f.Tag, f.Component, r.doubt)
			return true
		}
		f.Message = fmt.Sprintf("%s: %s names Service %s of tag %s, which ignores the weights of component %s", f.Object, f.Field, f.Service, f.Tag, f.Component)
		return true
	})
}

// Unweighted looks through the objects of one release for routes that send
// requests to a tagged component, and that no weights are written into: routes of
// another release, and kinds without weights. All their requests go to the tag
// with the highest weight. tagged are the tagged components; own is the release's
// own component, whose supported routes are split by Transform ("" for none). Of a
// route of its own that leads over a TraefikService which the release does not have
// nobody knows whether it is split.
func Unweighted(objects []*unstructured.Unstructured, own string, tagged []string) []Finding {
	has := map[string]bool{}
	for _, object := range objects {
		has[identity(object)] = true
	}
	return find(objects, func(f *Finding, r reference, k kind) bool {
		if r.traefik != "" {
			over := "TraefikService." + traefikGroup + " " + r.namespace + "/" + r.traefik
			if !slices.Contains(tagged, own) || strings.Contains(r.traefik, "@") || has[over] {
				return false
			}
			f.Component = own
			f.Message = fmt.Sprintf("%s: %s names TraefikService %q, which is not in the release: whether its requests are split by the weights is not known", f.Object, f.Field, r.traefik)
			f.Hint = fmt.Sprintf("move the TraefikService into the release of component %s, if it leads to Service %s", own, own)
			return true
		}
		if !slices.Contains(tagged, f.Service) || f.Service == own && k.rewrite != nil {
			return false
		}
		f.Component = f.Service
		f.Message = fmt.Sprintf("%s: %s names Service %s: its requests are not split by the weights, all go to the tag with the highest", f.Object, f.Field, f.Service)
		f.Hint = fmt.Sprintf("use a route of a kind with weights (HTTPRoute, GRPCRoute, VirtualService, IngressRoute) in the release of component %s", f.Component)
		if r.doubt != "" {
			f.Message = fmt.Sprintf("%s: %s may mean Service %s: %s", f.Object, f.Field, f.Service, r.doubt)
		}
		return true
	})
}

// find offers every reference of the objects to match, which completes the
// finding or declines it. Routes that cannot be read are findings themselves:
// what they name is not guessed.
func find(objects []*unstructured.Unstructured, match func(*Finding, reference, kind) bool) []Finding {
	var findings []Finding
	for _, object := range objects {
		k, known := kindOf(object, "")
		if !known || k.references == nil {
			continue
		}
		references, err := k.references(object)
		if err != nil {
			findings = append(findings, Finding{Object: describe(object), Message: err.Error(), Hint: "correct the route so that its backends can be read"})
			continue
		}
		for _, r := range references {
			f := Finding{Object: describe(object), Field: r.field, Service: r.service}
			if r.namespace == object.GetNamespace() && match(&f, r, k) {
				findings = append(findings, f)
			}
		}
	}
	return findings
}
