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
//     of the losing tag that serves best gets now, so that nobody is served worse: one
//     pod that is left of many makes a tag that answers, and not one to stay at.
//  4. No more is awaited than the tag may have, unless an autoscaler has found a number
//     that this is too small for, and a tag that loses requests may have more.
//     Where nobody may have more, the maximum is the user's word on what carries
//     everything; where no autoscaler has found anything, too much would be asked;
//     and a tag that nobody answers at is not kept for want of a maximum, nor does
//     it keep another.
//
// An untagged release that is given tags loses what they get, and whoever loses may
// have left the repository with the same commit: what runs of it says then what it may
// have and what its autoscaler has found.
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
	var silent []string
	for _, l := range lossesOf(in, had, want) {
		d.lost += l.percent
		runs := whatRuns(in, l.tag, l.had)
		declared := runs
		if i := slices.IndexFunc(units, func(u *unit) bool { return u.tag == l.tag && !u.shared && u.broken == "" }); i >= 0 {
			declared = units[i]
			runs.servedBy(declared)
		}
		pods, known := answering(in, runs)
		d.unknown = d.unknown || !known
		if known && pods == 0 {
			d.silent, silent = d.silent+l.percent, append(silent, l.tag)
			continue
		}
		e := evidence{weight: l.had, pods: pods, ready: pods}
		d.now = max(d.now, e.whole())
		d.most = max(d.most, declared.capacity())
		d.found = d.found || runs.grown(in)
	}
	d.found = d.found || slices.ContainsFunc(units, func(u *unit) bool { return !slices.Contains(silent, u.tag) && u.grown(in) })
	return d
}

// loss is what a change of weights takes from a tag, "" for an untagged release that is
// given tags.
type loss struct {
	tag          string
	had, percent int
}

func lossesOf(in *Input, had v1alpha1.TrafficStatus, want envrepo.Traffic) (losses []loss) {
	before := had.Weights
	if len(before) == 0 && in.Release.Tagged() {
		before = []v1alpha1.TagPercent{{Percent: 100}} // before the tags
	}
	for _, s := range before {
		if left, _ := want.Weight(s.Tag); left < s.Percent {
			losses = append(losses, loss{tag: s.Tag, had: s.Percent, percent: s.Percent - left})
		}
	}
	return losses
}

// whatRuns is a unit of the workloads of a tag in the cluster, and their autoscalers,
// whether the commit still has them or not; with tag "" of those that a release had
// before its tags. Of live Services nothing is known but that they exist: workloads
// beside what serves are among them, unless servedBy tells them apart.
func whatRuns(in *Input, tag string, hadWeight int) *unit {
	u := &unit{tag: tag, hadWeight: hadWeight}
	declared := inventory.Set{}
	if tag == "" {
		declared = in.renderedSet() // what a release with tags has once, and tags that have lost the label
	}
	for _, id := range in.Inventory.Minus(declared).Sorted() {
		if live := in.Live[id]; live != nil && live.GetLabels()[v1alpha1.LabelTag] == tag && (isWorkload(live) || asScaler(live) != nil) {
			u.objects = append(u.objects, live)
		}
	}
	u.findScalers()
	return u
}

// servedBy has those workloads serve that the Service of the declared unit selects.
func (u *unit) servedBy(declared *unit) {
	if service := declared.ownService(); service != nil {
		u.service, u.objects = declared.service, append(u.objects, service)
	}
}

// answering is how many pods may answer the requests of a tag, of which runs is what
// runs: what the commit renders anew does not yet. That there is an endpoint is the better
// witness that any does; how many there are is not: the last pods have none for a moment,
// a Service may count pods that are not ready, and those of two address families twice.
// Endpoints count where our workloads have no pod. known is false where neither tells.
func answering(in *Input, runs *unit) (pods int64, known bool) {
	for _, o := range runs.backends() {
		_, ready := health.Replicas(o)
		pods, known = pods+ready, true
	}
	if endpoints, counted := in.Endpoints[in.Release.Component.Name+"-"+runs.tag]; counted && (endpoints == 0 || pods == 0) {
		return int64(endpoints), true
	}
	return pods, known
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
	mixed  bool  // some of the share comes from tags that nobody answers at, and waits only with the rest
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
		r.mixed, percent = true, u.sureWeight+answered
	}
	r.ready = podsFor(d.whole, percent)
	if most := u.capacity(); !d.found || most >= d.most {
		r.ready = min(r.ready, most)
	}
	if now := podsFor(d.now, u.weight); d.lost > 0 && !d.unknown && now < r.ready {
		r.ready, r.relief = now, true
	}
	return r
}

// bound is what keeps the unit from having the replicas that it needs, and what to
// change.
func (u *unit) bound(needed required) (what, remedy string) {
	var names, remedies []string
	for _, o := range u.backends() {
		field, id := "spec.replicas", inventory.IDOf(o)
		if s := u.scalers[id]; s != nil {
			field, id = "spec."+s.maxField, inventory.IDOf(s.object)
		}
		names = append(names, id.Display())
		remedies = append(remedies, field+" of "+id.Display())
	}
	remedy = fmt.Sprintf("raise %s for %s to have %d replicas", strings.Join(remedies, " or "), u.name(), needed.ready)
	switch {
	case needed.mixed:
		remedy += ", or leave the tags that answer their weight: what nobody answers moves at once"
	case u.tag != "":
		remedy += ", or move a smaller share"
	}
	return strings.Join(names, ", "), remedy
}

// least is how many ready pods a workload of the unit has at least, whatever its share.
func (u *unit) least(in *Input, o *unstructured.Unstructured) int64 {
	switch s := u.scalers[inventory.IDOf(o)]; {
	case s != nil && s.min == 0 && !u.gains():
		wanted, _ := health.Replicas(in.live(o))
		return min(1, wanted)
	case s != nil:
		return max(1, s.min)
	case u.tag == "": // an untagged release may be declared with no replicas at all
		wanted, _ := health.Replicas(o)
		return min(1, wanted)
	}
	return 1
}

// gains reports whether the unit is to get requests, or copies of them, that it does not
// get now. One that does not may be idle at no pods where its autoscaler allows that.
func (u *unit) gains() bool { return u.rising() || u.mirror > 0 && u.hadCopy == 0 }

// idle reports whether no workload of the unit has to have a pod now.
func (u *unit) idle(in *Input) bool {
	return !slices.ContainsFunc(u.backends(), func(o *unstructured.Unstructured) bool { return u.least(in, o) > 0 })
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
	return ready >= u.least(in, o)
}
