package reconciler

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// difference is what a plan would change, object by object.
type difference struct {
	desired, live []*unstructured.Unstructured
	values        []string
	refused       []*ObjectError
}

// Desired are the objects as the API server would keep them, sorted by kind and
// name, defaults filled in; one it would refuse, or that has no namespace yet, is
// as it was rendered. Only plans of PlanEnvironment have any.
func (p Plan) Desired() []*unstructured.Unstructured {
	if p.diff == nil {
		return nil
	}
	return p.diff.desired
}

// Live are the objects of the cluster: those that Desired replaces, and those
// that the plan prunes. Fields that only the API server writes are left out of
// both, so that what differs is what the plan changes.
func (p Plan) Live() []*unstructured.Unstructured {
	if p.diff == nil {
		return nil
	}
	return p.diff.live
}

// Values are the decrypted values of the release, to mask what is printed.
func (p Plan) Values() []string {
	if p.diff == nil {
		return nil
	}
	return p.diff.values
}

// Refused are the objects that the API server would not take, with its reasons.
func (p Plan) Refused() []*ObjectError {
	if p.diff == nil {
		return nil
	}
	return p.diff.refused
}

// planned is the plan of the pass, with what the API server says to it: it is asked
// by dry run what each object would become, so only real changes are steps.
func (p *pass) planned(ctx context.Context) (Plan, error) {
	diff := &difference{values: p.values}
	tried := map[inventory.ID]bool{}
	var namespace []Step // a plan that makes the namespace has no other step
	for {
		if err := p.account(ctx); err != nil {
			return Plan{}, err
		}
		plan := Decide(*p.in)
		fresh, err := p.dryRun(ctx, plan, tried, diff)
		if err != nil {
			return Plan{}, err
		}
		if len(plan.Steps) > 0 && plan.Steps[0].Action == ActionNamespace {
			namespace, p.in.Namespace.Exists = plan.Steps, true
			continue
		}
		if !fresh {
			diff.sort()
			plan.Steps, plan.diff = append(namespace, plan.Steps...), diff
			return plan, nil
		}
	}
}

// dryRun asks what would become of each object of the plan that was not asked
// about yet. One that would stay what it is counts as applied. It reports whether
// there was any.
func (p *pass) dryRun(ctx context.Context, plan Plan, tried map[inventory.ID]bool, diff *difference) (fresh bool, err error) {
	for _, s := range plan.Steps {
		for _, i := range s.Items {
			id := inventory.IDOf(i.Object)
			if tried[id] || s.Action == ActionIntent || s.Action == ActionScale || s.Action == ActionKeep || s.Action == ActionHandOver || s.Action == ActionHold {
				continue
			}
			tried[id], fresh = true, true
			live, err := p.env.hands.GetWhole(ctx, i.Object.GroupVersionKind(), id.Namespace, id.Name)
			if err != nil {
				return false, err
			}
			diff.desired = withoutObject(diff.desired, id)
			if diff.live = withoutObject(diff.live, id); live != nil {
				diff.live = append(diff.live, settledForm(live))
			}
			if s.Action == ActionPrune || s.Action == ActionLater {
				continue
			}
			if err := p.compare(ctx, i.Object, live, diff); err != nil {
				return false, err
			}
		}
	}
	return fresh, nil
}

// compare finds out what one object would become.
func (p *pass) compare(ctx context.Context, desired, live *unstructured.Unstructured, diff *difference) error {
	result, _, err := p.env.hands.Apply(ctx, desired, live, cluster.ApplyOptions{Manager: fieldManager, DryRun: true})
	var unreachable *cluster.UnreachableError
	switch {
	case errors.As(err, &unreachable), errors.Is(err, context.Canceled):
		return err
	case apierrors.IsNotFound(err): // its namespace is not there yet
		diff.desired = append(diff.desired, settledForm(desired))
		return nil
	case err != nil:
		diff.desired = append(diff.desired, settledForm(desired))
		if err = p.refused(desired, live, err); errors.Is(err, errDecideAgain) {
			return nil // the plan recreates it
		}
		diff.refused = append(diff.refused, &ObjectError{inventory.IDOf(desired), &refusal{masked(err.Error(), p.values), hintOf(err)}})
		return nil
	}
	after := settledForm(result)
	diff.desired = append(diff.desired, after)
	if live != nil && hashOf(after) == hashOf(settledForm(live)) && !ownsForeign(live) && !cluster.ForeignOwner(desired, live) {
		p.in.noteApplied(desired, live)
	}
	return nil
}

// refusal is an error in words that may be printed.
type refusal struct{ message, hint string }

func (r *refusal) Error() string { return r.message }
func (r *refusal) Hint() string  { return r.hint }

// ownsForeign reports whether an apply would first take fields over: what would
// become of them a dry run cannot tell.
func ownsForeign(live *unstructured.Unstructured) bool {
	return slices.ContainsFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Subresource == "" && slices.Contains(foreignManagers, e.Manager)
	})
}

// settledForm is an object without what only the API server writes.
func settledForm(o *unstructured.Unstructured) *unstructured.Unstructured {
	c := o.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(c.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(c.Object, "status")
	annotations := c.GetAnnotations()
	if _, set := annotations["deployment.kubernetes.io/revision"]; set {
		delete(annotations, "deployment.kubernetes.io/revision")
		c.SetAnnotations(annotations)
	}
	return c
}

// withoutObject takes out the object of an identity: what is planned for it later counts.
func withoutObject(objects []*unstructured.Unstructured, id inventory.ID) []*unstructured.Unstructured {
	return slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return inventory.IDOf(o) == id })
}

func (d *difference) sort() {
	sortObjects(d.desired)
	sortObjects(d.live)
}

func sortObjects(objects []*unstructured.Unstructured) {
	slices.SortFunc(objects, func(a, b *unstructured.Unstructured) int { return inventory.IDOf(a).Compare(inventory.IDOf(b)) })
}
