package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ApplyOptions says how an object is applied.
type ApplyOptions struct {
	Manager string
	// TakeOver are field managers whose fields the main manager takes over
	// first, so that what they planted and the object does not declare goes.
	// Owners that it does not declare go in any case.
	TakeOver []string
	// DryRun asks what would come out; nothing is written.
	DryRun bool
}

// Apply sends an object by server-side apply, conflicts forced, and returns what
// the API server made of it. live is the object as it was last seen, nil when
// there was none; nothing else is read.
//
// It is one request, where ssa.ResourceManager.Apply makes three (a read, a dry
// run and the apply): the plan knows already that there is something to send,
// and an apply that changes nothing writes nothing.
func (c *Client) Apply(ctx context.Context, object, live *unstructured.Unstructured, o ApplyOptions) (*unstructured.Unstructured, ssa.Action, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if live != nil && !o.DryRun {
		if err := c.takeBack(ctx, object, live, o); err != nil {
			return nil, ssa.UnknownAction, err
		}
	}
	applied := object.DeepCopy()
	options := []client.ApplyOption{client.FieldOwner(o.Manager), client.ForceOwnership}
	if o.DryRun {
		options = append(options, client.DryRunAll)
	}
	if err := c.api.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), options...); err != nil {
		return nil, ssa.UnknownAction, c.refusal(ctx, object, live, o.Manager, err)
	}
	action := ssa.ConfiguredAction
	switch {
	case live == nil:
		action = ssa.CreatedAction
	case live.GetUID() == applied.GetUID() && live.GetResourceVersion() == applied.GetResourceVersion():
		action = ssa.UnchangedAction
	}
	if o.DryRun {
		return applied, action, nil
	}
	return withoutContent(applied), action, nil
}

// takeBack undoes what an apply alone would leave: fields of the managers in
// TakeOver become the main manager's own, so that the apply drops those that the
// object does not declare, and owners that it does not declare go. It is done at
// the resource version that was seen: who has written since keeps what is theirs,
// and the pass is repeated.
func (c *Client) takeBack(ctx context.Context, object, live *unstructured.Unstructured, o ApplyOptions) error {
	operations, err := takingOver(live, o)
	if err != nil {
		return fmt.Errorf("taking over the fields of %s/%s: %w", live.GetKind(), live.GetName(), err)
	}
	if o, foreign := disowning(object, live); foreign {
		operations = append(operations, o)
	}
	if len(operations) == 0 {
		return nil
	}
	operations = append([]any{operation{"replace", "/metadata/resourceVersion", live.GetResourceVersion()}}, operations...)
	patch, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("taking over the fields of %s/%s: %w", live.GetKind(), live.GetName(), err)
	}
	target := &metav1.PartialObjectMetadata{}
	target.SetGroupVersionKind(live.GroupVersionKind())
	target.SetNamespace(live.GetNamespace())
	target.SetName(live.GetName())
	if err := c.api.Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(o.Manager)); err != nil {
		return c.explain(err, "taking over the fields of %s/%s", live.GetKind(), live.GetName())
	}
	return nil
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func takingOver(live *unstructured.Unstructured, o ApplyOptions) (operations []any, err error) {
	if len(o.TakeOver) == 0 {
		return nil, nil
	}
	managers := make([]ssa.FieldManager, len(o.TakeOver))
	for i, name := range o.TakeOver {
		managers[i] = ssa.FieldManager{Name: name, ExactMatch: true, OperationType: metav1.ManagedFieldsOperationUpdate}
	}
	patches, err := ssa.PatchReplaceFieldsManagers(live, managers, o.Manager)
	for _, p := range patches {
		operations = append(operations, p)
	}
	return operations, err
}

// disowning removes the owners that the object does not declare: with any of
// them the garbage collector would delete it, whatever the repository says.
// Server-side apply keeps them, as it keeps all that it is not told about.
func disowning(object, live *unstructured.Unstructured) (o operation, foreign bool) {
	if !ForeignOwner(object, live) {
		return operation{}, false
	}
	owners := slices.DeleteFunc(live.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return !declares(object, o) })
	if len(owners) == 0 {
		return operation{Op: "remove", Path: "/metadata/ownerReferences"}, true
	}
	return operation{"replace", "/metadata/ownerReferences", owners}, true
}

func declares(object *unstructured.Unstructured, owner metav1.OwnerReference) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == owner.UID })
}

// ForeignOwner reports whether a live object has an owner that the object does
// not declare, which Apply would remove.
func ForeignOwner(object, live *unstructured.Unstructured) bool {
	return slices.ContainsFunc(live.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return !declares(object, o) })
}

// Scale writes spec.replicas of a workload, and nothing else, as a field
// manager of its own.
func (c *Client) Scale(ctx context.Context, workload *unstructured.Unstructured, replicas int64, manager string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
	patch.SetGroupVersionKind(workload.GroupVersionKind())
	patch.SetNamespace(workload.GetNamespace())
	patch.SetName(workload.GetName())
	err := c.api.Apply(ctx, client.ApplyConfigurationFromUnstructured(patch), client.FieldOwner(manager), client.ForceOwnership)
	if err != nil {
		return nil, c.explain(err, "scaling %s/%s", workload.GetKind(), workload.GetName())
	}
	return patch, nil
}

// ErrChanged says that an object is not, or not any more, as it was shown: what
// was decided about it has to be decided again.
var ErrChanged = errors.New("it has changed since it was read")

// Delete deletes the object that live is, as it is, in the background. One that
// is gone already is deleted. One that has changed since live was read (somebody
// may have taken it over, or protected it), or was replaced by another of the same
// name, is left alone: ErrChanged.
func (c *Client) Delete(ctx context.Context, live *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	uid, version := live.GetUID(), live.GetResourceVersion()
	target := &metav1.PartialObjectMetadata{}
	target.SetGroupVersionKind(live.GroupVersionKind())
	target.SetNamespace(live.GetNamespace())
	target.SetName(live.GetName())
	err := c.api.Delete(ctx, target, client.Preconditions{UID: &uid, ResourceVersion: &version}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %s/%s: %w", live.GetKind(), live.GetName(), ErrChanged)
	}
	if err != nil && !absent(err) {
		return c.explain(err, "deleting %s/%s", live.GetKind(), live.GetName())
	}
	return nil
}
