package cluster

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Watch calls event for every change of an object of one kind in a namespace
// that carries our label, until ctx ends; the objects that are there already come
// first. Only metadata is watched. It returns at once. A watch that breaks off is
// taken up again without losing a change; failed is told why it broke off.
func (c *Client) Watch(ctx context.Context, namespace string, resource schema.GroupVersionResource, event func(object metav1.Object, deleted bool), failed func(error)) error {
	client, err := metadata.NewForConfigAndClient(c.config, c.http)
	if err != nil {
		return fmt.Errorf("watching %s: %w", resource.Resource, err)
	}
	informer := metadatainformer.NewFilteredMetadataInformer(client, resource, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = v1alpha1.LabelRelease
	}).Informer()
	err = errors.Join(
		informer.SetTransform(func(object any) (any, error) {
			if m, ok := object.(*metav1.PartialObjectMetadata); ok {
				m.ManagedFields = nil // most of an object's metadata, and not looked at
			}
			return object, nil
		}),
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			failed(c.explain(err, "watching %s", resource.Resource))
		}),
	)
	if err != nil {
		return fmt.Errorf("watching %s: %w", resource.Resource, err)
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { call(event, object, false) },
		UpdateFunc: func(before, after any) {
			a, okA := before.(metav1.Object)
			b, okB := after.(metav1.Object)
			if !okA || !okB || a.GetResourceVersion() != b.GetResourceVersion() {
				call(event, after, false)
			}
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			call(event, object, true)
		},
	})
	if err != nil {
		return fmt.Errorf("watching %s: %w", resource.Resource, err)
	}
	go informer.RunWithContext(ctx)
	return nil
}

func call(event func(metav1.Object, bool), object any, deleted bool) {
	if m, ok := object.(metav1.Object); ok {
		event(m, deleted)
	}
}
