// Package traffic turns the weights and mirrors of a tagged release into routes.
//
// Call Transform with the objects that exist once per release; Routes then
// separates what the route stage applies from what comes before it, and
// Gateways tells whose GatewayClass has to be looked up before mirrors can be
// asked for. Foreign and Unweighted are for `sluice check`.
//
// The package is a set of pure functions over objects. It never talks to a
// cluster, never changes an object it is given, and changes nothing of a user's
// route but the references to the component's Service and, where a mirror is
// asked for, what its kind needs for one. Some kinds cannot say all of it in the
// object that the user wrote; what is written besides is named by Companions.
// Objects hold JSON values (string, bool, int64, float64, []any,
// map[string]any), as decoders of unstructured objects make them. Kinds that are
// not named in kindOf are passed through.
package traffic

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

const (
	// InstanceLabel tells the pods of one tag from those of another.
	InstanceLabel = "app.kubernetes.io/instance"

	// ExpandedFrom is the annotation on an object that no user wrote: it names the
	// one that needs it, as "IngressRoute/shop".
	ExpandedFrom = "sluice.dev/expanded-from"

	maxWeight     = 1_000_000 // of one reference, by the Gateway API
	maxReferences = 16        // in one rule, and in one ReferenceGrant
	maxFilters    = 16        // in one rule
)

// Support says what the gateways of a release declare in the status of their
// GatewayClass.
type Support struct {
	Known            bool   // false: the GatewayClass could not be read
	PercentageMirror bool   // HTTPRouteRequestPercentageMirror
	MultipleMirrors  bool   // HTTPRouteRequestMultipleMirrors
	Class            string // name of the GatewayClass, for messages
	Missing          string // what could not be read and why, where Known is false: "Gateway shop/web does not exist"
}

// Combine is the support that all of several gateways have in common, under the
// name of the class that has the least. None at all is unknown support.
func Combine(all ...Support) Support {
	if len(all) == 0 {
		return Support{}
	}
	common := all[0]
	for _, s := range all[1:] {
		if s.rank() < common.rank() {
			common.Class, common.Missing = s.Class, s.Missing
		}
		common.Known = common.Known && s.Known
		common.PercentageMirror = common.PercentageMirror && s.PercentageMirror
		common.MultipleMirrors = common.MultipleMirrors && s.MultipleMirrors
	}
	return common
}

func (s Support) rank() int {
	switch {
	case !s.Known:
		return 0
	case !s.PercentageMirror:
		return 1
	case !s.MultipleMirrors:
		return 2
	}
	return 3
}

// Transform returns deep copies of objects in which the release's traffic is
// written down:
//
//   - each reference to Service component in the rules of an HTTPRoute, GRPCRoute
//     or VirtualService becomes one to component-<tag> for every tag of t.Weights,
//     in that order, tags of weight 0 included: such a reference takes no requests,
//     and moving traffic later changes a number only. In a rule with other
//     references their weights and those of the tags are put on one scale;
//   - so does each reference in an IngressRoute, IngressRouteTCP, IngressRouteUDP or
//     TraefikService, but without tags of weight 0: Traefik drops a route when one
//     of its Services has no endpoint, whatever its weight;
//   - each rule that sends requests to the component gets what its kind mirrors by
//     for every tag of t.Mirrors with a percentage above 0: a RequestMirror filter,
//     mirror and mirrorPercentage, or a TraefikService of kind mirroring;
//   - each DestinationRule for Service component is copied for every tag of
//     t.Weights, as Istio looks for one by host;
//   - ReferenceGrants for Service component also grant component-<tag> for every
//     tag in tags, listed or not. The grant for the plain Service stays: whoever
//     uses it lives in another namespace, and the transform does not reach there;
//   - the plain Service component selects the tag of the highest weight, the
//     first of several.
//
// Where a route has session persistence the gateway keeps sessions with the tag
// they began on, even at weight 0: draining such a tag takes as long as they last.
//
// beside is what else the release has, the objects of its tag overlays included; some
// of objects may be in it again. It is looked at and neither changed nor returned:
// a DestinationRule for Service component-<tag> that stands there takes the place
// of the copy, and what would be written must not be in it already.
//
// tags are all tags that the release has an overlay for. To leave mirrors out,
// pass a Traffic without them; to check mirrors without a cluster, pass a Support
// that has everything. Errors are of type *TrafficError, *DirectError,
// *LimitError, *MalformedError, *UnclearError, *SubsetError, *TakenError, *UnsplitError,
// and for mirrors that are refused *MirrorError or *UnknownSupportError; each has a Hint.
func Transform(objects, beside []*unstructured.Unstructured, component string, t envrepo.Traffic, tags []string, s Support) ([]*unstructured.Unstructured, error) {
	p, err := newSplit(component, t, tags, s)
	if err != nil {
		return nil, err
	}
	p.look(objects, beside)
	out := make([]*unstructured.Unstructured, 0, len(objects))
	for _, object := range objects {
		object = object.DeepCopy()
		p.added = nil
		if err := p.rewrite(object); err != nil {
			return nil, err
		}
		out = append(append(out, p.added...), object)
	}
	if err := p.refuseUnfollowed(objects, beside); err != nil {
		return nil, err
	}
	return out, nil
}

// refuseUnfollowed refuses what no object has taken: mirrors, and weights.
func (p *split) refuseUnfollowed(objects, beside []*unstructured.Unstructured) error {
	if len(p.mirrors) > 0 && !p.mirrored {
		return &MirrorError{Component: p.component, Tag: p.mirrors[0].Tag, Beside: p.mirrors[1:],
			Reason:      "no route of the release that can mirror sends requests to Service " + p.component,
			Alternative: "add an HTTPRoute, VirtualService or IngressRoute with Service " + p.component + " as a backend, or remove the mirror from traffic.yaml"}
	}
	return p.refuseUnsplit(slices.Concat(objects, beside))
}

// refuseUnsplit refuses weights of several tags where requests come by a route of a
// kind that has none, and by no other: they would go to one tag without a word.
// Beside a route that follows the weights, `sluice check` warns of such a one.
func (p *split) refuseUnsplit(objects []*unstructured.Unstructured) error {
	if p.followed || p.percent(p.heaviest()) == 100 {
		return nil
	}
	for _, object := range objects {
		k, _ := kindOf(object, p.component)
		if k.references == nil || k.rewrite != nil {
			continue
		}
		references, err := k.references(object)
		if err != nil {
			return err
		}
		for _, r := range references {
			if r.service == p.component && r.namespace == object.GetNamespace() {
				return &UnsplitError{Object: describe(object), Field: r.field, Kind: object.GetKind(), Component: p.component, Tag: p.heaviest()}
			}
		}
	}
	return nil
}

// rewrite edits one object in place, if it is of a kind that the traffic concerns.
func (p *split) rewrite(object *unstructured.Unstructured) error {
	k, known := kindOf(object, p.component)
	if !known {
		return nil
	}
	if err := p.refuseDirect(object, k); err != nil || k.rewrite == nil {
		return err
	}
	return k.rewrite(object, p)
}

// Companions are the objects that Transform may write besides those it is given,
// whatever the weights and mirrors over these tags are: kind, namespace and name
// only. Objects that cannot be read have none.
func Companions(objects []*unstructured.Unstructured, component string, tags []string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	seen := map[string]bool{}
	for _, object := range objects {
		k, known := kindOf(object, component)
		if !known || k.companions == nil {
			continue
		}
		for _, c := range k.companions(object, component, tags) {
			if id := identity(c); !seen[id] {
				seen[id] = true
				all = append(all, c)
			}
		}
	}
	return all
}

// Routes splits objects, in order, into what the route stage applies (objects
// that Transform may rewrite: routes, ReferenceGrants and the plain Service of
// the component) and the rest.
func Routes(objects []*unstructured.Unstructured, component string) (routes, rest []*unstructured.Unstructured) {
	for _, object := range objects {
		if k, known := kindOf(object, component); known && k.rewrite != nil {
			routes = append(routes, object)
		} else {
			rest = append(rest, object)
		}
	}
	return routes, rest
}

// kind is what Transform and the checks know about one kind of object.
type kind struct {
	// references lists the Services that the object sends requests to, filters
	// left out. Nil: it sends none.
	references func(*unstructured.Unstructured) ([]reference, error)
	// mirrors lists the Services that the object copies requests to, as its user wrote
	// them; what cannot be read is left out. Nil: it copies none.
	mirrors func(*unstructured.Unstructured) []reference
	// rewrite edits an object in place. Nil: the kind has no weights.
	rewrite func(*unstructured.Unstructured, *split) error
	// lists are the Services of an object with their weights, list by list. Nil: it
	// has none.
	lists func(*unstructured.Unstructured) ([][]weighted, error)
	// companions lists what rewrite may add; see Companions. Nil: nothing.
	companions func(object *unstructured.Unstructured, component string, tags []string) []*unstructured.Unstructured
}

// reference is a Service, or what stands before one, that an object sends requests to.
type reference struct {
	field     string // path in the object
	namespace string // the object's own by default
	service   string // "" for another kind
	traefik   string // name of a TraefikService, "" for another kind
	delegate  string // name of a VirtualService, "" for another kind
	unknown   string // a kind that is not known here, with its group
	name      string // of the object of that kind
	doubt     string // why it is not sure that service is meant; "" when it is
	guess     bool   // it only looks as if it led requests there
	idle      bool   // it has weight 0
	mirror    bool   // copies of requests are sent to it
	policy    bool   // requests to the Service are subject to the object, it sends none
	weighted  bool   // the kind of the object has weights
}

// kindOf is the list of supported kinds; each stands in its own file.
func kindOf(object *unstructured.Unstructured, component string) (kind, bool) {
	gvk := object.GroupVersionKind()
	switch gvk.Group {
	case gatewayGroup:
		switch gvk.Kind {
		case "HTTPRoute":
			return kind{references: referencesOf(gatewayRules), mirrors: gatewayMirrors, rewrite: httpRoute, lists: listsOf(gatewayRules)}, true
		case "GRPCRoute":
			return kind{references: referencesOf(gatewayRules), mirrors: gatewayMirrors, rewrite: grpcRoute, lists: listsOf(gatewayRules)}, true
		case "TCPRoute", "TLSRoute", "UDPRoute":
			return kind{references: referencesOf(gatewayRules)}, true
		case "ReferenceGrant":
			return kind{rewrite: referenceGrant}, true
		}
	case istioGroup:
		switch gvk.Kind {
		case "VirtualService":
			return kind{references: referencesOf(readVirtualService), mirrors: istioMirrors, rewrite: virtualService, lists: listsOf(readVirtualService)}, true
		case "DestinationRule":
			service, _ := destinationHost(object)
			return kind{references: destinationPolicy, rewrite: destinationRule, companions: destinationCompanions}, service == component
		}
	case traefikGroup:
		return traefikKind(gvk.Kind, traefikRoute)
	case oldTraefikGroup:
		return traefikKind(gvk.Kind, oldTraefikRoute)
	case "networking.k8s.io", "extensions":
		if gvk.Kind == "Ingress" {
			return kind{references: ingressReferences}, true
		}
	case "":
		if gvk.Kind == "Service" && object.GetName() == component {
			return kind{rewrite: plainService}, true
		}
	}
	return kind{}, false
}

// split is a validated Traffic on its way through the objects of a release.
type split struct {
	component string
	weights   []envrepo.Weight // document order, sum 100
	mirrors   []envrepo.Weight // those above 0 percent
	tags      []string         // every tag, sorted
	support   Support
	mirrored  bool // some rule has taken the mirrors
	followed  bool // some list of references has taken the weights

	policies map[string][]*unstructured.Unstructured // DestinationRules of the release by Service
	copied   []*unstructured.Unstructured            // those for the component's Service that are copied for tags

	declared map[string]bool              // identities of the release's objects
	written  map[string]bool              // of those that were added
	added    []*unstructured.Unstructured // those that the object in hand needs
}

func newSplit(component string, t envrepo.Traffic, tags []string, s Support) (*split, error) {
	p := &split{component: component, weights: t.Weights, tags: slices.Clone(tags), support: s}
	slices.Sort(p.tags)
	p.tags = slices.Compact(p.tags)
	fail := func(reason string) error { return &TrafficError{Component: component, Reason: reason} }
	if component == "" {
		return nil, fail("the release has no component")
	}
	sum, seen := 0, map[string]bool{}
	for _, w := range t.Weights {
		switch {
		case w.Percent < 0 || w.Percent > 100:
			return nil, fail(quoted("weight of tag %s is not between 0 and 100", w.Tag))
		case seen[w.Tag]:
			return nil, fail(quoted("tag %s is listed twice", w.Tag))
		case !slices.Contains(p.tags, w.Tag):
			return nil, fail(quoted("tag %s has no overlay", w.Tag))
		}
		seen[w.Tag] = true
		sum += w.Percent
	}
	if sum != 100 {
		return nil, fail("the weights do not sum to 100")
	}
	seen = map[string]bool{}
	for _, m := range t.Mirrors {
		weight, listed := t.Weight(m.Tag)
		refuse := func(reason, alternative string) error {
			return &MirrorError{Component: component, Tag: m.Tag, Reason: reason, Alternative: alternative}
		}
		switch {
		case m.Percent < 0 || m.Percent > 100:
			return nil, fail(quoted("mirror to tag %s is not between 0 and 100 percent", m.Tag))
		case seen[m.Tag]:
			return nil, fail(quoted("tag %s is mirrored to twice", m.Tag))
		case !listed:
			return nil, refuse("the tag is not listed in weights and has no pods", "list the tag with weight 0")
		case weight > 0:
			return nil, refuse("the tag has weight and gets production requests already", "mirror to a tag of weight 0")
		}
		seen[m.Tag] = true
		if m.Percent > 0 {
			p.mirrors = append(p.mirrors, m)
		}
	}
	return p, nil
}

// service is the name of a tag's Service.
func (p *split) service(tag string) string { return p.component + "-" + tag }

// tagOf is the tag whose Service has a name, "" when it is no tag's.
func (p *split) tagOf(service string) string {
	if tag, ours := strings.CutPrefix(service, p.component+"-"); ours && slices.Contains(p.tags, tag) {
		return tag
	}
	return ""
}

// percent is the weight of a tag, 0 when it is not listed.
func (p *split) percent(tag string) int {
	weight, _ := envrepo.Traffic{Weights: p.weights}.Weight(tag)
	return weight
}

// heaviest is the tag with the highest weight, the first of several.
func (p *split) heaviest() string {
	best := p.weights[0]
	for _, w := range p.weights {
		if w.Percent > best.Percent {
			best = w
		}
	}
	return best.Tag
}

// refuseDirect returns an error if the object names a tag's Service itself.
func (p *split) refuseDirect(object *unstructured.Unstructured, k kind) error {
	if k.references == nil {
		return nil
	}
	references, err := k.references(object)
	if err != nil {
		return err
	}
	for _, r := range references {
		if r.namespace != object.GetNamespace() {
			continue
		}
		tag := p.tagOf(r.service)
		switch {
		case p.maybeService(r):
			return &UnclearError{Object: describe(object), Field: r.field, Service: p.component,
				Reason: fmt.Sprintf("%q is no TraefikService of the release, and Traefik gives the balancer of a Service such a name, too", r.traefik)}
		case tag == "" && r.service != p.component:
		case r.doubt != "":
			return &UnclearError{Object: describe(object), Field: r.field, Service: r.service, Reason: r.doubt}
		case tag != "":
			return &DirectError{Object: describe(object), Field: r.field, Service: r.service, Component: p.component, Tag: tag}
		}
	}
	return nil
}
