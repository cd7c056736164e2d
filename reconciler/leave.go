package reconciler

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// defaultDrain is the drain delay where the environment's policy is not known.
const defaultDrain = 15 * time.Second

// gone removes a release that the repository no longer has:
//
//  1. The routes, so that no new request comes.
//  2. After the drain delay all else, workloads before the Services and the
//     configuration that they use: until then they answer what is on its way.
//  3. The Release itself.
//
// What another release declares now goes over to it, and nothing is deleted while
// the environment's policy holds it.
func (d *decision) gone() bool {
	if !d.in.Gone {
		return false
	}
	if foreignRelease(d.in) {
		return d.neverOurs()
	}
	v := Verdict{State: StateRemoved, Reason: v1alpha1.ReasonRemoved, Message: leftRepository}
	routes, rest, moving, keep, notes := d.leftovers()
	traffic := d.withoutRoutes()
	if d.in.Release.Environment.Traffic == (envrepo.TrafficPolicy{}) {
		d.in.Release.Environment.Traffic.Drain = defaultDrain // the environment's is not known
	}
	d.grant()
	d.handOver(moving)
	switch left := drained(d.in, traffic.RoutedAt); {
	case d.in.Ruling.blocks() && len(routes)+len(rest) > 0:
		d.pruneSteps(nil, keep, notes)
		d.hold(append(routes, rest...))
		v = d.heldBack()
	case len(routes) > 0:
		d.pruneSteps(routes, keep, notes)
		d.list(ActionLater, rest)
	case len(rest) > 0 && left > 0:
		d.pruneSteps(nil, keep, notes)
		d.list(ActionLater, rest)
		v = Verdict{State: StateWaiting, Reason: v1alpha1.ReasonRemoved, Reconciling: true, After: left,
			Message: leftRepository + ": what is left is deleted when its requests have ended"}
	default:
		d.pruneSteps(rest, keep, notes)
		switch {
		case len(moving) > 0:
			v = d.heldBack()
		case len(rest) == 0 && d.in.Last != nil:
			d.step(Step{Action: ActionForget})
		}
	}
	v.Notes = d.plan.Verdict.Notes
	d.stop(v)
	d.plan.Verdict.traffic = &traffic
	d.plan.Verdict.inventory = d.stillThere()
	if v.State == StateHeld {
		d.plan.Verdict.After = 0 // whatever ends it calls
	}
	return true
}

const leftRepository = "the release is no longer in the repository"

// stillThere is the inventory without what is not in the cluster any more: a route
// that was deleted before a crash would otherwise start the drain anew with every
// pass.
func (d *decision) stillThere() inventory.Set {
	left := inventory.Set{}
	for id, version := range d.in.Inventory {
		if d.in.Live[id] != nil {
			left[id] = version
		}
	}
	return left
}

// leftovers divides what is left of a release in the cluster.
func (d *decision) leftovers() (routes, rest, moving, keep []*unstructured.Unstructured, notes map[inventory.ID]string) {
	notes = map[inventory.ID]string{}
	for _, id := range d.in.Inventory.Sorted() {
		live := d.in.Live[id]
		if live == nil {
			continue
		}
		why := d.protected(live)
		switch {
		case why != "":
			keep, notes[id] = append(keep, live), why
		case d.in.Ruling.Moving[id] != "":
			moving = append(moving, live)
		case leadsRequests(live):
			routes = append(routes, live)
		default:
			rest = append(rest, live)
		}
	}
	return routes, rest, moving, keep, notes
}

// heldBack is the verdict about a release that has left the repository while
// something of it has to stay.
func (d *decision) heldBack() Verdict {
	r := d.in.Ruling
	switch {
	case r.Held != nil:
		return Verdict{State: StateHeld, Reason: r.Held.Reason, Message: r.Held.Message, Stalled: true}
	case r.Stuck:
		return Verdict{State: StateHeld, Reason: v1alpha1.ReasonPruneHeld, Message: leftRepository + ": " + d.drainMessage(), Stalled: true}
	}
	return Verdict{State: StateWaiting, Reason: v1alpha1.ReasonRemoved, Message: leftRepository + ": " + d.drainMessage(), Reconciling: true, After: recheckMax}
}

// withoutRoutes is the traffic of a release without routes: none, and since when. That
// is now, where one that was reported last is not there any more; a release that
// had none has nothing to wait for.
func (d *decision) withoutRoutes() v1alpha1.TrafficStatus {
	var none v1alpha1.TrafficStatus
	if t := d.in.status().Traffic; t != nil {
		none.RoutedAt = t.RoutedAt
	}
	if d.in.Last == nil {
		return none
	}
	reported, err := inventory.FromRelease(d.in.Last)
	if err != nil { // which the pass would have ended with
		return none
	}
	leaveStrays(reported, d.in.Namespace.Name, d.in.Release.Name)
	for id := range reported {
		if d.in.Live[id] == nil && routesRequests(schema.GroupKind{Group: id.Group, Kind: id.Kind}) {
			now := roundUp(d.in.Now)
			none.RoutedAt = &now
		}
	}
	return none
}

func leadsRequests(live *unstructured.Unstructured) bool {
	return routesRequests(live.GroupVersionKind().GroupKind())
}

// routesRequests reports whether objects of a kind lead requests from outside to
// Services.
func routesRequests(kind schema.GroupKind) bool {
	switch kind.Group {
	case gatewayGroup, "networking.istio.io", "traefik.io":
		return true
	}
	return kind == schema.GroupKind{Group: "networking.k8s.io", Kind: "Ingress"}
}
