package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Tagged is a release of the project and its tags; without tags it has no weights.
type Tagged struct {
	Environment string
	Namespace   string
	Component   string
	Tags        []string
}

func (t Tagged) is(other Tagged) bool {
	return t.Namespace == other.Namespace && t.Component == other.Component
}

// from names the component as the release own would.
func (t Tagged) from(own Tagged) string {
	if t.Namespace == own.Namespace {
		return "component " + t.Component
	}
	return fmt.Sprintf("component %s in environment %s", t.Component, t.Environment)
}

// Finding is one place where a release's weights would not be followed.
type Finding struct {
	Object    string // kind namespace/name of the route
	Field     string // path of the reference; "" when the route cannot be read
	Service   string
	Component string
	Tag       string // "" when the plain Service is named
	Guess     bool   // an object of a kind not known here looks as if it named the Service
	Outside   bool   // a route outside of the release of Component is certain to name the Service
	Message   string // whole sentence, with object and field
	Hint      string // what to do
}

// Foreign looks through the objects of the release own for routes that name the
// Service of a tag of another release, in whichever environment: they would silently
// ignore its weights. Mirrors that name one are among them: what traffic.yaml lists as
// mirrored to would not be all. Objects of kinds that Transform does not know are looked
// through for those of own as well (Transform refuses the routes that it knows).
// Findings are in the order of objects.
func Foreign(objects []*unstructured.Unstructured, own Tagged, tagged []Tagged) []Finding {
	owners := map[string]Finding{}
	releases := map[string]Tagged{}
	for _, t := range tagged {
		for _, tag := range t.Tags {
			at := t.Namespace + "/" + t.Component + "-" + tag
			owners[at], releases[at] = Finding{Service: t.Component + "-" + tag, Component: t.Component, Tag: tag}, t
		}
	}
	services := slices.Sorted(maps.Keys(owners))
	return find(objects, func(f *Finding, r reference, known bool) bool {
		at := r.namespace + "/" + r.service
		if i := slices.IndexFunc(services, func(at string) bool { return isBalancer(r.traefik, at) }); i >= 0 {
			at, r.doubt = services[i], fmt.Sprintf("Traefik gives the balancer of a Service a name such as %q", r.traefik)
		}
		owner, found := owners[at]
		if !found || r.policy || known && releases[at].is(own) {
			return false
		}
		f.Service, f.Component, f.Tag = owner.Service, owner.Component, owner.Tag
		from := releases[at].from(own)
		f.Hint = fmt.Sprintf("move the route into the release of %s and name Service %s", from, f.Component)
		if !known {
			f.Hint = fmt.Sprintf("use a route of a kind with weights (%s) in the release of %s and name Service %s", withWeights, from, f.Component)
		}
		if r.mirror {
			f.Hint = fmt.Sprintf("name Service %s there, or write the mirror into traffic.yaml of %s", f.Component, from)
		}
		verb, why := "names", ""
		if r.doubt != "" {
			verb, why = "may mean", ": "+r.doubt
		}
		f.Message = fmt.Sprintf("%s: %s %s Service %s of tag %s, which ignores the weights of %s%s", f.Object, f.Field, verb, f.Service, f.Tag, from, why)
		return true
	})
}

// isBalancer reports whether Traefik may mean, by a name of its own, the balancer that
// it makes for a Service namespace/name: "shop-api-blue-80@kubernetescrd".
func isBalancer(traefik, service string) bool {
	name, marked := strings.CutSuffix(traefik, traefikSuffix)
	return marked && strings.HasPrefix(name+"-", strings.Replace(service, "/", "-", 1)+"-")
}

const withWeights = "HTTPRoute, GRPCRoute, VirtualService, IngressRoute"

// Unweighted looks through the objects of the release own for routes that send
// requests to a tagged component, and that no weights are written into: routes of
// another release (Outside), and kinds without weights. All their requests go to the
// tag with the highest weight. The release's own routes of supported kinds are split by
// Transform. Of one that leads over a TraefikService, to a delegate, or to an object of a
// kind that is not known, which the release does not have, nobody knows whether it is
// split. A DestinationRule for the Service of a tag is found outside of its release.
func Unweighted(objects []*unstructured.Unstructured, own Tagged, tagged []Tagged) []Finding {
	has := map[string]bool{}
	for _, object := range objects {
		has[identity(object)] = true
	}
	releases, tags := map[string]Tagged{}, map[string]string{}
	for _, t := range tagged {
		if len(t.Tags) > 0 {
			releases[t.Namespace+"/"+t.Component] = t
		}
		for _, tag := range t.Tags {
			at := t.Namespace + "/" + t.Component + "-" + tag
			releases[at], tags[at] = t, tag
		}
	}
	return find(objects, func(f *Finding, r reference, known bool) bool {
		if kind, name := r.over(); kind != "" {
			if len(own.Tags) == 0 || strings.Contains(name, "@") || has[kind+" "+r.namespace+"/"+name] {
				return false
			}
			kind, _, _ = strings.Cut(kind, ".")
			f.Component = own.Component
			f.Message = fmt.Sprintf("%s: %s names %s %q, which is not in the release: whether its requests are split by the weights is not known", f.Object, f.Field, kind, name)
			f.Hint = fmt.Sprintf("move the %s into the release of component %s, if it leads to Service %s", kind, f.Component, f.Component)
			if r.unknown != "" {
				f.Hint = fmt.Sprintf("name Service %s there, if the requests are for it", f.Component)
			}
			return true
		}
		at := r.namespace + "/" + r.service
		owner, found := releases[at]
		if !found || r.mirror || owner.is(own) && r.weighted {
			return false
		}
		f.Component, f.Tag = owner.Component, tags[at]
		if f.Tag != "" {
			f.Message = fmt.Sprintf("%s: %s is for Service %s of tag %s: Istio takes one DestinationRule for a host, this one or that of the tag's own release", f.Object, f.Field, f.Service, f.Tag)
			f.Hint = fmt.Sprintf("move it into the release of %s, or into the overlay of tag %s there", owner.from(own), f.Tag)
			return r.policy && r.weighted // what else names a tag is for Foreign
		}
		f.Outside = known && !r.policy && r.doubt == "" && !owner.is(own)
		f.Hint = fmt.Sprintf("use a route of a kind with weights (%s) in the release of %s", withWeights, owner.from(own))
		if f.Outside && r.weighted {
			f.Hint = fmt.Sprintf("move the route into the release of %s", owner.from(own))
		}
		switch {
		case r.policy:
			f.Message = fmt.Sprintf("%s: %s is for Service %s: requests that routes send to the Services of its tags are not subject to it", f.Object, f.Field, f.Service)
			f.Hint = fmt.Sprintf("have it target the Services of the tags (%s-%s, …) too", f.Component, owner.Tags[0])
			if r.weighted {
				f.Hint = fmt.Sprintf("move it into the release of %s, where it is copied for each tag", owner.from(own))
			}
		case r.doubt != "":
			f.Message = fmt.Sprintf("%s: %s may mean Service %s: %s", f.Object, f.Field, f.Service, r.doubt)
		default:
			f.Message = fmt.Sprintf("%s: %s names Service %s: its requests are not split by the weights, all go to the tag with the highest", f.Object, f.Field, f.Service)
		}
		return true
	})
}

// over is the kind and the name of what a reference leads over; "" for a Service.
func (r reference) over() (kind, name string) {
	switch {
	case r.traefik != "":
		return "TraefikService." + traefikGroup, r.traefik
	case r.delegate != "":
		return "VirtualService." + istioGroup, r.delegate
	case r.unknown != "":
		return r.unknown, r.name
	}
	return "", ""
}

// find offers every reference of the objects to match, which completes the
// finding or declines it; known says whether the kind of the object is. Routes that
// cannot be read are findings themselves: what they name is not guessed.
func find(objects []*unstructured.Unstructured, match func(f *Finding, r reference, known bool) bool) []Finding {
	var findings []Finding
	for _, object := range objects {
		k, known := kindOf(object, "")
		var references []reference
		var err error
		switch {
		case k.references != nil:
			references, err = k.references(object)
		case !known && !aside(object):
			references = seek(object)
		}
		if err != nil {
			findings = append(findings, Finding{Object: describe(object), Message: err.Error(), Hint: "correct the route so that its backends can be read"})
			continue
		}
		if k.mirrors != nil {
			for _, r := range k.mirrors(object) {
				r.mirror = true
				references = append(references, r)
			}
		}
		for _, r := range references {
			r.weighted = k.rewrite != nil
			f := Finding{Object: describe(object), Field: r.field, Service: r.service, Guess: r.guess}
			if match(&f, r, k.references != nil) {
				findings = append(findings, f)
			}
		}
	}
	return findings
}
