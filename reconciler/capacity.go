package reconciler

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// wholeTraffic is the number of pods that all of the traffic takes, by the
// leanest of those that serve now:
//
//  1. A tag with w percent that does its work with r ready pods has shown that the
//     whole takes no more than ceil(r × 100 / w). The least of these numbers
//     counts: the other tags have pods to spare (the minimum of an autoscaler at
//     a small weight), and adding theirs up would ask for more with every move.
//  2. Pods of a lifted autoscaler are our own estimate, not a finding: such a tag
//     says again what it was lifted from, minimum × 100 / share, rounded down.
//     So a tag that is growing asks for nothing by having grown. Once its
//     autoscaler has gone above the lift, rule 1 holds again.
//  3. Where we wrote the number of pods, above the minimum, and no autoscaler has
//     changed it since, it holds a rounding up already, and the quotient of rule 1
//     is rounded down.
//  4. Of a tag in the middle of a rollout, with broken pods, or that its autoscaler
//     has grow, the number counts that it should have: what is ready of it has
//     shown nothing, or not to suffice. One without any ready pod serves nobody
//     and is not asked.
//
// 0 means that nothing serves.
func wholeTraffic(in *Input, units []*unit, had v1alpha1.TrafficStatus) int64 {
	var least int64
	take := func(n int64) {
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	rendered := map[inventory.ID]bool{}
	for _, u := range units {
		for _, o := range u.objects {
			rendered[inventory.IDOf(o)] = true
		}
		take(u.shows(in))
	}
	// Tags, or an untagged release, that are not rendered any more.
	left := map[string]*evidence{}
	for id, live := range in.Live {
		if _, ours := in.Inventory[id]; !ours || rendered[id] || !isWorkload(live) {
			continue
		}
		tag := live.GetLabels()[v1alpha1.LabelTag]
		if left[tag] == nil {
			left[tag] = &evidence{weight: share(had.Weights, tag)}
			if tag == "" && len(had.Weights) == 0 {
				left[tag].weight = 100
			}
		}
		left[tag].add(live)
	}
	for _, e := range left {
		take(e.whole())
	}
	return least
}

// evidence is what the workloads behind one Service show.
type evidence struct {
	weight      int
	pods, ready int64
	estimate    bool // the number of pods is ours, and rounded up already
}

func (e *evidence) add(live *unstructured.Unstructured) {
	if live == nil {
		return
	}
	wanted, ready := health.Replicas(live)
	e.pods, e.ready = e.pods+max(wanted, ready), e.ready+ready
}

// whole is the number of pods that everything would take; 0 for none that is
// known.
func (e *evidence) whole() int64 {
	if e.weight <= 0 || e.ready == 0 {
		return 0
	}
	if e.estimate {
		return max(1, e.pods*100/int64(e.weight))
	}
	return (e.pods*100 + int64(e.weight) - 1) / int64(e.weight)
}

// podsFor is the number of pods for a share, rounded up.
func podsFor(whole int64, percent int) int64 { return (whole*int64(percent) + 99) / 100 }

// shows is the number of pods that all of the traffic takes, as far as the unit
// shows; 0 when it does not serve.
func (u *unit) shows(in *Input) int64 {
	if u.shared {
		return 0
	}
	e := evidence{weight: u.hadWeight}
	var lifted int64
	var percent int
	for _, o := range u.backends() {
		live := in.live(o)
		e.add(live)
		if s := u.scalers[inventory.IDOf(o)]; s != nil && live != nil {
			wanted, _ := health.Replicas(live)
			e.estimate = e.estimate || wanted > s.min && scaledByUs(live)
			if l := s.liveLift(in.live(s.object)); l.min > 0 {
				lifted, percent = lifted+l.min, max(percent, l.share)
			}
		}
	}
	if n := e.whole(); n == 0 || lifted == 0 || !u.rising() && e.pods > lifted && !e.estimate {
		return n
	}
	return max(1, lifted*100/int64(percent))
}

// capacity is the most replicas that the unit may have.
func (u *unit) capacity() int64 {
	var n int64
	for _, o := range u.backends() {
		if s := u.scalers[inventory.IDOf(o)]; s != nil {
			n += max(s.max, s.min)
			continue
		}
		wanted, _ := health.Replicas(o)
		n += wanted
	}
	return n
}

// lift computes, by workload, the minimums of autoscalers that are raised:
//
//   - while a weight rises to what the new share needs, computed for that share
//     whatever was lifted before. A lift for the share that the tag has already
//     stays under it, as long as it would have stayed anyway. Where the tag may
//     not have as many as are awaited, its pods would only wait with the routes;
//   - for capacityGrace after the routes have moved as it is, until load has come.
func (d *decision) lift(asked demand) map[inventory.ID]lift {
	floors := map[inventory.ID]lift{}
	grace := graceLeft(d.in, d.routes.had) > 0
	for _, u := range d.units {
		scaled := slices.DeleteFunc(u.backends(), func(o *unstructured.Unstructured) bool { return u.scalers[inventory.IDOf(o)] == nil })
		for _, o := range scaled {
			s := u.scalers[inventory.IDOf(o)]
			live := s.liveLift(d.in.live(s.object))
			stays := grace && u.hadWeight > 0 && u.weight > 0
			switch {
			case u.rising() && u.requires(asked).ready <= u.capacity():
				n := int64(len(scaled))
				needed := min(podsFor(asked.whole, u.weight), u.capacity())
				floors[s.target] = lift{min: (needed + n - 1) / n, share: u.weight}
				if asked.whole == 0 { // nothing serves: a pod has to be there for anything to start at all
					floors[s.target] = lift{min: 1, share: 100}
				}
				if stays && live.share <= u.weight && live.min > floors[s.target].min {
					floors[s.target] = live
				}
			case stays && live.min > 0:
				floors[s.target] = live
			}
		}
	}
	return floors
}
