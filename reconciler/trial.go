package reconciler

import (
	"context"
	"errors"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// A commit that changes several objects which belong together (a Service's
// selector and the labels of the pods that it selects) must not be applied in part
// because the API server refuses one of them. So before the first write of a
// unit's batch, what is new in it is tried by dry run:
//
//  1. A batch is all that a commit changes of one unit, in the order in which it is
//     sent. Corrections of drift are none: this very content was accepted before.
//  2. The first object is not tried: it is sent alone, and the others only when it
//     was taken. So a batch of one costs nothing more, and one of n costs n-1
//     requests.
//  3. A unit of which nothing is in the cluster yet is not tried: nobody uses it.
//  4. What is refused is set aside as if a write had been refused, before anything
//     of the batch was written. See refusals.go.
//  5. An error that does not tell what would become of the write is no refusal:
//     then it is sent, and tells itself.

// trial is an object that is tried before the first write of its batch.
type trial struct {
	object *unstructured.Unstructured
	// governed says that the plan writes something that decides whether the object
	// is admitted, so that a dry run before it may be refused for want of it.
	governed bool
	// released says that the plan changes another Service, which may give up the
	// address or port that this one is to have.
	released bool
	// asks is set for an object that is not to be sent: whether it is as declared
	// is not known, and decides what else may be done.
	asks bool
}

// try finds out which objects of this plan are tried, and which are sent alone.
func (d *decision) try() {
	d.leads = map[inventory.ID]bool{}
	var all []*unstructured.Unstructured
	for _, u := range d.units {
		batch := d.batch(u)
		all = append(all, batch...)
		if len(batch) < 2 || u.retired || !d.present(u) {
			continue
		}
		d.leads[inventory.IDOf(batch[0])] = true
		for _, o := range batch[1:] {
			if tried, ok := d.in.Tried[inventory.IDOf(o)]; !ok || tried != d.in.hash(o) {
				d.plan.trials = append(d.plan.trials, trial{object: o})
			}
		}
	}
	governed := slices.ContainsFunc(all, governs)
	for i, t := range d.plan.trials {
		d.plan.trials[i].governed = governed
		d.plan.trials[i].released = slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool { return o != t.object && d.gives(o) })
	}
}

// gives reports whether an object, once it is changed, may have given up what only
// one can have at a time: it is a Service that is there.
func (d *decision) gives(o *unstructured.Unstructured) bool {
	return o.GroupVersionKind().GroupKind() == schema.GroupKind{Kind: "Service"} && d.in.live(o) != nil
}

// batch is what is to be sent of a unit because a commit changes it, in order.
func (d *decision) batch(u *unit) []*unstructured.Unstructured {
	var batch []*unstructured.Unstructured
	for _, o := range d.objects[u] {
		if d.sends(u, o) && d.isNew(o) {
			batch = append(batch, o)
		}
	}
	sortForApply(batch)
	slices.SortStableFunc(batch, func(a, b *unstructured.Unstructured) int { return int(stageOf(a)) - int(stageOf(b)) })
	return batch
}

// isNew reports whether an object has content that was never applied, as far as is
// known. After a restart that is told by the hash of the files.
func (d *decision) isNew(o *unstructured.Unstructured) bool {
	if mark, applied := d.in.Marks[inventory.IDOf(o)]; applied {
		return mark.Rendered != d.in.hash(o)
	}
	return d.in.Hash == "" || d.in.Hash != d.in.status().LastAppliedHash
}

// present reports whether any object of a unit is in the cluster.
func (d *decision) present(u *unit) bool {
	return slices.ContainsFunc(d.objects[u], func(o *unstructured.Unstructured) bool { return d.in.live(o) != nil })
}

// governing are the kinds by which the API server decides whether it admits other
// objects of a namespace.
var governing = map[schema.GroupKind]bool{
	{Kind: "Namespace"}: true, {Kind: "ResourceQuota"}: true, {Kind: "LimitRange"}: true, {Kind: "ServiceAccount"}: true,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}: true, {Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}: true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: true,
}

// governs reports whether an object may decide whether another is admitted. A
// custom resource may: webhooks look up what their resources refer to.
func governs(o *unstructured.Unstructured) bool {
	kind := o.GroupVersionKind().GroupKind()
	custom := strings.Contains(kind.Group, ".") && !strings.HasSuffix(kind.Group, ".k8s.io")
	return custom || governing[kind]
}

// try asks the API server by dry run what it would say to the objects that are
// tried. It reports whether that changes the plan.
func (p *pass) try(ctx context.Context, trials []trial) (again bool) {
	if len(trials) == 0 {
		return false
	}
	errs, found := make([]error, len(trials)), make([]*unstructured.Unstructured, len(trials))
	sideBySide(len(trials), func(n int) {
		t := trials[n]
		if t.asks {
			found[n] = p.asDeclared(ctx, t.object)
			return
		}
		_, _, errs[n] = p.env.hands.Apply(ctx, t.object, p.in.live(t.object), cluster.ApplyOptions{Manager: fieldManager, DryRun: true})
	})
	if p.in.Tried == nil {
		p.in.Tried = map[inventory.ID]string{}
	}
	for n, t := range trials {
		id, live := inventory.IDOf(t.object), p.in.live(t.object)
		p.in.Tried[id] = p.in.hash(t.object)
		if found[n] != nil {
			p.release.remember(id, p.in.noteApplied(t.object, found[n]))
			again = true
		}
		if errs[n] == nil || ctx.Err() != nil || !refuses(t, live, errs[n]) {
			continue
		}
		again = true
		if err := p.refused(t.object, live, errs[n]); !errors.Is(err, errDecideAgain) {
			p.in.refuse(id, err)
		}
	}
	return again
}

// refuses reports whether the error of a dry run says that the object would be
// refused. Where an apply would first take fields over, a dry run cannot tell.
func refuses(t trial, live *unstructured.Unstructured, err error) bool {
	if live != nil && (ownsForeign(live) || cluster.ForeignOwner(t.object, live)) {
		return false
	}
	switch cluster.AnswerOf(err) {
	case cluster.AnswerInvalid:
		return true
	case cluster.AnswerNotAdmitted:
		return !t.governed
	case cluster.AnswerTaken:
		return !t.released
	}
	return false
}

// asDeclared reads an object, and asks what an apply would make of it. It is nil
// unless that is what it is, or where that cannot be found out.
func (p *pass) asDeclared(ctx context.Context, desired *unstructured.Unstructured) *unstructured.Unstructured {
	id := inventory.IDOf(desired)
	live, err := p.env.hands.GetWhole(ctx, desired.GroupVersionKind(), id.Namespace, id.Name)
	if err != nil || live == nil || ownsForeign(live) || cluster.ForeignOwner(desired, live) {
		return nil
	}
	result, _, err := p.env.hands.Apply(ctx, desired, live, cluster.ApplyOptions{Manager: fieldManager, DryRun: true})
	if err != nil || hashOf(settledForm(result)) != hashOf(settledForm(live)) {
		return nil
	}
	return live
}
