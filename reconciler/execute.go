package reconciler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// writers is how many objects of one stage are written at the same time.
const writers = 4

// execute does a plan's steps in order and takes what comes back into the input.
// The first step that fails ends it, and the pass too unless the error is about
// objects that can be set aside.
func (p *pass) execute(ctx context.Context, plan Plan) error {
	if p.superseded() {
		return errSuperseded
	}
	p.enter(StagePlan)
	if p.try(ctx, plan.trials) {
		return nil
	}
	for _, step := range plan.Steps {
		if p.superseded() {
			return errSuperseded
		}
		p.enter(step.Action.stage())
		err := p.do(ctx, step)
		if errors.Is(err, errDecideAgain) || p.setAside(ctx, step, err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) do(ctx context.Context, s Step) error {
	switch s.Action {
	case ActionNamespace:
		return p.ensureNamespace(ctx, s)
	case ActionIntent:
		return p.recordIntent(ctx, s.inventory)
	case ActionGrant:
		return p.recordGrant(ctx, s.token)
	case ActionScale:
		return p.scale(ctx, s)
	case ActionApply, ActionRetire:
		return p.apply(ctx, s)
	case ActionRecreate:
		return p.recreate(ctx, s)
	case ActionRoute:
		if err := p.apply(ctx, s); err != nil {
			return err
		}
		p.in.routed = s.traffic
		if p.in.routed == nil {
			p.in.routed = &v1alpha1.TrafficStatus{}
		}
	case ActionPrune:
		if s.traffic != nil {
			p.in.routed = s.traffic // whatever else of the step fails
		}
		return p.prune(ctx, s)
	case ActionForget:
		if err := p.engine.cluster.DeleteRelease(ctx, p.in.Last); err != nil {
			return err
		}
		p.in.Last = nil
	}
	return nil
}

func (p *pass) ensureNamespace(ctx context.Context, s Step) error {
	for _, i := range s.Items {
		if _, _, err := p.env.hands.Apply(ctx, i.Object, nil, cluster.ApplyOptions{Manager: fieldManager}); err != nil {
			return &ApplyError{Objects: []*ObjectError{{inventory.IDOf(i.Object), err}}}
		}
	}
	p.in.Namespace.Exists = true
	return p.readObjects(ctx) // nothing could be read before
}

// recordIntent persists the inventory before what it lists is written. A Release
// that there is none of yet is made with it, in one request.
func (p *pass) recordIntent(ctx context.Context, intent inventory.Set) error {
	if p.in.Last == nil {
		if release := newRelease(p.in); intent.Announce(release) {
			if err := p.create(ctx, release); err != nil {
				return err
			}
			p.in.Inventory, p.announced = intent, true
			return nil
		}
	}
	if err := p.ensureRelease(ctx); err != nil {
		return err
	}
	after := p.in.Last.DeepCopy()
	after.Status.Inventory = inventoryOf(p.in, intent)
	if len(after.Status.Conditions) == 0 {
		after.Status, p.announced = statusAfter(p.in, applying(p.in, intent)), true
	}
	patched, err := p.patchStatus(ctx, after)
	if err != nil {
		return err
	}
	p.in.Last, p.in.Inventory = patched, intent
	return nil
}

// recordGrant persists that the deletion of what this content leaves out is
// acknowledged, before the first of it.
func (p *pass) recordGrant(ctx context.Context, token string) error {
	if err := p.ensureRelease(ctx); err != nil {
		return err
	}
	after := p.in.Last.DeepCopy()
	after.Status.Prune = &v1alpha1.PruneStatus{Acknowledged: token, Hash: p.in.Hash}
	patched, err := p.patchStatus(ctx, after)
	if err != nil {
		return err
	}
	if patched.Status.Prune == nil {
		return &OutdatedCRDError{Field: "status.prune"}
	}
	p.in.Last = patched
	return nil
}

func (p *pass) ensureRelease(ctx context.Context) error {
	if p.in.Last != nil {
		return p.identify(ctx)
	}
	return p.create(ctx, newRelease(p.in))
}

func (p *pass) create(ctx context.Context, release *v1alpha1.Release) error {
	created, err := p.engine.cluster.CreateRelease(ctx, release, fieldManager)
	if err != nil {
		return err
	}
	p.release.saw(created.ResourceVersion)
	p.in.Last = created
	return nil
}

// identify writes on a Release of ours what it lacks of the repository's identity,
// which an older version did not write, and of the Lease of whoever keeps it.
func (p *pass) identify(ctx context.Context) error {
	after := p.in.Last.DeepCopy()
	if p.in.Repository != "" {
		after.Spec.Repository = p.in.Repository
	}
	if p.in.Lease != nil {
		after.Spec.Lease = *p.in.Lease
	}
	if after.Spec == p.in.Last.Spec || foreignRelease(p.in) {
		return nil
	}
	patched, err := p.engine.cluster.PatchRelease(ctx, p.in.Last, after, fieldManager)
	if err != nil {
		return err
	}
	p.release.saw(patched.ResourceVersion)
	p.in.Last = patched
	if patched.Spec.Lease != after.Spec.Lease && !p.engine.noLease.Swap(true) {
		p.log().Error(&OutdatedCRDError{Field: "spec.lease"}, "nobody can tell by a Release whether it is kept up to date")
	}
	return nil
}

func (p *pass) patchStatus(ctx context.Context, after *v1alpha1.Release) (*v1alpha1.Release, error) {
	patched, err := p.engine.cluster.PatchReleaseStatus(ctx, p.in.Last, after, fieldManager)
	if err == nil {
		p.release.saw(patched.ResourceVersion)
	}
	return patched, err
}

func (p *pass) scale(ctx context.Context, s Step) error {
	for _, i := range s.Items {
		before := p.in.live(i.Object)
		live, err := p.env.hands.Scale(ctx, i.Object, i.Replicas, scaleManager)
		if err != nil {
			return &ApplyError{Objects: []*ObjectError{{inventory.IDOf(i.Object), err}}}
		}
		p.judgeScaling(i.Object, before, live, i.Replicas)
		p.in.noteScaled(live)
		p.release.remember(inventory.IDOf(live), p.in.Marks[inventory.IDOf(live)])
	}
	return nil
}

// apply writes the objects of one step: those that lead a batch, then the others.
func (p *pass) apply(ctx context.Context, s Step) error {
	var leads, others []Item
	for _, i := range s.Items {
		if i.leads {
			leads = append(leads, i)
		} else {
			others = append(others, i)
		}
	}
	for _, items := range [][]Item{leads, others} {
		if err := p.send(ctx, items); err != nil {
			return err
		}
	}
	return nil
}

// send writes objects side by side. One that fails does not stop the others.
func (p *pass) send(ctx context.Context, items []Item) error {
	type result struct {
		live   *unstructured.Unstructured
		action ssa.Action
		err    error
	}
	results, before := make([]result, len(items)), make([]*unstructured.Unstructured, len(items))
	sideBySide(len(items), func(n int) {
		before[n] = p.in.live(items[n].Object)
		r := &results[n]
		r.live, r.action, r.err = p.env.hands.Apply(ctx, items[n].Object, before[n], cluster.ApplyOptions{Manager: fieldManager, TakeOver: foreignManagers})
	})
	failed := &ApplyError{}
	var again error
	for n, r := range results {
		id := inventory.IDOf(items[n].Object)
		if p.overtaken(ctx, items[n].Object, before[n], r.err) {
			again = errDecideAgain
			continue
		}
		if r.err != nil {
			if err := p.refused(items[n].Object, before[n], r.err); errors.Is(err, errDecideAgain) {
				again = err
			} else {
				failed.Objects = append(failed.Objects, &ObjectError{id, err})
			}
			continue
		}
		p.judgeCorrection(items[n].Object, before[n], r.live)
		if p.adopts(id, before[n]) {
			p.release.adopt(id)
		}
		p.release.remember(id, p.in.noteApplied(items[n].Object, r.live))
		p.release.count(id, r.action)
	}
	if len(failed.Objects) > 0 {
		return failed
	}
	return again
}

// sideBySide calls do for every number below n, for as many as writers at a time. The
// caller is one of those who do it, and mostly alone: another goroutine would have to
// grow its stack first.
func sideBySide(n int, do func(i int)) {
	var begun atomic.Int64
	work := func() {
		for i := int(begun.Add(1)); i <= n; i = int(begun.Add(1)) {
			do(i - 1)
		}
	}
	var others sync.WaitGroup
	defer others.Wait()
	for range min(n, writers) - 1 {
		others.Go(work)
	}
	work()
}

// mostOvertaken is how often in a pass somebody else may have been faster with an
// object before that is an error.
const mostOvertaken = 3

// overtaken finds out whether somebody has written an object, or deleted it, since
// it was looked at, so that it was not written. What is to be done with it is then
// decided anew, in a moment, with the object as it is now.
func (p *pass) overtaken(ctx context.Context, desired, before *unstructured.Unstructured, err error) bool {
	id := inventory.IDOf(desired)
	if !apierrors.IsConflict(err) && (before == nil || !apierrors.IsNotFound(err)) || p.overtook[id] == mostOvertaken {
		return false
	}
	if p.overtook == nil {
		p.overtook = map[inventory.ID]int{}
	}
	p.overtook[id]++
	select {
	case <-ctx.Done():
	case <-time.After(overtakenPause + rand.N(overtakenPause)):
	}
	return p.reread(ctx, id, desired.GroupVersionKind()) == nil
}

// adopts reports whether applying over a live object made it ours that was
// nobody's: not one that lost our label while it was in the inventory, and not the
// ServiceAccount that Kubernetes makes in every namespace.
func (p *pass) adopts(id inventory.ID, live *unstructured.Unstructured) bool {
	_, known := p.known[id]
	if live == nil || known || id.Kind == "ServiceAccount" && id.Name == "default" {
		return false
	}
	_, owned := owner(live)
	return !owned
}

// reread takes in one object as it is now.
func (p *pass) reread(ctx context.Context, id inventory.ID, gvk schema.GroupVersionKind) error {
	live, err := p.env.hands.Get(ctx, gvk, id.Namespace, id.Name)
	if err != nil {
		return err
	}
	if live == nil {
		delete(p.in.Live, id)
	} else {
		p.in.Live[id] = live
	}
	return nil
}

// prune deletes in order, and goes on after a failure: what stays is kept in
// the inventory. A commit that comes in meanwhile ends it, since many objects take
// their time.
func (p *pass) prune(ctx context.Context, s Step) error {
	failed := &PruneError{}
	rendered := p.in.renderedSet()
	for _, i := range s.Items {
		id := inventory.IDOf(i.Object)
		if _, unused := rendered[id]; p.superseded() || !unused && !p.env.ledger.holdsGood(p.in.Release.Name, p.want.generation, id) {
			return errDecideAgain
		}
		err := p.env.hands.Delete(ctx, i.Object)
		if errors.Is(err, cluster.ErrChanged) {
			// Whether it may still be deleted is for the next plan to say.
			err = p.reread(ctx, id, i.Object.GroupVersionKind())
			if err == nil {
				continue
			}
		}
		if err != nil {
			failed.Objects = append(failed.Objects, &ObjectError{id, err})
			continue
		}
		p.in.noteDeleted(id)
		p.release.forget(id)
		p.release.count(id, ssa.DeletedAction)
		p.pruned = append(p.pruned, id.Display())
	}
	if len(failed.Objects) > 0 {
		return failed
	}
	return nil
}
