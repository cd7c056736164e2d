package reconciler

import (
	"cmp"
	"context"
	"sync"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// always are the kinds that are watched whether or not a release holds any.
// EndpointSlices carry the labels of their Service, so ours as well.
var always = []schema.GroupVersionKind{
	v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind),
	{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"},
}

// watches follow kinds in namespaces: each that is in some inventory, once.
type watches struct {
	ctx     context.Context // ends them
	cluster *cluster.Client
	log     logr.Logger
	event   func(namespace string, gvk schema.GroupVersionKind, object metav1.Object, deleted bool)

	mu        sync.Mutex
	following map[watched]bool
}

type watched struct {
	namespace string
	kind      schema.GroupKind
}

// follow starts to watch a kind, if it is not watched yet. What cannot be
// watched is seen by the slow resync only.
func (w *watches) follow(namespace string, gvk schema.GroupVersionKind) {
	key := watched{namespace, gvk.GroupKind()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.following[key] {
		return
	}
	namespaced, err := w.cluster.Namespaced(gvk)
	if err != nil {
		return // not known yet; asked again with the next pass
	}
	resource, ok := w.cluster.Resource(gvk)
	if !ok || !namespaced {
		w.following[key] = ok
		return
	}
	err = w.cluster.Watch(w.ctx, namespace, resource,
		func(object metav1.Object, deleted bool) { w.event(namespace, gvk, object, deleted) },
		func(err error) {
			if w.ctx.Err() == nil {
				w.log.V(1).Info("a watch broke off", "kind", gvk.Kind, "namespace", namespace, "error", err.Error())
			}
		})
	if err != nil {
		w.log.Error(err, "not watching", "kind", gvk.Kind, "namespace", namespace)
		return
	}
	w.following[key] = true
}

// event takes in that an object has changed; it reports whether the release may
// have to be passed over. Whether it really has is found out later, by due: our
// own writes come back as events before the API server's answer has been read.
func (r *release) event(gvk schema.GroupVersionKind, object metav1.Object, deleted bool) bool {
	id := inventory.ID{Namespace: object.GetNamespace(), Name: object.GetName(), Group: gvk.Group, Kind: gvk.Kind}
	r.mu.Lock()
	defer r.mu.Unlock()
	if gvk.Kind == v1alpha1.ReleaseKind && gvk.Group == v1alpha1.Group {
		r.reported = append(r.reported, object.GetResourceVersion())
		r.urgent = r.urgent || deleted
		return true
	}
	mark, ours := r.marks[id]
	seen := fingerprint(object)
	if deleted {
		seen = ""
	}
	if !ours && r.settled() {
		return false // nor kept: nobody would come for it
	}
	r.events[id] = sighting{id: id, version: cmp.Or(mark.Version, gvk.Version), fingerprint: seen}
	if ours && mark.Live == seen && r.health.Judged(gvk.GroupKind()) {
		r.urgent = true // its status has changed: only a pass can tell how
	}
	return true
}
