package reconciler

import (
	"context"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// known is what the API server has last answered about a release's objects. What a
// watch tells may be older than that, so what is known of an object is the newest
// of the two, by resource version.
type known struct {
	answers map[inventory.ID]answer
	listed  map[inventory.ID]bool // what is declared or in the inventory

	last       *v1alpha1.Release // nil: there is none
	lastKnown  bool
	wroteOlder []string // resource versions of the Release that we wrote, without those that cannot be compared

	countsEndpoints bool
	endpoints       map[string]endpoints // by Service
}

// answer is one about an object. The object itself is kept until its release is
// settled: all of it where its content matters, else its metadata.
type answer struct {
	uid     types.UID
	version string
	object  *unstructured.Unstructured
	whole   bool
}

// endpoints is how many ready ones a Service had, while its slices were those.
type endpoints struct {
	slices string
	ready  int
}

// judged reports whether objects of a kind can be anything but well.
func (r *release) judged(kind schema.GroupKind) bool { return r.health.Judged(kind) }

// contentMatters are the kinds of whose live objects a plan looks at more than
// metadata: health, routes, autoscalers, and whether a cron job is suspended.
func (r *release) contentMatters(kind schema.GroupKind) bool {
	switch kind {
	case schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"},
		schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"},
		schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return true
	}
	return r.judged(kind) || routesRequests(kind)
}

// keep takes in what a pass has come to know.
func (r *release) keep(live map[inventory.ID]*unstructured.Unstructured, listed map[inventory.ID]bool) (before map[inventory.ID]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answers := make(map[inventory.ID]answer, len(live))
	for id, o := range live {
		a := answer{uid: o.GetUID(), version: o.GetResourceVersion(), whole: r.contentMatters(id.GroupKind()), object: o}
		if !a.whole {
			a.object = metadataOf(o)
		}
		answers[id] = a
	}
	before, r.listed = r.listed, listed
	r.answers = answers
	for _, s := range r.events {
		r.told(s)
	}
	if r.settled() {
		r.letGo()
	}
	return before
}

// metadataOf is an object without its content. Who owns which of its fields is
// not kept either: where anybody else does, the view says so, and it is read.
func metadataOf(o *unstructured.Unstructured) *unstructured.Unstructured {
	meta, _ := o.Object["metadata"].(map[string]any)
	bare := make(map[string]any, len(meta))
	for field, value := range meta {
		if field != "managedFields" {
			bare[field] = value
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": bare}}
}

// letGo drops the objects of a release that is settled.
func (k *known) letGo() {
	for id, a := range k.answers {
		a.object = nil
		k.answers[id] = a
	}
}

// told drops the object of an answer that a watch makes superfluous: the view has its
// metadata now, and where more of it matters, it has changed since and has to be read. In
// a first sync most of them would only be there to be looked through by the collector.
func (k *known) told(s sighting) {
	a, known := k.answers[s.id]
	if !known || a.object == nil {
		return
	}
	newer, ok := cluster.Newer(s.version, a.version)
	if ok && newer || s.version == a.version && !a.whole {
		a.object = nil
		k.answers[s.id] = a
	}
}

func (r *release) answered(id inventory.ID) answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[id]
}

// lastRelease is the Release as it was last read or written, where that is what
// there is now. Else it is read.
func (p *pass) lastRelease(ctx context.Context) (*v1alpha1.Release, error) {
	name := p.in.Release.Name
	view := p.engine.follow(p.env, releaseKind)
	wait(ctx, view)
	if seen, upTo, ok := find(view, name); ok {
		last, known := p.release.lastKept()
		if known && seen == nil && last == nil {
			return nil, nil
		}
		if seen != nil {
			upTo = seen.ResourceVersion
		}
		switch {
		case !known || last == nil:
			if seen == nil {
				return nil, nil
			}
		case seen != nil && seen.ResourceVersion == last.ResourceVersion && seen.UID == last.UID:
			return last, nil
		default:
			newer, comparable := cluster.Newer(last.ResourceVersion, upTo)
			switch {
			case comparable && newer:
				return last, nil // the watch has not come so far
			case comparable && seen == nil:
				return nil, nil // deleted
			}
		}
	}
	last, err := p.engine.cluster.Release(ctx, p.in.Namespace.Name, name)
	if err == nil {
		p.release.keepRelease(last, true)
	}
	return last, err
}

// readNamespace finds out whether the namespace exists. One that is being deleted
// takes nothing in any more, and is waited for.
func (p *pass) readNamespace(ctx context.Context) error {
	ns, view := &p.in.Namespace, p.engine.follow(p.env, namespaceKind)
	wait(ctx, view)
	seen, _, ok := find(view, ns.Name)
	switch {
	case ok && seen != nil && seen.DeletionTimestamp != nil && !p.in.Gone:
		return &NamespaceTerminatingError{Namespace: ns.Name}
	case ok:
		ns.Exists = seen != nil
	default:
		ns.Exists = p.in.Last != nil || p.env.namespaceSeen()
	}
	if !ns.Exists {
		var err error
		if ns.Exists, err = p.engine.cluster.NamespaceExists(ctx, ns.Name); err != nil {
			return err
		}
	}
	if ns.Exists {
		p.env.sawNamespace(true)
	}
	return nil
}

// follow has the kinds watched that a pass looks at, and waits for watches that
// have just begun.
func (p *pass) follow(ctx context.Context, kinds map[inventory.ID]schema.GroupVersionKind) map[schema.GroupKind]*cluster.View {
	views := map[schema.GroupKind]*cluster.View{}
	for _, gvk := range kinds {
		if _, followed := views[gvk.GroupKind()]; !followed {
			views[gvk.GroupKind()] = p.engine.follow(p.env, gvk)
		}
	}
	for _, v := range views {
		wait(ctx, v)
	}
	return views
}

func wait(ctx context.Context, v *cluster.View) {
	if v == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	v.Wait(ctx)
	v.Want()
}

// keep has the release remember what the pass has come to know.
func (p *pass) keep(cause error) {
	if p.looked {
		listed := make(map[inventory.ID]bool, len(p.in.Live))
		for id := range p.in.Inventory {
			listed[id] = true
		}
		for _, o := range p.rendered() {
			listed[inventory.IDOf(o)] = true
		}
		before := p.release.keep(p.in.Live, listed)
		p.engine.mu.Lock()
		w := p.engine.watches
		p.engine.mu.Unlock()
		w.own(p.release.key, before, listed)
	}
	// Who else has written it, the watch tells later; what is kept would only be
	// refused again.
	stale := apierrors.IsConflict(cause) || apierrors.IsNotFound(cause) || apierrors.IsAlreadyExists(cause)
	if p.in.Last != nil || p.looked {
		p.release.keepRelease(p.in.Last, !stale)
	}
}

// slicesOf names the slices of a Service as they are now.
func slicesOf(seen []*cluster.Metadata) string {
	names := make([]string, len(seen))
	for i, s := range seen {
		names[i] = s.Name + "@" + s.ResourceVersion
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (r *release) countedBefore(service string) (endpoints, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.endpoints[service]
	return e, ok
}

func (r *release) counted(e map[string]endpoints, counts bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints, r.countsEndpoints = e, counts
}

// wrote reports whether an event tells what an answer has told already.
func (k *known) wrote(s sighting) bool {
	a, known := k.answers[s.id]
	if !known {
		return false
	}
	newer, ok := cluster.Newer(s.version, a.version)
	return ok && !newer || s.fingerprint != "" && s.version == a.version
}

// lastKept is the Release as it was last read or written; known is false when it
// has to be read.
func (r *release) lastKept() (last *v1alpha1.Release, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.lastKnown
}

// keepRelease takes in the Release as it was read or written.
func (r *release) keepRelease(last *v1alpha1.Release, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.lastKnown = nil, known
	if last != nil && known {
		bare := *last
		bare.ManagedFields = nil
		if len(bare.Status.Conditions) > 0 { // which ends the intent it was made with
			bare.Annotations = maps.Clone(bare.Annotations)
			delete(bare.Annotations, v1alpha1.AnnotationIntent)
		}
		r.last = &bare
	}
}

// saw remembers a Release as we wrote it, so that its event is known.
func (r *release) saw(version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const few = 8
	r.wroteOlder = append(r.wroteOlder, version)
	r.wroteOlder = r.wroteOlder[max(0, len(r.wroteOlder)-few):]
}

// wroteRelease reports whether a version of the Release is not news.
func (k *known) wroteRelease(version string) bool {
	if slices.Contains(k.wroteOlder, version) {
		return true
	}
	if !k.lastKnown || k.last == nil {
		return false
	}
	newer, ok := cluster.Newer(version, k.last.ResourceVersion)
	return ok && !newer
}

// find is View.Find, of a view that there may not be.
func find(v *cluster.View, name string) (object *cluster.Metadata, upTo string, ok bool) {
	if v == nil {
		return nil, "", false
	}
	return v.Find(name)
}

// source is where the newest knowledge of an object is.
type source int

const (
	unknown    source = iota // it has to be read
	nowhere                  // it does not exist
	inAnswer                 // what the API server answered last
	inMetadata               // what the watch tells, which is enough
)

// newest says where the newest that is known of an object is. It has to be read
// when nothing watches it, when its content matters and may have changed, or when
// it is not as it was applied.
func newest(seen *cluster.Metadata, upTo string, ok, contentMatters bool, a answer, mark Mark) source {
	if !ok {
		return unknown
	}
	if seen != nil {
		upTo = seen.ResourceVersion
	}
	if a.version != "" {
		behind, comparable := cluster.Newer(a.version, upTo)
		same := seen != nil && seen.ResourceVersion == a.version && seen.UID == a.uid
		enough := a.object != nil && (a.whole || mark.Live == fingerprint(a.object))
		switch {
		case !comparable && !same, behind && !enough:
			return unknown
		case behind, same && enough:
			return inAnswer
		}
	}
	switch {
	case seen == nil:
		return nowhere
	case contentMatters:
		return unknown
	case mark == (Mark{}) && seen.Foreign, mark != (Mark{}) && mark.Live != fingerprint(seen):
		return unknown
	}
	return inMetadata
}

// look is an object as far as it is known without asking: nil for one that does
// not exist. sure is false when it has to be read.
func (p *pass) look(view *cluster.View, id inventory.ID) (live *unstructured.Unstructured, sure bool) {
	if !within(id, p.in.Namespace.Name, p.in.Release.Name) {
		return nil, true // a view knows one namespace, and finds by name only
	}
	seen, upTo, ok := find(view, id.Name)
	a := p.release.answered(id)
	switch newest(seen, upTo, ok, p.release.contentMatters(id.GroupKind()), a, p.in.Marks[id]) {
	case nowhere:
		return nil, true
	case inAnswer:
		return a.object, true
	case inMetadata:
		live, err := view.Object(seen)
		return live, err == nil
	}
	return nil, false
}
