package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

// expectation is what the repository says should be in the namespace, found
// out without the reconciler.
type expectation struct {
	objects  map[string]*unstructured.Unstructured // by Kind/name
	retired  map[string]bool                       // Deployments of tags that are not listed
	releases []string
	traffic  envrepo.Traffic // of api
}

// expected renders the head.
func (s *shop) expected() expectation {
	s.t.Helper()
	_, err := s.repo.Fetch(s.t.Context())
	require.NoError(s.t, err)
	snap, err := s.repo.Snapshot("HEAD")
	require.NoError(s.t, err)
	repo, err := envrepo.Open(snap)
	require.NoError(s.t, err)
	x := expectation{objects: map[string]*unstructured.Unstructured{}, retired: map[string]bool{}}
	x.releases, err = repo.ReleaseNames("production")
	require.NoError(s.t, err)
	for _, name := range x.releases {
		rel, err := repo.Release("production", name)
		require.NoError(s.t, err)
		result, err := render.Build(s.t.Context(), render.Request{FS: snap, Release: rel})
		require.NoError(s.t, err)
		if rel.Tagged() {
			x.traffic = *rel.Traffic
		}
		x.add(result.Shared, true)
		for _, tag := range result.Tags {
			_, listed := rel.Traffic.Weight(tag.Name)
			x.add(tag.Objects, listed)
		}
	}
	return x
}

func (x expectation) add(objects []*unstructured.Unstructured, listed bool) {
	for _, o := range objects {
		if !listed && o.GetKind() == "HorizontalPodAutoscaler" {
			continue // would raise what is scaled to zero
		}
		x.objects[nameOf(o)] = o
		x.retired[nameOf(o)] = !listed
	}
}

func nameOf(o *unstructured.Unstructured) string { return o.GetKind() + "/" + o.GetName() }

// converged reports whether there is a ready Release for each that the
// repository has, no other, and the namespace holds what it should; or what is amiss.
func (s *shop) converged(ctx context.Context, x expectation) (bool, string) {
	list, err := s.releases().List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err.Error()
	}
	var names, amiss []string
	for _, r := range list.Items {
		if s.strangers[nameOf(&r)] != nil {
			continue
		}
		names = append(names, r.GetName())
		conditions, _, _ := unstructured.NestedSlice(r.Object, "status", "conditions")
		for _, c := range conditions {
			if c := c.(map[string]any); c["type"] == v1alpha1.ConditionReady && c["status"] != "True" {
				amiss = append(amiss, fmt.Sprintf("%s: %v %v", r.GetName(), c["reason"], c["message"]))
			}
		}
		if len(conditions) == 0 {
			amiss = append(amiss, r.GetName()+": no conditions")
		}
	}
	slices.Sort(names)
	if want := slices.Sorted(slices.Values(x.releases)); !slices.Equal(names, want) {
		amiss = append(amiss, fmt.Sprintf("releases %v, not %v", names, want))
	}
	if len(amiss) == 0 { // all kinds of objects are many requests, and this is asked with every event
		amiss = s.differences(x)
	}
	return len(amiss) == 0, strings.Join(amiss, "\n")
}

// verify checks that what belongs to others is as it was.
func (s *shop) verify() {
	s.t.Helper()
	for name, was := range s.strangers {
		is, err := s.resource(was.GroupVersionKind()).Get(s.t.Context(), was.GetName(), metav1.GetOptions{})
		if assert.NoError(s.t, err, name) {
			assert.Equal(s.t, was.GetUID(), is.GetUID(), name)
			assert.Equal(s.t, was.GetResourceVersion(), is.GetResourceVersion(), "%s: %v", name, is.GetManagedFields())
		}
	}
}

// differences are those between what should be and all objects, of any kind,
// with our labels.
func (s *shop) differences(x expectation) []string {
	s.t.Helper()
	live := s.owned()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(live)) {
		if x.objects[name] == nil {
			out = append(out, "there is an orphan: "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.objects)) {
		want, is := x.objects[name], live[name]
		switch {
		case is == nil && want.GetKind() == "Namespace":
		case is == nil:
			out = append(out, name+" is missing")
		default:
			for _, d := range s.compare(name, want, is, x) {
				out = append(out, name+": "+d)
			}
		}
	}
	return out
}

// compare says in what an object is not as rendered. What Sluice itself decides
// is compared with traffic.yaml.
func (s *shop) compare(name string, want, is *unstructured.Unstructured, x expectation) []string {
	want = want.DeepCopy()
	unstructured.RemoveNestedField(want.Object, "metadata", "creationTimestamp")
	var out []string
	switch {
	case want.GetKind() == "HTTPRoute" && want.GetName() == "api":
		unstructured.RemoveNestedField(want.Object, "spec", "rules")
		if got, want := backends(is), shares(x.traffic); got != want {
			out = append(out, fmt.Sprintf("weights %s, not %s", got, want))
		}
	case want.GetKind() == "Service" && want.GetName() == "api":
		unstructured.RemoveNestedField(want.Object, "spec", "selector")
		got, _, _ := unstructured.NestedString(is.Object, "spec", "selector", "app.kubernetes.io/instance")
		if want := "api-" + heaviest(x.traffic); got != want {
			out = append(out, fmt.Sprintf("selects %s, not %s", got, want))
		}
	case want.GetKind() == "HorizontalPodAutoscaler":
		unstructured.RemoveNestedField(want.Object, "spec", "minReplicas") // lifted for a while after a shift
	case x.retired[name] && want.GetKind() == "Deployment":
		_ = unstructured.SetNestedField(want.Object, int64(0), "spec", "replicas")
	case want.GetKind() == "ConfigMap":
		data, _, _ := unstructured.NestedStringMap(is.Object, "data")
		declared, _, _ := unstructured.NestedStringMap(want.Object, "data")
		if !maps.Equal(data, declared) {
			out = append(out, fmt.Sprintf("data %v, not %v", data, declared))
		}
	}
	return append(out, missing("", want.Object, is.Object)...)
}

// missing lists what of want is not so in is.
func missing(at string, want, is any) []string {
	switch want := want.(type) {
	case map[string]any:
		is, _ := is.(map[string]any)
		var out []string
		for _, key := range slices.Sorted(maps.Keys(want)) {
			out = append(out, missing(at+"."+key, want[key], is[key])...)
		}
		return out
	case []any:
		is, _ := is.([]any)
		if len(is) != len(want) {
			return []string{fmt.Sprintf("%s is %v, not %v", at, is, want)}
		}
		var out []string
		for i := range want {
			out = append(out, missing(fmt.Sprintf("%s[%d]", at, i), want[i], is[i])...)
		}
		return out
	}
	if fmt.Sprint(want) != fmt.Sprint(is) {
		return []string{fmt.Sprintf("%s is %v, not %v", at, is, want)}
	}
	return nil
}

func shares(t envrepo.Traffic) string {
	var parts []string
	for _, w := range t.Weights {
		parts = append(parts, fmt.Sprintf("api-%s=%d", w.Tag, w.Percent))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func heaviest(t envrepo.Traffic) string {
	return slices.MaxFunc(t.Weights, func(a, b envrepo.Weight) int { return a.Percent - b.Percent }).Tag
}

func backends(route *unstructured.Unstructured) string {
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	var parts []string
	for _, r := range rules {
		refs, _, _ := unstructured.NestedSlice(r.(map[string]any), "backendRefs")
		for _, ref := range refs {
			ref := ref.(map[string]any)
			parts = append(parts, fmt.Sprintf("%v=%v", ref["name"], ref["weight"]))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// owned lists the objects of every kind that carry our label and are nobody
// else's, without those that the cluster's controllers make of ours.
func (s *shop) owned() map[string]*unstructured.Unstructured {
	s.t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for _, kind := range s.listable() {
		list, err := s.api.Resource(kind).Namespace(s.namespace).List(s.t.Context(), metav1.ListOptions{LabelSelector: v1alpha1.LabelRelease})
		if apierrors.IsNotFound(err) {
			continue // a kind of another test's, which has taken its definition away meanwhile
		}
		require.NoError(s.t, err)
		for _, o := range list.Items {
			if metav1.GetControllerOf(&o) == nil && s.strangers[nameOf(&o)] == nil && o.GetDeletionTimestamp() == nil {
				found[nameOf(&o)] = &o
			}
		}
	}
	return found
}

// listable are all kinds that live in namespaces but the copies of Services.
func (s *shop) listable() []schema.GroupVersionResource {
	s.t.Helper()
	lists, err := s.disco.ServerPreferredNamespacedResources()
	require.NoError(s.t, err)
	var out []schema.GroupVersionResource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(s.t, err)
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") && r.Kind != "Endpoints" && r.Kind != "EndpointSlice" && r.Kind != "Event" && r.Kind != v1alpha1.ReleaseKind {
				out = append(out, gv.WithResource(r.Name))
			}
		}
	}
	return out
}
