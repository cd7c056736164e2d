package reconciler

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

var (
	releaseKind   = v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind)
	sliceKind     = schema.GroupVersionKind{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"}
	namespaceKind = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
)

// always are the kinds that are watched whether or not a release holds any. Slices
// are, once there is a tag whose endpoints count.
var always = []schema.GroupVersionKind{releaseKind, namespaceKind}

// syncPatience bounds how long a pass waits for a watch that has just begun. What
// is not known by then is read object by object.
const syncPatience = 5 * time.Second

// watches follow kinds in namespaces: each that is in some inventory, once. They
// are of whole namespaces, not of what carries our label only: that an object has
// lost it, and that one which a release wants is somebody else's, is seen, too.
type watches struct {
	ctx     context.Context // ends them
	cluster *cluster.Client
	log     logr.Logger
	event   func(env *environment, kind schema.GroupVersionKind, object *cluster.Metadata, deleted bool)

	mu     sync.Mutex
	views  map[watched]*cluster.View
	owners map[inventory.ID][]Key // the releases that declare or list an object
}

type watched struct {
	namespace string
	kind      schema.GroupKind
}

// follow starts to watch a kind in the namespace of an environment, if it is not
// watched yet. Nil: it cannot be, and what is to be known has to be read.
func (w *watches) follow(env *environment, gvk schema.GroupVersionKind) *cluster.View {
	_, _, namespace, _ := env.view()
	if w == nil || namespace == "" {
		return nil
	}
	key := watched{namespace, gvk.GroupKind()}
	if v := w.view(key); v != nil {
		return v
	}
	o := cluster.WatchOptions{
		Foreign: foreignManagers,
		Event:   func(object *cluster.Metadata, deleted bool) { w.event(env, gvk, object, deleted) },
		Failed: func(err error) {
			w.log.V(1).Info("a watch broke off", "kind", gvk.Kind, "namespace", namespace, "error", err.Error())
		},
	}
	switch namespaced, err := w.cluster.Namespaced(gvk); {
	case gvk == namespaceKind:
		namespace, o.Name = "", namespace
	case err != nil || !namespaced:
		return nil // not known yet; asked again with the next pass
	case gvk == sliceKind:
		o.Index = discoveryv1.LabelServiceName
	}
	hands := env.hands
	if slices.Contains(always, gvk) {
		hands = w.cluster // ours, not the environment's
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.views[key] == nil {
		w.views[key] = hands.Watch(w.ctx, namespace, gvk, o)
	}
	return w.views[key]
}

func (w *watches) view(key watched) *cluster.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.views[key]
}

// own replaces what a release declares or lists.
func (w *watches) own(key Key, before, after map[inventory.ID]bool) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range before {
		if after[id] {
			continue
		}
		w.owners[id] = slices.DeleteFunc(w.owners[id], func(k Key) bool { return k == key })
		if len(w.owners[id]) == 0 {
			delete(w.owners, id)
		}
	}
	for id := range after {
		if !slices.Contains(w.owners[id], key) {
			w.owners[id] = append(w.owners[id], key)
		}
	}
}

// ownKnown enters what the releases have come to know in an earlier run of the
// engine: those that are settled since make no pass that would enter it, and what
// a watch tells at its beginning is told once.
func (w *watches) ownKnown(environments map[string]*environment) {
	for _, env := range environments {
		env.mu.Lock()
		for _, r := range env.releases {
			r.mu.Lock()
			w.own(r.key, nil, r.listed)
			r.mu.Unlock()
		}
		env.mu.Unlock()
	}
}

// concerns are the releases that an object means something to: those that list
// it, and the one whose label it carries.
func (w *watches) concerns(env *environment, id inventory.ID, object *cluster.Metadata) []Key {
	if id.GroupKind() == releaseKind.GroupKind() {
		return []Key{{env.name, id.Name}}
	}
	w.mu.Lock()
	keys := slices.Clone(w.owners[id])
	w.mu.Unlock()
	if key, owned := owner(object); owned && !slices.Contains(keys, key) {
		keys = append(keys, key)
	}
	return keys
}

// event is a change of an object in the cluster.
func (l *loop) event(env *environment, kind schema.GroupVersionKind, object *cluster.Metadata, deleted bool) {
	if kind == namespaceKind {
		l.namespaceEvent(env, deleted)
		return
	}
	id := inventory.ID{Namespace: object.Namespace, Name: object.Name, Group: kind.Group, Kind: kind.Kind}
	for _, key := range l.watches.concerns(env, id, object) {
		if key.Environment != env.name {
			continue
		}
		_, rel := l.engine.find(key)
		if rel == nil || !rel.inScopeAtAll() {
			continue
		}
		n := rel.event(sightingOf(id, kind.Version, object, deleted))
		asked := kind == releaseKind && !deleted && l.asked(key, rel, object)
		switch {
		case asked: // it is passed over after the look
		case rel.fights.open(id): // it is corrected when its time comes
		case n == noticeNow:
			l.add(key)
		case n == noticeSoon:
			l.addSoon(key)
		}
	}
}

// namespaceEvent has all releases looked at when their namespace has gone or come.
func (l *loop) namespaceEvent(env *environment, deleted bool) {
	env.mu.Lock()
	news := deleted || env.lost
	env.exists, env.lost = !deleted, deleted
	var keys []Key
	if news {
		keys = env.keys((*release).hurry)
	}
	env.mu.Unlock()
	l.add(keys...)
}

// sighting is an object as a watch saw it; its fingerprint is "" when it was
// deleted.
type sighting struct {
	id          inventory.ID
	api         string // API version to read it at
	version     string // resource version
	fingerprint string
}

func sightingOf(id inventory.ID, api string, object metav1.Object, deleted bool) sighting {
	s := sighting{id: id, api: api, version: object.GetResourceVersion()}
	if !deleted {
		s.fingerprint = fingerprint(object)
	}
	return s
}

func (s sighting) kind() schema.GroupVersionKind { return s.id.GroupKind().WithVersion(s.api) }
