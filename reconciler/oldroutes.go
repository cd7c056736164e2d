package reconciler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render/traffic"
)

// An old route is one that the release declares no more: it was renamed, say. It leads
// requests where it did until it is gone, so what it leads to outlasts it:
//
//  1. The routes that are declared are written and accepted, and gateways have had the
//     drain delay to take them in.
//  2. The old routes are deleted. They carry no state, and what they led to still
//     answers.
//  3. After the drain delay, which begins anew with that, unlisted tags that they led to
//     are scaled to zero, and what is not declared any more is deleted.
//
// One that is never deleted (a protected kind, sluice.dev/prune: disabled) keeps what it
// leads to from step 3 until somebody takes it away or changes it. It stays in the
// inventory so long, so that this is known after a restart and under every later commit.
type oldRoute struct {
	live  *unstructured.Unstructured
	kept  string         // why it is not deleted; "" when it will be
	leads []string       // Services of the namespace
	over  []inventory.ID // what it leads over
}

func (r oldRoute) name() string { return inventory.IDOf(r.live).Display() }

// oldRoutes finds the old routes. Where one of the inventory is gone, or has been handed
// over, that was found just now: ended.
func oldRoutes(in *Input) (old []oldRoute, ended bool) {
	ids := in.undeclaredRoutes()
	if len(ids) == 0 {
		return nil, false
	}
	var others []*unstructured.Unstructured
	for id, live := range in.Live {
		if routesRequests(id.GroupKind()) {
			others = append(others, live)
		}
	}
	d := &decision{in: in}
	for _, id := range ids {
		live := in.Live[id]
		if live == nil || d.anothers(live) {
			ended = true
			continue
		}
		r := oldRoute{live: live, kept: d.protected(live)}
		var over []*unstructured.Unstructured
		r.leads, over = traffic.Led(live, others)
		for _, o := range over {
			r.over = append(r.over, inventory.IDOf(o))
		}
		old = append(old, r)
	}
	return old, ended
}

// undeclaredRoutes are the routes in the inventory that are not rendered, sorted.
func (in *Input) undeclaredRoutes() []inventory.ID {
	var ids []inventory.ID
	for id := range in.Inventory {
		if routesRequests(id.GroupKind()) && traffic.Sends(id.GroupKind()) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rendered := in.renderedSet()
	ids = slices.DeleteFunc(ids, func(id inventory.ID) bool { _, declared := rendered[id]; return declared })
	slices.SortFunc(ids, inventory.ID.Compare)
	return ids
}

// anothers reports whether a live object carries the label of another release.
func (d *decision) anothers(live *unstructured.Unstructured) bool {
	key, owned := owner(live)
	return owned && key != d.in.key()
}

// endedLast is when an old route was last seen to stop leading requests somewhere: now,
// where it has gone, and otherwise when somebody has edited it, if its requests may still
// be on their way. Whoever edits an object may write any time into it: one that is
// further ahead than clocks may differ says nothing. Nil: nothing of the kind is known.
func endedLast(in *Input, old []oldRoute, ended bool) *metav1.Time {
	if ended {
		now := roundUp(in.Now)
		return &now
	}
	var last *metav1.Time
	for _, r := range old {
		for _, e := range r.live.GetManagedFields() {
			recent := e.Subresource == "" && e.Time != nil && in.Now.Sub(e.Time.Time).Abs() < in.Release.Environment.Traffic.Drain
			if recent && (last == nil || last.Before(e.Time)) {
				last = e.Time
			}
		}
	}
	return last
}

// forgetEnded has a release that waits for others report which old routes have ended,
// and when: otherwise every pass would find that they just had.
func (d *decision) forgetEnded() {
	v, left := &d.plan.Verdict, maps.Clone(d.in.Inventory)
	for _, id := range d.in.undeclaredRoutes() {
		if live := d.in.Live[id]; live == nil || d.anothers(live) {
			delete(left, id)
		}
	}
	if len(left) == len(d.in.Inventory) {
		return
	}
	v.inventory = left
	t := v1alpha1.TrafficStatus{}
	if v.traffic != nil {
		t = *v.traffic.DeepCopy()
	}
	t.RoutedAt = d.routes.had.RoutedAt
	v.traffic = &t
}

// leadingTo are the old routes that lead requests to a Service.
func (d *decision) leadingTo(service string) (routes []oldRoute) {
	for _, r := range d.old {
		if slices.Contains(r.leads, service) {
			routes = append(routes, r)
		}
	}
	return routes
}

// keptOf is the first of them that is never deleted.
func keptOf(routes []oldRoute) (kept oldRoute, found bool) {
	i := slices.IndexFunc(routes, func(r oldRoute) bool { return r.kept != "" })
	if i < 0 {
		return oldRoute{}, false
	}
	return routes[i], true
}

// keeps notes what an old route that is never deleted keeps from ending.
func (d *decision) keeps(r oldRoute, service, what string) {
	d.keeping = append(d.keeping, fmt.Sprintf("%s: %s, which is kept (%s), leads requests to Service/%s", what, r.name(), r.kept, service))
	id := inventory.IDOf(r.live)
	if d.keepers == nil {
		d.keepers = map[inventory.ID]sighting{}
		d.remedy = fmt.Sprintf("take Service %s out of %s, or delete that: kubectl delete %s/%s -n %s; once the repository declares it again, it follows the weights",
			service, id.Display(), strings.ToLower(id.GroupKind().String()), id.Name, id.Namespace)
	}
	d.keepers[id] = sightingOf(id, r.live.GroupVersionKind().Version, r.live, false)
}

// part is what leaves the repository together: what a tag had, or what none had. An old
// route that leads to a Service of it leads to all of it.
type part map[string][]leading

type leading struct {
	route   oldRoute
	service string
}

// partsLed are the parts of what leaves that old routes still lead to, by tag.
func (d *decision) partsLed(gone inventory.Set) part {
	led := part{}
	for _, r := range d.old {
		for _, service := range r.leads {
			id := serviceOf(d.in, service)
			if _, leaves := gone[id]; leaves && d.in.Live[id] != nil {
				tag := d.in.Live[id].GetLabels()[v1alpha1.LabelTag]
				led[tag] = append(led[tag], leading{r, service})
			}
		}
	}
	return led
}

func serviceOf(in *Input, name string) inventory.ID {
	return inventory.ID{Namespace: in.Namespace.Name, Name: name, Kind: "Service"}
}

// ledBy is what still leads requests to a live object that leaves: a route that is kept,
// if there is one. Routes themselves are led to by those only that lead over them.
func (d *decision) ledBy(led part, live *unstructured.Unstructured) (by leading, found bool) {
	id := inventory.IDOf(live)
	governed := traffic.Governed(live)
	for _, r := range d.old {
		if inventory.IDOf(r.live) == id {
			continue
		}
		if governed != "" && slices.Contains(r.leads, governed) && (r.kept != "" || !found) {
			by, found = leading{r, governed}, true
		}
		if r.kept != "" && slices.Contains(r.over, id) && len(r.leads) > 0 {
			return leading{r, r.leads[0]}, true
		}
	}
	if found {
		return by, true
	}
	all := led[live.GetLabels()[v1alpha1.LabelTag]]
	if len(all) == 0 || d.isOld(id) {
		return leading{}, false
	}
	for _, l := range all {
		if l.route.kept != "" {
			return l, true
		}
	}
	return all[0], true
}

func (d *decision) isOld(id inventory.ID) bool {
	return slices.ContainsFunc(d.old, func(r oldRoute) bool { return inventory.IDOf(r.live) == id })
}

// stays reports whether an old route that is kept stays in the inventory: it leads to
// something of the release.
func (d *decision) stays(id inventory.ID) (leads []string, stays bool) {
	for _, r := range d.old {
		if inventory.IDOf(r.live) != id {
			continue
		}
		for _, service := range r.leads {
			if d.in.Live[serviceOf(d.in, service)] != nil {
				leads = append(leads, "Service/"+service)
			}
		}
	}
	return leads, len(leads) > 0
}

// awaited reports whether anything waits for the end of requests that come by some of
// these objects: tags that are to be retired, and what is deleted later for these routes.
func (d *decision) awaited(pruned []*unstructured.Unstructured, later []oldRoute) bool {
	goes := func(r oldRoute) bool { return slices.Contains(pruned, r.live) }
	return slices.ContainsFunc(later, goes) || slices.ContainsFunc(d.units, func(u *unit) bool {
		return !u.listed && !u.retired && slices.ContainsFunc(d.leadingTo(u.service), goes)
	})
}

// drainAnew is the traffic status once requests have begun to end that came another way
// than by the routes which are declared.
func drainAnew(t *v1alpha1.TrafficStatus, now time.Time) *v1alpha1.TrafficStatus {
	if t == nil {
		t = &v1alpha1.TrafficStatus{}
	}
	at := roundUp(now)
	t.RoutedAt = &at
	return t
}

// sparedObjects are live objects that old routes keep from being deleted, by what they
// lead to.
type sparedObjects struct {
	by      []leading
	objects [][]*unstructured.Unstructured
}

func (s *sparedObjects) add(by leading, live *unstructured.Unstructured) {
	i := slices.IndexFunc(s.by, func(l leading) bool { return l.service == by.service && l.route.live == by.route.live })
	if i < 0 {
		i = len(s.by)
		s.by, s.objects = append(s.by, by), append(s.objects, nil)
	}
	s.objects[i] = append(s.objects[i], live)
}

// spare lists what is not deleted because an old route which is kept leads there.
func (d *decision) spare(s sparedObjects) {
	for i, by := range s.by {
		d.list(ActionHold, s.objects[i])
		names := make([]string, len(s.objects[i]))
		for n, o := range s.objects[i] {
			names[n] = inventory.IDOf(o).Display()
		}
		verb := " is not deleted"
		if len(names) > 1 {
			verb = " are not deleted"
		}
		d.keeps(by.route, by.service, some(names, len(names), "", "")+verb)
		d.plan.Steps[len(d.plan.Steps)-1].Title = "prune: " + by.route.name() + ", which is kept, leads requests to Service/" + by.service
	}
}
