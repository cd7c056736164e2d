package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// prune deletes what has left the inventory, once nothing can need it any more:
//
//  1. The routes are where the repository wants them, accepted, and have been so
//     for the drain delay: what they led to may still have answered requests.
//  2. What gets requests now is up: pods of the revision before may still be
//     mounting a ConfigMap that the new one has replaced.
//  3. For an object that belongs to a tag, that tag has settled too.
//  4. No old route leads requests there: those go first. See oldRoute.
//
// Until then it stays, and stays in the inventory. So does what another release
// declares now, and what the environment's policy holds.
//
// The autoscaler of a retired tag goes with its pods, however the rest of the release
// is doing: one that scales from zero would bring them back.
func (d *decision) prune() {
	want := inventory.Of(d.all()...)
	d.left = d.in.brokenObjects()
	var prune, later, held, moving, keep []*unstructured.Unstructured
	notes := map[inventory.ID]string{}
	general := d.mayPrune()
	gone := d.in.Inventory.Minus(want).Minus(d.left)
	if len(gone) == 0 {
		return
	}
	rendered := d.in.renderedSet() // has what is only out of use, as the autoscaler of a retired tag
	led, spared := d.partsLed(gone), sparedObjects{}
	var ways []oldRoute // by which requests come to what is deleted later
	for _, id := range gone.Sorted() {
		live := d.in.Live[id]
		if live == nil {
			continue // deleted already
		}
		if why := d.protected(live); why != "" {
			keep, notes[id] = append(keep, live), why
			if leads, stays := d.stays(id); stays {
				d.left[id], notes[id] = gone[id], why+", and it leads requests to "+strings.Join(leads, ", ")
			}
			continue
		}
		d.left[id] = gone[id]
		_, unused := rendered[id]
		by, isLed := d.ledBy(led, live)
		switch {
		case !unused && d.in.Ruling.Moving[id] != "":
			moving = append(moving, live)
		case !unused && d.in.Ruling.blocks():
			held = append(held, live)
		case d.outOfUse(live):
			prune = append(prune, live)
		case isLed && by.route.kept != "":
			spared.add(by, live)
		case general && !isLed && d.tagSettled(live):
			prune = append(prune, live)
		default:
			d.deferred, later = append(d.deferred, id), append(later, live)
			if isLed {
				ways = append(ways, by.route)
			}
		}
	}
	d.pruneSteps(prune, keep, notes)
	if d.awaited(prune, ways) {
		d.plan.Steps[len(d.plan.Steps)-1].traffic = drainAnew(d.routes.carries(d.in.Now), d.in.Now)
	}
	d.handOver(moving)
	d.list(ActionLater, later)
	d.spare(spared)
	d.hold(held)
}

// hold lists what is not deleted because of the environment's other releases, or
// its policy.
func (d *decision) hold(held []*unstructured.Unstructured) {
	if len(held) == 0 {
		return
	}
	d.blocked = true
	action, title := ActionLater, ""
	if h := d.in.Ruling.Held; h != nil {
		action, title = ActionHold, "prune: "+h.Message
	}
	d.list(action, held)
	d.plan.Steps[len(d.plan.Steps)-1].Title = title
}

// grant records that a deletion is acknowledged, before anything else of it.
func (d *decision) grant() {
	if token := d.in.Ruling.Acknowledge; token != "" {
		d.step(Step{Action: ActionGrant, Title: token, token: token})
	}
}

// list adds a step about live objects, if there are any, in the order in which
// they are deleted.
func (d *decision) list(action Action, objects []*unstructured.Unstructured) {
	if len(objects) == 0 {
		return
	}
	sortForPrune(objects)
	s := Step{Action: action}
	for _, o := range objects {
		s.Items = append(s.Items, Item{Object: o})
	}
	d.step(s)
}

func (d *decision) pruneSteps(prune, keep []*unstructured.Unstructured, notes map[inventory.ID]string) {
	if len(keep) > 0 {
		s := Step{Action: ActionKeep}
		for _, o := range keep {
			item := Item{Object: o, Note: notes[inventory.IDOf(o)]}
			s.Items = append(s.Items, item)
			d.plan.Verdict.Notes = append(d.plan.Verdict.Notes, "kept "+item.String())
		}
		d.step(s)
	}
	d.list(ActionPrune, prune)
}

// mayPrune is conditions 1 and 2.
func (d *decision) mayPrune() bool {
	if d.pending || d.moving || len(d.barred) > 0 || len(d.ending) > 0 || d.routes.held != "" {
		return false
	}
	pending, refusal := accepted(d.in, d.routes.objects)
	if pending || refusal != "" || drained(d.in, d.routes.had.RoutedAt) > 0 {
		return false
	}
	return !slices.ContainsFunc(d.units, func(u *unit) bool {
		return (u.shared || u.weight > 0) && !u.ready && !u.serving
	})
}

// outOfUse reports whether an object is the autoscaler of a tag that is retired: the
// routes have left it, and its requests have ended.
func (d *decision) outOfUse(live *unstructured.Unstructured) bool {
	return slices.ContainsFunc(d.units, func(u *unit) bool { return u.retired && u.scaledBy(live) })
}

// tagSettled is condition 3.
func (d *decision) tagSettled(live *unstructured.Unstructured) bool {
	tag := live.GetLabels()[v1alpha1.LabelTag]
	for _, u := range d.units {
		if tag == "" || u.tag != tag {
			continue
		}
		if !u.retired {
			return u.ready || u.serving
		}
		return !slices.ContainsFunc(u.objects, func(o *unstructured.Unstructured) bool { return running(d.in.live(o)) })
	}
	return true
}

// protected says why a live object is never deleted, or "".
func (d *decision) protected(live *unstructured.Unstructured) string {
	if live.GroupVersionKind().GroupKind() == (schema.GroupKind{Kind: "Namespace"}) && live.GetName() == d.in.Namespace.Name {
		return "it is the environment's namespace"
	}
	if slices.Contains(d.in.Release.Environment.Prune.Protect, live.GetKind()) {
		return "its kind is protected"
	}
	if live.GetAnnotations()[v1alpha1.AnnotationPrune] == "disabled" {
		return v1alpha1.AnnotationPrune + " is disabled"
	}
	switch other, owned := owner(live); {
	case !owned:
		return "it does not carry the release's label any more"
	case other != d.in.key():
		return fmt.Sprintf("it belongs to release %s of environment %s", other.Release, other.Environment)
	}
	return ""
}

// neverOurs ends a release that has left the repository while the Release of its
// name is another's, and so is all that it lists.
func (d *decision) neverOurs() bool {
	return d.stop(Verdict{State: StateRemoved, Reason: v1alpha1.ReasonRemoved, Message: "the release is no longer in the repository",
		Notes: []string{"kept what is not ours: " + strangers(d.in)}})
}
