package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Metadata is what a View keeps of an object: its metadata without managedFields,
// annotations as CompactAnnotations leaves them. It must not be changed.
type Metadata struct {
	metav1.ObjectMeta
	// Foreign says that one of WatchOptions.Foreign owns fields of the object.
	Foreign bool
}

// View is the metadata of the objects of one kind in a namespace, as a watch
// tells it. Make one with Client.Watch.
//
// It is behind the cluster by as long as an event takes. Whoever has written an
// object compares resource versions to find out whether the view has come so far.
type View struct {
	event   func(*Metadata, bool)
	index   string
	foreign []string
	settled chan struct{} // closed when the first attempt has succeeded or failed
	wanted  chan struct{} // has one when somebody found the view not current

	mu       sync.RWMutex
	kind     schema.GroupVersionKind
	objects  map[string]*Metadata            // by name
	labelled map[string]map[string]*Metadata // by the index label's value, then name
	upTo     string                          // resource version up to which nothing is missing, "" before the first list
	current  bool                            // synced, and not broken off since
	strings  map[string]string
}

func newView(gvk schema.GroupVersionKind, o WatchOptions) *View {
	return &View{kind: gvk, event: o.Event, index: o.Index, foreign: o.Foreign, settled: make(chan struct{}), wanted: make(chan struct{}, 1),
		objects: map[string]*Metadata{}, labelled: map[string]map[string]*Metadata{}, strings: map[string]string{}}
}

// Kind is the kind, at the version that is watched.
func (v *View) Kind() schema.GroupVersionKind {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.kind
}

func (v *View) serveAs(gvk schema.GroupVersionKind) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kind = gvk
}

// Wait waits until the view is complete, or the first attempt to watch has
// failed, or ctx ends. Find tells which.
func (v *View) Wait(ctx context.Context) {
	select {
	case <-v.settled:
	case <-ctx.Done():
	}
}

// Synced reports whether the first list has come.
func (v *View) Synced() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.upTo != ""
}

// Settled reports whether Wait would return at once.
func (v *View) Settled() bool {
	select {
	case <-v.settled:
		return true
	default:
		return false
	}
}

// Want has a view that is not current try again soon, however long it has been
// denied. A view that is current needs nothing.
func (v *View) Want() {
	v.mu.RLock()
	current := v.current
	v.mu.RUnlock()
	if current {
		return
	}
	select {
	case v.wanted <- struct{}{}:
	default: // somebody has asked already
	}
}

// Find looks an object up; nil where there was none at resource version upTo.
// Nothing is known when ok is false: the watch has not begun, or has broken off
// and not come back yet.
func (v *View) Find(name string) (object *Metadata, upTo string, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.objects[name], v.upTo, v.current
}

// Labelled are the objects with a value of the index label; ok is as for Find.
func (v *View) Labelled(value string) (objects []*Metadata, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, m := range v.labelled[value] {
		objects = append(objects, m)
	}
	return objects, v.current
}

// Object is what is known of an object in the form in which Client.Get gives it,
// as far as it goes: metadata only.
func (v *View) Object(m *Metadata) (*unstructured.Unstructured, error) {
	meta, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&m.ObjectMeta)
	if err != nil {
		return nil, err
	}
	delete(meta, "creationTimestamp")
	o := &unstructured.Unstructured{Object: map[string]any{"metadata": meta}}
	o.SetGroupVersionKind(v.Kind())
	return o, nil
}

// Newer compares resource versions of objects of one kind; ok is false where
// they cannot be compared.
func Newer(a, b string) (newer, ok bool) {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return order > 0, err == nil
}

// Add takes an object in.
func (v *View) Add(object any) error { return v.Update(object) }

// Update takes an object in.
func (v *View) Update(object any) error {
	m, err := v.compact(object)
	if err != nil {
		return err
	}
	v.mu.Lock()
	before := v.objects[m.Name]
	v.put(m)
	v.upTo = m.ResourceVersion
	v.mu.Unlock()
	if before == nil || before.ResourceVersion != m.ResourceVersion {
		v.event(m, false)
	}
	return nil
}

// Delete takes in that an object was deleted.
func (v *View) Delete(object any) error {
	m, err := v.compact(object)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.drop(m.Name)
	v.upTo = m.ResourceVersion
	v.mu.Unlock()
	v.event(m, true)
	return nil
}

// Replace takes in all that there is.
func (v *View) Replace(list []any, resourceVersion string) error {
	now := make(map[string]*Metadata, len(list))
	for _, object := range list {
		m, err := v.compact(object)
		if err != nil {
			return err
		}
		now[m.Name] = m
	}
	v.mu.Lock()
	before := maps.Clone(v.objects)
	for name := range before {
		if now[name] == nil {
			v.drop(name)
		}
	}
	for _, m := range now {
		v.put(m)
	}
	v.upTo, v.current = resourceVersion, true
	v.settle()
	v.mu.Unlock()
	for name, m := range before {
		if now[name] == nil {
			// When it went is not known, but not before this list: at its own version
			// it was still there, as whoever wrote it knows.
			gone := *m
			gone.ResourceVersion = resourceVersion
			v.event(&gone, true)
		}
	}
	for name, m := range now {
		if b := before[name]; b == nil || b.ResourceVersion != m.ResourceVersion {
			v.event(m, false)
		}
	}
	return nil
}

// UpdateResourceVersion takes in that nothing happened up to a version.
func (v *View) UpdateResourceVersion(resourceVersion string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.upTo, v.current = resourceVersion, true
}

// Resync does nothing: what has not changed is not told again.
func (v *View) Resync() error { return nil }

func (v *View) fail() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.current = false
	v.settle()
}

// resume is for a watch that goes on at upTo.
func (v *View) resume() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.current = v.upTo != ""
}

func (v *View) settle() {
	select {
	case <-v.settled:
	default:
		close(v.settled)
	}
}

func (v *View) put(m *Metadata) {
	v.drop(m.Name)
	v.objects[m.Name] = m
	if value := m.Labels[v.index]; v.index != "" && value != "" {
		if v.labelled[value] == nil {
			v.labelled[value] = map[string]*Metadata{}
		}
		v.labelled[value][m.Name] = m
	}
}

func (v *View) drop(name string) {
	before := v.objects[name]
	if before == nil {
		return
	}
	delete(v.objects, name)
	if value := before.Labels[v.index]; v.index != "" && value != "" {
		if delete(v.labelled[value], name); len(v.labelled[value]) == 0 {
			delete(v.labelled, value)
		}
	}
}

// Bounds of the table of strings that occur again and again: names and values of
// labels mostly.
const (
	internedLength = 80
	internedCount  = 20_000
)

// interned is s, shared with all the other occurrences.
func (v *View) interned(s string) string {
	if len(s) > internedLength {
		return s
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.strings[s]; ok {
		return known
	}
	if len(v.strings) < internedCount {
		v.strings[s] = s
	}
	return s
}

func (v *View) internedMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for key, value := range m {
		out[v.interned(key)] = v.interned(value)
	}
	return out
}

// CompactAnnotations replaces values that are large, or hold the whole object, by
// their hash: nothing is decided by them but whether they have changed, and they
// may hold what is secret. It gives its own output back unchanged.
func CompactAnnotations(annotations map[string]string) map[string]string {
	var out map[string]string
	for key, value := range annotations {
		if compact := CompactAnnotation(key, value); compact != value {
			if out == nil {
				out = maps.Clone(annotations)
			}
			out[key] = compact
		}
	}
	if out == nil {
		return annotations
	}
	return out
}

// largeAnnotation is the longest value that is kept as it is, of those that are
// not ours.
const largeAnnotation = 256

const hashedPrefix = "sha256:"

// CompactAnnotation is the value as CompactAnnotations leaves it.
func CompactAnnotation(key, value string) string {
	if strings.HasPrefix(value, hashedPrefix) && len(value) <= largeAnnotation {
		return value
	}
	if key != lastApplied && (len(value) <= largeAnnotation || strings.HasPrefix(key, v1alpha1.Group+"/")) {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return hashedPrefix + hex.EncodeToString(sum[:16])
}

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
