package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// demand is what a change of weights asks of the tags that gain by it:
//
//  1. A share that is taken from tags without a ready pod reached nobody. No capacity
//     is awaited for it: whoever takes it cannot make it worse, and a cluster that
//     cannot start the pods would keep the broken tag's share where it is for ever.
//     The pods are asked for all the same.
//  2. For what is taken from tags that answer, capacity is awaited, and for the share
//     that the gaining tag has already. Several gaining tags take from all losing
//     ones in proportion.
//  3. No more is awaited than it takes for no pod to get more requests than each pod
//     of the worst losing tag gets now: one pod that is left of many makes a tag that
//     answers, and not one to stay at.
//  4. No more is awaited than the tag may have, unless an autoscaler has found a number
//     that this is too small for, and a tag that loses requests may have more.
//     Where nobody may have more, the maximum is the user's word on what carries
//     everything; where no autoscaler has found anything, too much would be asked;
//     and a tag that nobody answers at is not kept for want of a maximum.
type demand struct {
	whole        int64 // pods for all of the traffic; 0 when nothing serves
	found        bool  // an autoscaler has grown above its minimum for its part of it
	most         int64 // the most pods that a losing tag which answers may have
	lost, silent int   // percent that the losing tags lose; of that, what nobody answers
	now          int64 // pods for all of the traffic, were it served as thinly as by no losing tag
	unknown      bool  // nothing tells how a losing tag serves
}

func demandOf(in *Input, units []*unit, had v1alpha1.TrafficStatus, want envrepo.Traffic) demand {
	d := demand{whole: wholeTraffic(in, units, had)}
	for _, s := range had.Weights {
		left, _ := want.Weight(s.Tag)
		if s.Percent <= left {
			continue
		}
		d.lost += s.Percent - left
		pods, known := answering(in, s.Tag)
		d.unknown = d.unknown || !known
		if known && pods == 0 {
			d.silent += s.Percent - left
			continue
		}
		e := evidence{weight: s.Percent, pods: pods, ready: pods}
		d.now = max(d.now, e.whole())
		if i := slices.IndexFunc(units, func(u *unit) bool { return u.tag == s.Tag }); i >= 0 {
			d.most = max(d.most, units[i].capacity())
		}
	}
	d.found = slices.ContainsFunc(units, func(u *unit) bool { return u.grown(in) })
	return d
}

// answering is how many pods may answer the requests of a tag, whether the commit
// still has them or not: what it renders anew does not run yet. Endpoints are the
// better witness where they are counted: workloads may be beside what serves. known
// is false where neither tells.
func answering(in *Input, tag string) (pods int64, known bool) {
	endpoints, counted := in.Endpoints[in.Release.Component.Name+"-"+tag]
	if counted && endpoints == 0 {
		return 0, true
	}
	known = counted
	for id := range in.Inventory {
		if live := in.Live[id]; live != nil && isWorkload(live) && live.GetLabels()[v1alpha1.LabelTag] == tag {
			_, ready := health.Replicas(live)
			pods, known = pods+ready, true
		}
	}
	return max(pods, int64(endpoints)), known
}

// grown reports whether an autoscaler has more pods run for the unit's share than its
// minimum. Pods that we have asked for show nothing.
func (u *unit) grown(in *Input) bool {
	return u.hadWeight > 0 && slices.ContainsFunc(u.backends(), func(o *unstructured.Unstructured) bool {
		s, live := u.scalers[inventory.IDOf(o)], in.live(o)
		if s == nil || live == nil || scaledByUs(live) {
			return false
		}
		wanted, ready := health.Replicas(live)
		return ready > 0 && wanted > max(s.min, s.liveLift(in.live(s.object)).min)
	})
}

// required is what a unit's weight waits for.
type required struct {
	ready  int64 // so many ready replicas; it may be more than the unit can ever have
	relief bool  // but not for the others that it should have
}

func (u *unit) requires(d demand) required {
	if !u.rising() {
		return required{}
	}
	r, percent := required{relief: d.silent > 0}, u.weight
	if r.relief {
		rise := u.weight - u.sureWeight
		answered := (rise*(d.lost-d.silent) + d.lost - 1) / d.lost
		if answered == 0 {
			return r
		}
		percent = u.sureWeight + answered
	}
	r.ready = podsFor(d.whole, percent)
	if most := u.capacity(); r.relief || !d.found || most >= d.most {
		r.ready = min(r.ready, most)
	}
	if now := podsFor(d.now, u.weight); d.lost > 0 && !d.unknown && now < r.ready {
		r.ready, r.relief = now, true
	}
	return r
}

// bound is what keeps the unit from having more replicas, and what to change.
func (u *unit) bound(needed int64) (what, remedy string) {
	var names, remedies []string
	for _, o := range u.backends() {
		field, id := "spec.replicas", inventory.IDOf(o)
		if s := u.scalers[id]; s != nil {
			field, id = "spec."+s.maxField, inventory.IDOf(s.object)
		}
		names = append(names, id.Display())
		remedies = append(remedies, field+" of "+id.Display())
	}
	share := strings.Join(remedies, " or ")
	return strings.Join(names, ", "), fmt.Sprintf("raise %s for %s to have %d replicas, or move a smaller share", share, u.name(), needed)
}

// least is how many ready pods a workload of the unit has at least, whatever its share.
func (u *unit) least(o *unstructured.Unstructured) int64 {
	if s := u.scalers[inventory.IDOf(o)]; s != nil {
		return max(1, s.min)
	}
	if u.tag == "" { // an untagged release may be declared with no replicas at all
		wanted, _ := health.Replicas(o)
		return min(1, wanted)
	}
	return 1
}

// short reports whether a live workload lacks nothing but pods: it runs what is declared,
// and enough of it to be ready at some share. Where the component says by an expression
// what is ready, nobody knows what lacks.
func (u *unit) short(in *Input, o *unstructured.Unstructured) bool {
	live := in.live(o)
	if !isWorkload(o) || in.Health.Has(o.GroupVersionKind().GroupKind()) || !health.RolledOut(live) {
		return false
	}
	_, ready := health.Replicas(live)
	return ready >= u.least(o)
}
