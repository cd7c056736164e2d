// Package inventory is what a release owns in the cluster, as a set: which
// objects it declares now, which it declared before, which therefore have to go.
// Start with Of and FromRelease.
//
// The package computes sets. It never talks to a cluster and never decides what
// may be deleted.
package inventory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// ID names an object for as long as it exists: its API version may change.
type ID struct {
	Namespace string // "" for cluster-scoped objects
	Name      string
	Group     string // "" for the core group
	Kind      string
}

// IDOf is the identity of an object.
func IDOf(object *unstructured.Unstructured) ID {
	gvk := object.GroupVersionKind()
	return ID{Namespace: object.GetNamespace(), Name: object.GetName(), Group: gvk.Group, Kind: gvk.Kind}
}

// String is the form kept in a status: namespace_name_group_kind. Namespaces,
// groups and kinds contain no underscore; names may (those of RBAC objects).
func (id ID) String() string {
	return id.Namespace + "_" + id.Name + "_" + id.Group + "_" + id.Kind
}

// Display names the object for people. The namespace is the environment's and
// goes without saying.
func (id ID) Display() string { return id.Kind + "/" + id.Name }

// GroupKind is the object's kind.
func (id ID) GroupKind() schema.GroupKind { return schema.GroupKind{Group: id.Group, Kind: id.Kind} }

// Compare orders identities by kind, then name.
func (id ID) Compare(other ID) int {
	return cmp.Or(
		cmp.Compare(id.Kind, other.Kind),
		cmp.Compare(id.Group, other.Group),
		cmp.Compare(id.Namespace, other.Namespace),
		cmp.Compare(id.Name, other.Name),
	)
}

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	namespace, rest, ok := strings.Cut(s, "_")
	kindAt := strings.LastIndexByte(rest, '_')
	if !ok || kindAt < 0 {
		return ID{}, fmt.Errorf("inventory entry %q is not namespace_name_group_kind", s)
	}
	groupAt := strings.LastIndexByte(rest[:kindAt], '_')
	if groupAt < 0 {
		return ID{}, fmt.Errorf("inventory entry %q is not namespace_name_group_kind", s)
	}
	id := ID{Namespace: namespace, Name: rest[:groupAt], Group: rest[groupAt+1 : kindAt], Kind: rest[kindAt+1:]}
	if id.Name == "" || id.Kind == "" {
		return ID{}, fmt.Errorf("inventory entry %q names no object", s)
	}
	return id, nil
}

// Set maps objects to the API version they are applied at.
type Set map[ID]string

// Of is the set of the given objects.
func Of(objects ...*unstructured.Unstructured) Set {
	s := make(Set, len(objects))
	for _, o := range objects {
		s[IDOf(o)] = o.GroupVersionKind().Version
	}
	return s
}

// FromStatus reads the inventory of a status; nil is empty. An entry that cannot
// be read is an error: whoever compares with half an inventory deletes the rest.
func FromStatus(in *v1alpha1.Inventory) (Set, error) {
	s := Set{}
	if in == nil {
		return s, nil
	}
	for _, e := range in.Entries {
		id, err := ParseID(e.ID)
		if err != nil {
			return nil, err
		}
		s[id] = e.Version
	}
	return s, nil
}

// maxIntent bounds the intent that a Release is made with, in bytes; the API
// server takes 256 KiB of annotations.
const maxIntent = 64 << 10

// Announce writes the set on a Release that is about to be made, so that what is
// created before its first report is known; false when it is too large for that.
func (s Set) Announce(release *v1alpha1.Release) bool {
	text, err := json.Marshal(s.Status())
	if err != nil || len(text) > maxIntent {
		return false
	}
	if release.Annotations == nil {
		release.Annotations = map[string]string{}
	}
	release.Annotations[v1alpha1.AnnotationIntent] = string(text)
	return true
}

// FromRelease reads the inventory of a Release: that of its status or, as long as
// it was not reported on, the one it was announced with. Errors are FromStatus's.
func FromRelease(release *v1alpha1.Release) (Set, error) {
	text := release.Annotations[v1alpha1.AnnotationIntent]
	if text == "" || release.Status.Inventory != nil || len(release.Status.Conditions) > 0 {
		return FromStatus(release.Status.Inventory)
	}
	var intent v1alpha1.Inventory
	if err := json.Unmarshal([]byte(text), &intent); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationIntent, err)
	}
	return FromStatus(&intent)
}

// Status is the set as a status keeps it, sorted; nil when it is empty.
func (s Set) Status() *v1alpha1.Inventory {
	if len(s) == 0 {
		return nil
	}
	entries := make([]v1alpha1.ResourceRef, 0, len(s))
	for id, version := range s {
		entries = append(entries, v1alpha1.ResourceRef{ID: id.String(), Version: version})
	}
	slices.SortFunc(entries, func(a, b v1alpha1.ResourceRef) int { return strings.Compare(a.ID, b.ID) })
	return &v1alpha1.Inventory{Entries: entries}
}

// Union is every object of either set; where both have it, at other's version.
func (s Set) Union(other Set) Set {
	u := make(Set, max(len(s), len(other)))
	maps.Copy(u, s)
	maps.Copy(u, other)
	return u
}

// Minus is every object of s that other lacks.
func (s Set) Minus(other Set) Set {
	d := Set{}
	for id, version := range s {
		if _, ok := other[id]; !ok {
			d[id] = version
		}
	}
	return d
}

// Covers reports whether every object of other is in s, at whatever version.
func (s Set) Covers(other Set) bool {
	for id := range other {
		if _, ok := s[id]; !ok {
			return false
		}
	}
	return true
}

// Equal reports whether both sets have the same objects at the same versions.
func (s Set) Equal(other Set) bool { return maps.Equal(s, other) }

// Sorted lists the objects by kind and name.
func (s Set) Sorted() []ID { return slices.SortedFunc(maps.Keys(s), ID.Compare) }

// Kind is the full kind of an object of the set.
func (s Set) Kind(id ID) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: id.Group, Version: s[id], Kind: id.Kind}
}

// Size is about the number of bytes that Status takes as JSON.
func (s Set) Size() int {
	const punctuation = len(`{"id":"___","v":""},`)
	n := 0
	for id, version := range s {
		n += punctuation + len(id.Namespace) + len(id.Name) + len(id.Group) + len(id.Kind) + len(version)
	}
	return n
}
