package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render/traffic"
)

// Decide is the plan for a release: every step that can be taken now, and the
// verdict about what then remains. It is pure, and asked again with the outcome
// of its own steps until it has no more.
func Decide(in Input) Plan {
	if in.hashes == nil {
		in.hashes = map[*unstructured.Unstructured]string{}
	}
	if in.held == nil {
		in.held = map[*unstructured.Unstructured]holding{}
	}
	d := &decision{in: &in, ending: map[inventory.ID][]string{}, plan: Plan{
		Environment: in.Release.Environment.Name,
		Release:     in.Release.Name,
		Namespace:   in.Namespace.Name,
		Revision:    in.Revision,
	}}
	// Reasons to leave the release alone, the first one counts.
	for _, refuse := range []func() bool{d.refused, d.paused, d.gone, d.namespaceMissing, d.emptyRender} {
		if refuse() {
			return d.plan
		}
	}
	d.grant()
	d.divide()
	d.setAside()
	for _, refuse := range []func() bool{d.outside, d.ownedByAnother, d.tooLarge, d.dependencies} {
		if refuse() {
			return d.plan
		}
	}
	d.intent()
	d.scale()
	d.apply()
	d.route()
	d.retire()
	d.prune()
	d.conclude()
	return d.plan
}

// decision is a plan in the making.
type decision struct {
	in   *Input
	plan Plan

	units   []*unit
	floors  map[inventory.ID]lift // lifted minimums of autoscalers, by workload
	objects map[*unit][]*unstructured.Unstructured
	routes  routing

	leads    map[inventory.ID]bool     // what is sent alone, before the rest of its batch
	barred   inventory.Set             // what waits for an object that was refused, and that object
	pending  bool                      // an object has to be applied
	ending   map[inventory.ID][]string // finalizers of what has to go before it is created anew
	moving   bool                      // a route step is in the plan
	retiring bool                      // a tag waits for its requests to end
	left     inventory.Set             // what stays in the inventory though it is not declared
	deferred []inventory.ID
	blocked  bool   // something that left is not deleted because of the ruling
	handing  string // what other releases take over

	old     []oldRoute
	keeping []string                  // what old routes that are never deleted keep from ending
	keepers map[inventory.ID]sighting // those routes, as they were found
	remedy  string                    // what to do about the first of them
}

func (d *decision) step(s Step) { d.plan.Steps = append(d.plan.Steps, s) }

// stop ends the plan with a verdict that leaves the release as it is.
func (d *decision) stop(v Verdict) bool {
	v.traffic, v.inventory = d.in.status().Traffic, d.in.Inventory
	if d.in.routed != nil {
		v.traffic = d.in.routed
	}
	if v.Stalled && v.After == 0 {
		v.After = recheckStalled
	}
	d.plan.Verdict = v
	return true
}

func (d *decision) refused() bool {
	r := d.in.Refusal
	if r == nil {
		return false
	}
	return d.stop(Verdict{State: StateFailed, Reason: r.Reason, Message: r.Message, Stalled: true})
}

func (d *decision) paused() bool {
	if d.in.Paused == "" {
		return false
	}
	v := Verdict{State: StatePaused, Reason: v1alpha1.ReasonPaused, Message: d.in.Paused}
	if unclear(d.in, d.in.renderedSet()) != "" {
		v.After = retryRender // others wait for what it declares
	}
	return d.stop(v)
}

// namespaceMissing has the reserved release make the namespace, and all others
// wait for it.
func (d *decision) namespaceMissing() bool {
	ns := d.in.Namespace
	if ns.Exists {
		return false
	}
	if d.in.Release.Name == envrepo.EnvironmentRelease && d.in.Rendered != nil {
		for _, o := range d.in.Rendered.Shared {
			if o.GroupVersionKind() == (schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}) && o.GetName() == ns.Name {
				d.step(Step{Action: ActionNamespace, Items: []Item{{Object: o, Note: "create"}}})
				return d.stop(Verdict{State: StateWaiting, Reason: v1alpha1.ReasonApplying, Message: "the namespace is being created", Reconciling: true})
			}
		}
	}
	if ns.Create {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion("v1")
		o.SetKind("Namespace")
		o.SetName(ns.Name)
		d.step(Step{Action: ActionNamespace, Items: []Item{{Object: o, Note: "create"}}})
		return d.stop(Verdict{State: StateWaiting, Reason: v1alpha1.ReasonApplying, Message: "the namespace is being created", Reconciling: true})
	}
	// It may be on its way, or back: somebody creates it with kubectl.
	return d.stop(Verdict{State: StateFailed, Reason: v1alpha1.ReasonNamespaceMissing, Stalled: true, After: recheckMax,
		Message: fmt.Sprintf("namespace %s does not exist", ns.Name)})
}

// emptyRender refuses to take an overlay that renders nothing for the wish to
// delete everything.
func (d *decision) emptyRender() bool {
	n := len(d.in.Rendered.Shared)
	for _, t := range d.in.Rendered.Tags {
		n += len(t.Objects)
	}
	if n > 0 || anyBroken(d.in.Rendered) || len(d.in.Inventory) == 0 {
		return false
	}
	return d.stop(Verdict{State: StateFailed, Reason: v1alpha1.ReasonEmptyRender, Stalled: true,
		Message: fmt.Sprintf("%s renders no object, but %d of the release are in the cluster: nothing is pruned", d.in.Release.Dir, len(d.in.Inventory))})
}

// divide sorts the rendered objects into units and routes, and judges both.
func (d *decision) divide() {
	in := d.in
	var want envrepo.Traffic
	if in.Release.Tagged() {
		want.Weights = in.Release.Traffic.Weights
		for _, m := range in.Release.Traffic.Mirrors {
			if m.Percent > 0 {
				want.Mirrors = append(want.Mirrors, m)
			}
		}
	}
	routes, rest := traffic.Routes(in.Rendered.Shared, in.Release.Component.Name)
	c := carried(in, routes)
	if !in.Release.Tagged() && len(c.most.Weights) == 0 {
		// The plain Service of a release that was untagged before goes with the
		// first batch: it selects what it always did.
		routes, rest = splitService(routes, rest)
	}
	d.routes, d.old = routing{had: c.had, want: want, objects: routes, plain: routes}, c.old
	d.units = unitsOf(in, rest, want, c)
	asked := demandOf(in, d.units, c.had, want)
	d.floors = d.lift(asked)
	d.objects = map[*unit][]*unstructured.Unstructured{}
	for _, u := range d.units {
		u.retired = d.retires(u)
		d.objects[u] = u.desired(d.floors)
		u.assess(in, d.objects[u], u.requires(asked))
		if u.failed && u.listed {
			d.plan.Verdict.Stalled = true
		}
	}
	route(in, &d.routes, d.units)
	d.plan.gates = d.routes.gates
	for _, t := range in.Rendered.Tags {
		if t.Broken != nil {
			d.plan.broken = append(d.plan.broken, t.Broken)
		}
	}
}

func splitService(routes, rest []*unstructured.Unstructured) (r, s []*unstructured.Unstructured) {
	s = slices.Clone(rest)
	for _, o := range routes {
		if o.GroupVersionKind().GroupKind() == (schema.GroupKind{Kind: "Service"}) {
			s = append(s, o)
		} else {
			r = append(r, o)
		}
	}
	return r, s
}

// outside refuses objects that do not belong into the environment's namespace.
// The check of the overlay says so earlier and better; this is the last line.
func (d *decision) outside() bool {
	var bad []string
	for _, o := range d.all() {
		if !within(inventory.IDOf(o), d.in.Namespace.Name, d.in.Release.Name) {
			bad = append(bad, fmt.Sprintf("%s is not in namespace %s", inventory.IDOf(o).Display(), d.in.Namespace.Name))
		}
	}
	if len(bad) == 0 {
		return false
	}
	slices.Sort(bad)
	return d.stop(Verdict{State: StateFailed, Reason: v1alpha1.ReasonNamespaceRefused, Stalled: true, Message: strings.Join(bad, "; ")})
}

// all are the desired objects, routes included.
func (d *decision) all() []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, u := range d.units {
		all = append(all, d.objects[u]...)
	}
	return append(all, d.routes.objects...)
}

// foreignRelease reports whether the Release of our name was made for something
// else. It is not reported on: it is not ours.
func foreignRelease(in *Input) bool {
	return in.Last != nil && !belongs(in.Last.Spec, in.Project, in.Release.Environment.Name, in.Repository)
}

// intent persists the inventory before the first write that makes it grow: what
// is created and then forgotten would never be deleted.
func (d *decision) intent() {
	want := inventory.Of(slices.Concat(d.all(), d.routes.kept)...)
	if d.in.Last != nil && d.in.Inventory.Covers(want) {
		return
	}
	s := Step{Action: ActionIntent, inventory: d.in.Inventory.Union(want)}
	grown := want.Minus(d.in.Inventory)
	byID := map[inventory.ID]*unstructured.Unstructured{}
	for _, o := range slices.Concat(d.all(), d.routes.kept) {
		byID[inventory.IDOf(o)] = o
	}
	for _, id := range grown.Sorted() {
		s.Items = append(s.Items, Item{Object: byID[id]})
	}
	d.step(s)
}

// scale writes spec.replicas where an autoscaler is about to get, or to give,
// a number that the main apply does not carry.
func (d *decision) scale() {
	s := Step{Action: ActionScale}
	for _, u := range d.units {
		if u.retired {
			continue
		}
		for _, o := range d.objects[u] {
			id := inventory.IDOf(o)
			sc := u.scalers[id]
			if sc == nil || !isWorkload(o) || d.bars(o) || d.bars(sc.object) || d.yields(o) {
				continue
			}
			floor := max(sc.min, min(d.floors[id].min, max(sc.max, sc.min)))
			lifting := u.rising() && d.floors[id].min > sc.min
			if n := scaleTo(d.in.live(o), floor, lifting); n > 0 {
				s.Items = append(s.Items, Item{Object: o, Replicas: n})
			}
		}
	}
	if len(s.Items) > 0 {
		d.step(s)
	}
}

// apply sends what differs, stage by stage, after a trial where one is needed.
// Routes have a step of their own.
func (d *decision) apply() {
	d.try()
	var batches [stageCount][]*unstructured.Unstructured
	for _, u := range d.units {
		for _, o := range d.objects[u] {
			if d.sends(u, o) {
				batches[stageOf(o)] = append(batches[stageOf(o)], o)
			}
		}
	}
	for i, batch := range batches {
		if len(batch) == 0 {
			continue
		}
		d.pending = true
		sortForApply(batch)
		apply, recreate := d.sending(batch)
		if len(apply) > 0 {
			d.step(Step{Action: ActionApply, Title: stage(i).String(), Items: d.items(apply)})
		}
		d.recreateStep(stage(i).String(), recreate)
	}
}

// sends reports whether an object of a unit is sent with its stage. The workloads
// of retired tags have a step of their own.
func (d *decision) sends(u *unit, o *unstructured.Unstructured) bool {
	return !(u.retired && (isWorkload(o) || isCronJob(o))) && d.due(o)
}

// due reports whether an object has to be sent now: it is not as declared, the
// one in its place is not about to go, nobody else fights for it, and it does not
// wait for what was refused.
func (d *decision) due(o *unstructured.Unstructured) bool {
	return !d.in.synced(o) && !d.ends(o) && !d.yields(o) && !d.bars(o)
}

// items says of each object whether it is there already.
func (d *decision) items(objects []*unstructured.Unstructured) []Item {
	items := make([]Item, len(objects))
	for i, o := range objects {
		items[i] = Item{Object: o, Note: "create", leads: d.leads[inventory.IDOf(o)]}
		if d.in.live(o) != nil {
			items[i].Note = "update"
		}
	}
	return items
}

// route moves the routes to what they may carry, or says why they stay. While
// they stay they are kept: what somebody deleted or edited is restored with the
// weights that the routes had, because only the change is held, not the route.
func (d *decision) route() {
	r := &d.routes
	if r.held != "" {
		if objects := d.unsent(r.kept); len(objects) > 0 {
			d.routeStep(objects, r.next(r.keep, d.in.Now), d.in.Release.Tagged() || len(r.keep.Weights) > 0)
		}
		if len(r.objects) > 0 || d.in.Release.Tagged() {
			d.step(Step{Action: ActionHold, Title: "routes: " + r.held})
		}
		return
	}
	objects := d.unsent(r.objects)
	if len(objects) == 0 && !r.moves(r.want) {
		return
	}
	d.moving = true
	traffic := r.next(r.want, d.in.Now)
	if len(objects) > 0 && slices.ContainsFunc(d.old, func(r oldRoute) bool { return r.kept == "" }) {
		traffic = drainAnew(traffic, d.in.Now) // gateways are to know these before the old ones go
	}
	d.routeStep(objects, traffic, d.in.Release.Tagged())
}

func (d *decision) unsent(objects []*unstructured.Unstructured) (out []*unstructured.Unstructured) {
	for _, o := range objects {
		if d.due(o) {
			out = append(out, o)
		}
	}
	return out
}

// routeStep writes routes; traffic is what they carry then.
func (d *decision) routeStep(objects []*unstructured.Unstructured, traffic *v1alpha1.TrafficStatus, titled bool) {
	sortRoutes(objects)
	apply, recreate := d.sending(objects)
	d.recreateStep("", recreate)
	s := Step{Action: ActionRoute, Items: d.items(apply), traffic: traffic}
	if titled && traffic != nil {
		s.Title = formatTraffic(traffic.Weights, traffic.Mirrors)
	}
	d.step(s)
}
