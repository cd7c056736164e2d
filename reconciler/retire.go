package reconciler

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// retires decides whether an unlisted tag has its workloads at zero. It does not
// while the routes still send or copy requests to it, old ones included, nor before the
// routes that no longer do are accepted and have been so for the drain delay. A tag that
// does not run has nothing to wait for, unless it has an autoscaler, which starts it for
// the requests that still come. One that was retired stays so, whatever is moved between
// the others: its autoscaler may be there still, being protected, say.
func (d *decision) retires(u *unit) bool {
	if u.listed || u.shared || u.broken != "" {
		return false
	}
	live := slices.ContainsFunc(u.objects, func(o *unstructured.Unstructured) bool { return running(d.in.live(o)) })
	if !live && !u.scaled(d.in) {
		return !u.mayHave
	}
	if u.mayHave || len(d.leadingTo(u.service)) > 0 {
		return false
	}
	had := d.routes.had
	for _, o := range d.routes.objects {
		if d.in.live(o) == nil && len(had.Weights) > 0 {
			return false // a route is missing: it may just be on its way
		}
	}
	pending, refusal := accepted(d.in, d.routes.objects)
	return !pending && refusal == "" && drained(d.in, had.RoutedAt) == 0
}

// scaled reports whether an autoscaler of the cluster has one of the unit's workloads in
// its hands that we have not scaled to zero.
func (u *unit) scaled(in *Input) bool {
	for _, live := range in.Live {
		if !u.scaledBy(live) {
			continue
		}
		if target := in.Live[asScaler(live).target]; target != nil && !stoppedByUs(target) {
			return true
		}
	}
	return false
}

// scaledBy reports whether an object is an autoscaler of one of the unit's workloads.
func (u *unit) scaledBy(o *unstructured.Unstructured) bool {
	s := asScaler(o)
	return s != nil && slices.ContainsFunc(u.objects, func(w *unstructured.Unstructured) bool { return inventory.IDOf(w) == s.target })
}

// retire scales unlisted tags to zero, after the routes have left them.
func (d *decision) retire() {
	for _, u := range d.units {
		if u.listed || u.shared || u.broken != "" {
			continue
		}
		if !u.retired {
			if r, kept := keptOf(d.leadingTo(u.service)); kept {
				d.keeps(r, u.service, u.name()+" is not scaled to zero")
			} else {
				d.retiring = true
			}
			continue
		}
		var objects []*unstructured.Unstructured
		for _, o := range d.objects[u] {
			if (isWorkload(o) || isCronJob(o)) && d.due(o) {
				objects = append(objects, o)
			}
		}
		if len(objects) > 0 {
			sortForApply(objects)
			apply, recreate := d.sending(objects)
			if len(apply) > 0 {
				d.step(Step{Action: ActionRetire, Title: u.name(), Items: d.items(apply)})
			}
			d.recreateStep(u.name(), recreate)
		}
	}
}

// graceLeft is how long lifted minimums stay.
func graceLeft(in *Input, had v1alpha1.TrafficStatus) time.Duration {
	if had.RoutedAt == nil {
		return 0
	}
	return max(0, had.RoutedAt.Add(capacityGrace).Sub(in.Now))
}

// lifted reports whether an autoscaler's minimum has to be let down later.
func (d *decision) lifted() bool {
	for _, u := range d.units {
		for id, s := range u.scalers {
			if d.floors[id].min > s.min {
				return true
			}
		}
	}
	return false
}
