package v1alpha1_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/deploy/crds"
)

// full is a Release with everything set.
func full() *v1alpha1.Release {
	now := metav1.NewTime(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	return &v1alpha1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: "api", Labels: map[string]string{"a": "b"}},
		Spec:       v1alpha1.ReleaseSpec{Project: "shop", Repository: "3fa9", Environment: "production", Component: "api"},
		Status: v1alpha1.ReleaseStatus{
			ObservedGeneration: 1, ObservedRevision: "r2", LastAppliedRevision: "r1", LastAppliedHash: "h",
			Attempt:    &v1alpha1.Attempt{Hash: "h", Since: now},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: now}},
			Digest:     "sha256:0",
			Tags: []v1alpha1.TagStatus{
				{Name: "blue", Digest: "sha256:1", Listed: true, Weight: 100, Ready: true},
				{Name: "green", Digest: "sha256:2", Mirror: 5, Message: "m"},
			},
			Traffic: &v1alpha1.TrafficStatus{
				Weights: []v1alpha1.TagPercent{{Tag: "blue", Percent: 100}}, Mirrors: []v1alpha1.TagPercent{{Tag: "green", Percent: 5}}, RoutedAt: &now},
			Served:    []v1alpha1.ServedDigest{{Digest: "sha256:3", Since: now, Until: now}},
			Inventory: &v1alpha1.Inventory{Entries: []v1alpha1.ResourceRef{{ID: "a_b__C", Version: "v1"}}, Before: new(int)},
			Prune:     &v1alpha1.PruneStatus{Acknowledged: "a00000000001", Hash: "h"},
			Held:      &v1alpha1.HeldStatus{Token: "a00000000001", Message: "m", Objects: 3},
			Hint:      "h",
			Summary:   v1alpha1.Summary{Digests: "d", Traffic: "t", Revision: "r"},
		},
	}
}

func TestCopiesShareNothing(t *testing.T) {
	original, changed := full(), full()
	c := original.DeepCopy()
	require.Equal(t, full(), c)
	c.Labels["a"] = "x"
	c.Status.Attempt.Hash = "x"
	*c.Status.Inventory.Before = 1
	c.Status.Conditions[0].Type = "x"
	c.Status.Tags[0].Name = "x"
	c.Status.Traffic.Weights[0].Tag, c.Status.Traffic.Mirrors[0].Tag = "x", "x"
	*c.Status.Traffic.RoutedAt = metav1.Now()
	c.Status.Inventory.Entries[0].ID = "x"
	c.Status.Served[0].Digest = "x"
	c.Status.Prune.Hash = "x"
	c.Status.Held.Token = "x"
	assert.Equal(t, changed, original)

	list := &v1alpha1.ReleaseList{Items: []v1alpha1.Release{*full()}}
	list.DeepCopy().Items[0].Status.Tags[0].Name = "x"
	assert.Equal(t, "blue", list.Items[0].Status.Tags[0].Name)
	assert.Nil(t, (*v1alpha1.Release)(nil).DeepCopyObject())
}

func TestScheme(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	kinds, _, err := scheme.ObjectKinds(full())
	require.NoError(t, err)
	assert.Equal(t, "sluice.dev/v1alpha1, Kind=Release", kinds[0].String())
}

func TestReadersOfTheStatus(t *testing.T) {
	r := full()
	assert.True(t, r.Ready())
	assert.Equal(t, metav1.ConditionTrue, r.Condition(v1alpha1.ConditionReady).Status)
	assert.Empty(t, r.Condition(v1alpha1.ConditionStalled))
	assert.Equal(t, []string{"sha256:0", "sha256:1"}, r.Digests(), "green is not listed and has no weight")
}

// The CRD is written by hand: every field of the types must be in its schema,
// or the API server drops it, and nothing else may be.
func TestCRDMatchesTheTypes(t *testing.T) {
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	require.NoError(t, yaml.Unmarshal(crds.Release, &crd))
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	compare(t, "spec", reflect.TypeOf(v1alpha1.ReleaseSpec{}), property(schema, "spec"))
	compare(t, "status", reflect.TypeOf(v1alpha1.ReleaseStatus{}), property(schema, "status"))
}

func property(schema map[string]any, name string) map[string]any {
	properties, _ := schema["properties"].(map[string]any)
	p, _ := properties[name].(map[string]any)
	return p
}

func compare(t *testing.T, path string, kind reflect.Type, schema map[string]any) {
	t.Helper()
	switch {
	case kind.Kind() == reflect.Pointer:
		compare(t, path, kind.Elem(), schema)
		return
	case kind.Kind() == reflect.Slice:
		items, _ := schema["items"].(map[string]any)
		assert.Equal(t, "array", schema["type"], path)
		compare(t, path+"[]", kind.Elem(), items)
		return
	case kind == reflect.TypeOf(metav1.Time{}):
		assert.Equal(t, "date-time", schema["format"], path)
		return
	case kind.Kind() != reflect.Struct:
		want := map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer", reflect.Int64: "integer", reflect.Bool: "boolean"}[kind.Kind()]
		assert.Equal(t, want, schema["type"], path)
		return
	}
	properties, _ := schema["properties"].(map[string]any)
	fields := map[string]bool{}
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		fields[name] = true
		if assert.Contains(t, properties, name, path) {
			compare(t, path+"."+name, kind.Field(i).Type, property(schema, name))
		}
	}
	for name := range properties {
		assert.True(t, fields[name], "%s.%s is in the schema only", path, name)
	}
}
