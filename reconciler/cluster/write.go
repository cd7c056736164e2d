package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
	if live != nil && len(o.TakeOver) > 0 && !o.DryRun {
		if err := c.takeOver(ctx, live, o); err != nil {
			return nil, ssa.UnknownAction, err
		}
	}
	applied := object.DeepCopy()
	options := []client.ApplyOption{client.FieldOwner(o.Manager), client.ForceOwnership}
	if o.DryRun {
		options = append(options, client.DryRunAll)
	}
	if err := c.api.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), options...); err != nil {
		return nil, ssa.UnknownAction, c.explain(err, "applying %s/%s", object.GetKind(), object.GetName())
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

// takeOver makes the fields of other managers the main manager's own. It is
// done at the resource version that was seen: who has written since keeps what
// is theirs, and the pass is repeated.
func (c *Client) takeOver(ctx context.Context, live *unstructured.Unstructured, o ApplyOptions) error {
	managers := make([]ssa.FieldManager, len(o.TakeOver))
	for i, name := range o.TakeOver {
		managers[i] = ssa.FieldManager{Name: name, ExactMatch: true, OperationType: metav1.ManagedFieldsOperationUpdate}
	}
	patches, err := ssa.PatchReplaceFieldsManagers(live, managers, o.Manager)
	if err != nil || len(patches) == 0 {
		return err
	}
	operations := []any{map[string]any{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()}}
	for _, p := range patches {
		operations = append(operations, p)
	}
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
		return fmt.Errorf("pruning %s/%s: %w", live.GetKind(), live.GetName(), ErrChanged)
	}
	if err != nil && !absent(err) {
		return c.explain(err, "pruning %s/%s", live.GetKind(), live.GetName())
	}
	return nil
}
