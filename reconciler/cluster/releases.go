package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Release reads a Release; nil when the API server says that there is none. A
// plain 404, as an API server that is starting gives for custom resources, says
// nothing. A cluster that does not know the kind is a *MissingCRDError.
func (c *Client) Release(ctx context.Context, namespace, name string) (*v1alpha1.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var release v1alpha1.Release
	err := c.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &release)
	switch {
	case err == nil:
		return &release, nil
	case absent(err):
		return nil, nil
	}
	return nil, c.explainRelease(err, "reading Release/%s", name)
}

// Releases lists the Releases of a namespace, of all with "".
func (c *Client) Releases(ctx context.Context, namespace string) ([]v1alpha1.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var list v1alpha1.ReleaseList
	if err := c.api.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, c.explainRelease(err, "listing the releases of namespace %s", namespace)
	}
	return list.Items, nil
}

// CreateRelease creates a Release, without its status.
func (c *Client) CreateRelease(ctx context.Context, release *v1alpha1.Release, manager string) (*v1alpha1.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	created := release.DeepCopy()
	if err := c.api.Create(ctx, created, client.FieldOwner(manager)); err != nil {
		return nil, c.explainRelease(err, "creating Release/%s", release.Name)
	}
	return created, nil
}

// PatchRelease writes what differs between two states of a Release other than its
// status. It fails with a conflict when somebody else has written since before
// was read.
func (c *Client) PatchRelease(ctx context.Context, before, after *v1alpha1.Release, manager string) (*v1alpha1.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patched := after.DeepCopy()
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.api.Patch(ctx, patched, patch, client.FieldOwner(manager)); err != nil {
		return nil, c.explainRelease(err, "writing Release/%s", after.Name)
	}
	return patched, nil
}

// PatchReleaseStatus writes what differs between two states of a status. It
// fails with a conflict when somebody else has written since before was read:
// half of two inventories is none.
func (c *Client) PatchReleaseStatus(ctx context.Context, before, after *v1alpha1.Release, manager string) (*v1alpha1.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patched := after.DeepCopy()
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.api.Status().Patch(ctx, patched, patch, client.FieldOwner(manager)); err != nil {
		return nil, c.explainRelease(err, "reporting on Release/%s", after.Name)
	}
	return patched, nil
}

// AskRelease writes what asks the controller for a look at the release now; see
// v1alpha1.AnnotationReconcile.
func (c *Client) AskRelease(ctx context.Context, namespace, name, value, manager string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.AnnotationReconcile: value}}})
	if err != nil {
		return fmt.Errorf("asking for Release/%s: %w", name, err)
	}
	release := &v1alpha1.Release{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.api.Patch(ctx, release, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(manager)); err != nil {
		return c.explainRelease(err, "asking for Release/%s", name)
	}
	return nil
}

// DeleteRelease deletes the very Release that was read.
func (c *Client) DeleteRelease(ctx context.Context, release *v1alpha1.Release) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.api.Delete(ctx, release.DeepCopy(), client.Preconditions{UID: &release.UID})
	if err != nil && !absent(err) {
		return c.explainRelease(err, "deleting Release/%s", release.Name)
	}
	return nil
}

func (c *Client) explainRelease(err error, doing string, args ...any) error {
	if meta.IsNoMatchError(err) {
		return &MissingCRDError{Server: c.server}
	}
	err = c.explain(err, doing, args...)
	var unknown *UnknownKindError
	if errors.As(err, &unknown) {
		return &MissingCRDError{Server: c.server}
	}
	return err
}
